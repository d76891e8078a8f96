package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/client"
	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/internal/store/storetest"
)

// TestS3 keeps media in a real S3 server: a job in parts on two workers, while the server
// is away for a moment.
func TestS3(t *testing.T) {
	needLong(t)
	dir := t.TempDir()
	s3 := storetest.NewS3(t)
	for name, value := range storetest.Credentials {
		t.Setenv(name, value) // for the daemons
	}
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("a-token-for-the-s3-test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := []string{"serve", "--listen", "127.0.0.1:0", "--workers-listen", "127.0.0.1:0", "--token-file", token, "--data", filepath.Join(dir, "data"), "--slots", "0", "--media"}
	d := startDaemon(t, dir, append(serve, s3.URL("e2e"))...)
	var workers []*daemon
	for n := range 2 {
		workers = append(workers, startDaemon(t, dir, "worker", "--server", d.address("nats://"), "--token-file", token, "--data", filepath.Join(dir, fmt.Sprint("worker", n)), "--slots", "1"))
	}
	c := &client.Client{Server: d.address("http://"), Token: "a-token-for-the-s3-test"}
	// Larger than a part of an upload to S3 (16 MB).
	if err := ffmpeg(dir, "-stream_loop", "2", "-i", in("head.mp4"), "-c:v", "rawvideo", "-pix_fmt", "yuv420p", "-t", "6", "six.avi"); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(dir, "six.avi")); err != nil || st.Size() <= 16<<20 {
		t.Fatalf("the input is too small: %+v, %v", st, err)
	}
	lipstreamCommand(t, dir, "run", "--video", "six.avi", "--audio", in("two.wav"), "-o", "direct.mkv", "--codec", "ffv1", "--engine", "preview", "-q")
	var spec queue.Spec
	for path, to := range map[string]*queue.Source{filepath.Join(dir, "six.avi"): &spec.Video, in("two.wav"): &spec.Audio} {
		id, err := c.Upload(t.Context(), path, nil)
		if err != nil {
			t.Fatal(err)
		}
		to.Upload = id
	}
	spec.Name, spec.Split, spec.Settings = "out.mkv", 1.5, lipstream.Settings{Codec: "ffv1", Engine: "preview"}
	j, err := c.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	until(t, c, j.ID, "split", func(j client.Job) bool { return len(j.Tasks) > 2 && j.Progress != nil && j.Progress.Frame > 0 })
	s3.Stop()
	s3.Start()
	done := until(t, c, j.ID, "done", func(j client.Job) bool { return j.State == queue.Done })
	path := filepath.Join(dir, "out.mkv")
	if err := c.Fetch(t.Context(), j.ID, path, false); err != nil {
		t.Fatal(err)
	}
	if db := leastPSNR(t, filepath.Join(dir, "direct.mkv"), path); db < 40 || done.Result.Frames != 150 {
		t.Errorf("%d frames, %.1f dB from those of one run", done.Result.Frames, db)
	}
	if err := c.Delete(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	for _, x := range append(workers, d) {
		x.signal(syscall.SIGTERM)
		if x.err != nil {
			t.Errorf("%v\n%s", x.err, x.stderr)
		}
	}
	if out := failing(t, dir, append(serve, strings.Replace(s3.URL(""), storetest.Bucket, "other", 1))...); !strings.Contains(out, "the bucket does not exist") {
		t.Error(out)
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	if out := failing(t, dir, append(serve, s3.URL(""))...); !strings.Contains(out, "AWS_SECRET_ACCESS_KEY") {
		t.Error(out)
	}
}
