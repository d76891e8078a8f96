package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/restorer/restorertest"
)

// TestMaskOnServer makes a job on a server with an uploaded mask, and with a restoration
// network that the operator has put beside the checkpoints: the frames are those of the
// command line.
func TestMaskOnServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	restore := filepath.Join(dir, ".cache", "lipstream", "models", "restore")
	if err := os.MkdirAll(restore, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(restore, "green.onnx"), restorertest.Shift([3]float32{-0.3, 0.3, -0.3}, 1, 512), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ffmpeg(dir, strings.Fields(`-f lavfi -i color=black:s=320x240,format=gray,geq=lum=255*lt(X\,160) -frames:v 1 mask.png`)...); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, dir, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--slots", "1")
	job := []string{"--video", in("head.mp4"), "--audio", in("short.wav"), "--mask", "mask.png", "--restore", "green", "--engine", "preview", "--codec", "ffv1", "--end", "0.4", "-q"}
	lipstreamCommand(t, dir, slices.Concat([]string{"run", "-o", "direct.mkv"}, job)...)
	lipstreamCommand(t, dir, slices.Concat([]string{"submit", "--server=" + d.address("http://"), "-o", "queued.mkv"}, job)...)
	direct, queued := filepath.Join(dir, "direct.mkv"), filepath.Join(dir, "queued.mkv")
	if a, b := frameSums(t, direct), frameSums(t, queued); len(a) != 10 || !slices.Equal(a, b) {
		t.Errorf("run made %v, the server %v", a, b)
	}
	half := func(path, x string) string {
		out, err := exec.Command("ffmpeg", "-v", "error", "-i", path, "-map", "0:v", "-vf", "trim=end_frame=10,crop=160:240:"+x+":0", "-f", "md5", "-").Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if half(queued, "160") != half(in("head.mp4"), "160") {
		t.Error("the half in which the mask is black has changed")
	}
	if half(queued, "0") == half(in("head.mp4"), "0") {
		t.Error("the other half has not changed")
	}
}
