package ffmpeg

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
)

// clean hides this machine's programs and installations, and returns the folder in PATH.
func clean(t *testing.T) string {
	t.Helper()
	for _, variable := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData", "PATH"} {
		t.Setenv(variable, t.TempDir())
	}
	for _, variable := range []string{EnvFFmpeg, EnvFFprobe, MirrorVariable} {
		t.Setenv(variable, "")
	}
	return os.Getenv("PATH")
}

// fileName returns the name of a program's file.
func fileName(name string) string {
	if runtime.GOOS == "windows" {
		return name + ".exe"
	}
	return name
}

// fake makes a program in dir that cannot be run, until the end of the test.
func fake(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, fileName(name))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(path) })
	return path
}

// TestFind adds programs from the last place that is searched to the first.
func TestFind(t *testing.T) {
	bin := clean(t)
	check := func(want, source string) {
		t.Helper()
		if got, err := Find("ffmpeg"); err != nil || got != (Program{want, source}) {
			t.Errorf("got %+v, %v, want %s from %s", got, err, want, source)
		}
	}
	if _, err := Find("ffmpeg"); fault.KindOf(err) != fault.Missing || !strings.Contains(fault.HintOf(err), "lipstream runtime install ffmpeg") {
		t.Errorf("without any: %v, hint %q", err, fault.HintOf(err))
	}
	check(fake(t, bin, "ffmpeg"), "PATH")

	_, a, err := build()
	if err != nil {
		t.Skip(err)
	}
	dir, err := a.Dir()
	if err != nil {
		t.Fatal(err)
	}
	check(fake(t, dir, "ffmpeg"), "installed by Lipstream")

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	check(fake(t, filepath.Dir(self), "ffmpeg"), "beside Lipstream")

	t.Setenv(EnvFFmpeg, fake(t, t.TempDir(), "mine"))
	check(os.Getenv(EnvFFmpeg), EnvFFmpeg)
	t.Setenv(EnvFFmpeg, "other")
	if _, err := Find("ffmpeg"); fault.KindOf(err) != fault.Missing || !strings.Contains(fault.HintOf(err), "unset it") {
		t.Errorf("a name that is not on PATH: %v, hint %q", err, fault.HintOf(err))
	}
	check(fake(t, bin, "other"), EnvFFmpeg)
}

// TestFindSkipsCurrentFolder: a program in the current folder is not run, and does not
// hide the one on PATH.
func TestFindSkipsCurrentFolder(t *testing.T) {
	bin := clean(t)
	here := t.TempDir()
	t.Chdir(here)
	fake(t, here, "ffprobe")
	fake(t, filepath.Join(here, "sub"), "ffprobe")
	list := string(filepath.ListSeparator)
	for _, path := range []string{bin, "", "." + list + bin, list + bin, "sub" + list + bin} {
		t.Setenv("PATH", path)
		if got, err := Find("ffprobe"); err == nil {
			t.Errorf("PATH=%s: %+v", path, got)
		}
	}
	want := fake(t, bin, "ffprobe")
	for _, path := range []string{bin, "." + list + bin, list + bin, "sub" + list + bin} {
		t.Setenv("PATH", path)
		if got, err := Find("ffprobe"); err != nil || got.Path != want {
			t.Errorf("PATH=%s: %+v, %v", path, got, err)
		}
	}
	// The user may name it by a relative path.
	t.Setenv(EnvFFprobe, filepath.Join("sub", "ffprobe"))
	got, err := Find("ffprobe")
	if err != nil || !filepath.IsAbs(got.Path) || filepath.Base(filepath.Dir(got.Path)) != "sub" {
		t.Errorf("a relative path: %+v, %v", got, err)
	}
}

func TestFoldersOnMacOS(t *testing.T) {
	if got := folders("darwin", []string{"/usr/bin"}); len(got) != 4 || got[0] != "/usr/bin" || got[1] != "/opt/homebrew/bin" {
		t.Errorf("on macOS: %q", got)
	}
	if got := folders("linux", []string{"/usr/bin"}); len(got) != 1 {
		t.Errorf("on Linux: %q", got)
	}
}
