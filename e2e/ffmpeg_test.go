package e2e_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	programs "github.com/lipstream/lipstream/internal/ffmpeg"
)

// TestInstallFFmpeg asks a mirror for the package of ffmpeg. It gets none, then another
// file: the real one is too large for a test.
func TestInstallFFmpeg(t *testing.T) {
	dir := t.TempDir()
	answer, asked := http.StatusNotFound, ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Path
		w.WriteHeader(answer)
		_, _ = w.Write([]byte("another file"))
	}))
	defer server.Close()
	install := func(args ...string) *exec.Cmd {
		cmd := exec.Command(binary, append([]string{"runtime", "install", "ffmpeg"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(environment(dir, ""), "LIPSTREAM_FFMPEG_MIRROR="+server.URL+"/mirror/")
		return cmd
	}
	commandFails(t, install(), 5, "--from FILE")
	if !strings.HasPrefix(asked, "/mirror/ffmpeg-") || !strings.HasSuffix(asked, "-gpl.jar") {
		t.Errorf("asked for %s", asked)
	}
	answer = http.StatusOK
	commandFails(t, install(), 3, server.URL)
	if err := os.WriteFile(filepath.Join(dir, "x.jar"), []byte("another file"), 0o600); err != nil {
		t.Fatal(err)
	}
	commandFails(t, install("--from", "x.jar"), 3, "check x.jar: its SHA-256 is")
	if left, err := filepath.Glob(filepath.Join(dir, ".cache", "lipstream", "runtimes", "[^.]*")); err != nil || len(left) > 0 {
		t.Errorf("left %q, %v", left, err)
	}
}

// TestInstalledFFmpeg runs a job with ffmpeg where Install puts it, with an empty PATH, in
// a folder with another program called ffmpeg.
func TestInstalledFFmpeg(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the cache folder is that of Linux")
	}
	dir := t.TempDir()
	installed := filepath.Join(dir, ".cache", "lipstream", "runtimes", "ffmpeg-"+programs.Version())
	if err := os.MkdirAll(installed, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ffmpeg", "ffprobe"} {
		path, err := exec.LookPath(name)
		if err == nil {
			err = os.Symlink(path, filepath.Join(installed, name))
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho run by mistake >&2\nexit 1\n"), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	lipstream := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(binary, args...)
		cmd.Dir = dir
		cmd.Env = append(environment(dir, ""), "PATH=.")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	program := filepath.Join(installed, "ffmpeg")
	for command, want := range map[string]string{
		"runtime list":        "installed by Lipstream  " + program,
		"runtime path ffmpeg": program,
		"doctor":              program + " (installed by Lipstream)",
	} {
		if out := lipstream(strings.Fields(command)...); !strings.Contains(out, want) {
			t.Errorf("%s lacks %q:\n%s", command, want, out)
		}
	}
	lipstream("run", "--video", in("head.mp4"), "--audio", in("one.wav"), "-o", "out.mp4")
	if _, err := os.Stat(filepath.Join(dir, "out.mp4")); err != nil {
		t.Error(err)
	}
}
