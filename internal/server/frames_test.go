package server

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/ffmpeg"
	"github.com/lipstream/lipstream/internal/queue"
)

// encoded makes a job whose result is a video by ffmpeg. It returns the frames as
// RGB24.
func (r *rig) encoded(name string, frames int, args ...string) (id, path string, want []byte) {
	r.t.Helper()
	j := r.submit()
	l := r.take()
	path = filepath.Join(r.t.TempDir(), name)
	tool, err := ffmpeg.Find("ffmpeg")
	r.check(err)
	run := func(args ...string) []byte {
		out, err := exec.CommandContext(r.t.Context(), tool.Path, append([]string{"-v", "error", "-nostdin"}, args...)...).Output()
		r.check(err)
		return out
	}
	run(append(append([]string{"-f", "lavfi", "-i", "testsrc2=size=130x98:rate=30000/1001"}, args...), "-frames:v", fmt.Sprint(frames), path)...)
	want = run("-i", path, "-vf", "scale=flags=bicubic+accurate_rnd+full_chroma_int:in_color_matrix=bt709:in_range=tv,format=gbrp,scale=flags=bicubic+accurate_rnd+full_chroma_int,format=rgb24",
		"-map", "0:v", "-vsync", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
	b, err := os.ReadFile(path)
	r.check(err)
	object := "jobs/" + j.ID + "/result" + filepath.Ext(name)
	err = r.s.o.Store.Put(r.t.Context(), object, bytes.NewReader(b))
	r.check(err)
	r.check(l.Done(r.t.Context(), queue.Result{Object: object, Name: name, Size: int64(len(b)), Frames: int64(frames), Engine: "preview"}))
	return j.ID, r.s.o.Store.Path(object), want
}

// TestFrames reads ranges of a result's frames from several containers and codecs.
func TestFrames(t *testing.T) {
	r := newRig(t, nil)
	const frames, one = 70, 130 * 98 * 3
	tags := []string{"-colorspace", "bt709", "-color_range", "tv"}
	for name, args := range map[string][]string{
		"exact.mkv": {"-c:v", "ffv1", "-pix_fmt", "yuv444p10le"},
		"sound.mkv": {"-f", "lavfi", "-i", "sine=duration=2", "-c:v", "ffv1", "-pix_fmt", "yuv420p", "-c:a", "aac"}, // begins 21 ms late
		"usual.mp4": {"-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "25", "-bf", "3"},
		"web.webm":  {"-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p", "-deadline", "realtime", "-cpu-used", "8"},
		"deep.mov":  {"-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-preset", "ultrafast", "-x265-params", "log-level=none"},
	} {
		if testing.Short() && name != "sound.mkv" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			id, _, want := r.encoded(name, frames, append(args, tags...)...)
			path := "/v1/jobs/" + id + "/frames"
			for query, rows := range map[string][2]int{"": {0, 70}, "?first=1": {1, 70}, "?first=33&count=2": {33, 35}, "?first=69": {69, 70}, "?count=1": {0, 1}, "?first=70": {70, 70}, "?first=7&count=0": {7, 70}} {
				a, got := r.get("GET", path+query, "")
				if a.StatusCode != 200 || got != string(want[rows[0]*one:rows[1]*one]) {
					t.Errorf("%s: %d, %d bytes, want %d", query, a.StatusCode, len(got), (rows[1]-rows[0])*one)
				}
				if h := a.Header; h.Get("Lipstream-Width")+"x"+h.Get("Lipstream-Height")+" "+h.Get("Lipstream-Frames")+" "+h.Get("Lipstream-Fps") != "130x98 70 30000/1001" {
					t.Errorf("%v", h)
				}
			}
		})
	}
}

// TestFramesRefused checks that requests that cannot be answered in full get an error.
func TestFramesRefused(t *testing.T) {
	r := newRig(t, nil)
	waiting := r.submit()
	r.status(409, "GET", "/v1/jobs/"+waiting.ID+"/frames", "")
	r.status(404, "GET", "/v1/jobs/none/frames", "")
	r.take()
	id, file, _ := r.encoded("a.mkv", 30, "-c:v", "ffv1", "-pix_fmt", "yuv420p")
	path := "/v1/jobs/" + id + "/frames"
	for _, query := range []string{"?first=31", "?first=-1", "?first=x", "?first=10&count=21", "?count=31"} {
		r.status(400, "GET", path+query, "")
	}
	if a, _ := r.get("HEAD", path+"?first=10", ""); a.StatusCode != 200 || a.ContentLength != 20*130*98*3 || len(r.s.decoders) != 0 {
		t.Errorf("HEAD: %d, %d bytes", a.StatusCode, a.ContentLength)
	}
	// Half of the file is not mistaken for all of it.
	b, err := os.ReadFile(file)
	r.check(err)
	r.check(os.WriteFile(file, b[:len(b)/2], 0o600))
	a, err := http.Get(r.web.URL + path)
	r.check(err)
	if n, err := io.Copy(io.Discard, a.Body); err == nil {
		t.Errorf("half of the file gives %d bytes and no error", n)
	}
	_ = a.Body.Close()
	r.check(os.WriteFile(file, nil, 0o600))
	if text := r.status(422, "GET", path, ""); !strings.Contains(text, "a.mkv") || strings.Contains(text, r.dir) {
		t.Error(text)
	}
	r.check(os.Remove(file))
	if text := r.status(410, "GET", path, ""); !strings.Contains(text, "a.mkv is no longer kept") {
		t.Error(text)
	}
}

// TestFramesSlow checks that clients that read nothing block others only until their
// time is over, and that they leave no ffmpeg behind.
func TestFramesSlow(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts nine processes of ffmpeg")
	}
	r := newRig(t, nil)
	r.s.decoderWait = time.Millisecond
	id, _, _ := r.encoded("a.mkv", 3, "-c:v", "ffv1", "-pix_fmt", "yuv420p")
	path := "/v1/jobs/" + id + "/frames"
	var slow []*stalled
	for range decoders {
		c := r.stall(path)
		if line, err := bufio.NewReader(c.client).ReadString('\n'); err != nil || line != "HTTP/1.1 200 OK\r\n" {
			t.Fatalf("%q, %v", line, err)
		}
		slow = append(slow, c)
	}
	if a, _ := r.get("GET", path+"?count=1", ""); a.StatusCode != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	for _, c := range slow {
		c.expire(t)
	}
	r.until(func() bool { return len(r.s.decoders) == 0 })
	r.status(200, "GET", path+"?count=1", "")
}
