package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPaths runs a job with inputs and output in folders whose names have spaces, other
// alphabets and characters that mean something to ffmpeg or a shell, and in one whose
// path is longer than the 260 characters that Windows once allowed.
func TestPaths(t *testing.T) {
	t.Parallel()
	needRuntime(t)
	for name, folder := range map[string]string{
		"spaces":    "two words ",
		"non-ASCII": "Grüße 口型同期",
		"percent":   "100%d & 50% ^'#",
		"long":      filepath.Join(strings.Repeat("a", 100), strings.Repeat("b", 100), strings.Repeat("c", 100)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			dir := filepath.Join(base, folder+"x")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			for _, input := range []string{"head.mp4", "short.wav"} {
				data, err := os.ReadFile(in(input))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, input), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			out := filepath.Join(dir, "out.mp4")
			lipstreamCommand(t, base, "run", "--video", filepath.Join(dir, "head.mp4"), "--audio", filepath.Join(dir, "short.wav"), "-o", out, "--engine", "preview", "--length", "shortest", "-q")
			data, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			plain := filepath.Join(base, "out.mp4") // for an ffmpeg that cannot open the path
			if err := os.WriteFile(plain, data, 0o600); err != nil {
				t.Fatal(err)
			}
			m, err := probe(plain)
			if err != nil {
				t.Fatal(err)
			}
			if facts := m.facts(); facts["frames"] != "10" || facts["audio"] == "" {
				t.Errorf("%v", facts)
			}
		})
	}
}

// TestSecondServer starts a server on the folder of another.
func TestSecondServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	serve := []string{"serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data")}
	startDaemon(t, dir, serve...)
	cmd := exec.Command(binary, serve...)
	cmd.Dir, cmd.Env = dir, environment(dir, newMark())
	commandFails(t, cmd, 6, "another")
}
