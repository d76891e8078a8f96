package e2e_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// models returns the command lipstream models with its own cache below dir.
func models(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"models"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CACHE_HOME="+filepath.Join(dir, "cache"), "LocalAppData="+filepath.Join(dir, "cache"))
	return cmd
}

// modelsFails runs lipstream models, which has to fail with the exit code and message.
func modelsFails(t *testing.T, dir string, code int, message string, args ...string) {
	t.Helper()
	commandFails(t, models(t, dir, args...), code, message)
}

func commandFails(t *testing.T, cmd *exec.Cmd, code int, message string) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if got, _ := exitOf(err); got != code || !strings.Contains(string(out), message) {
		t.Errorf("%v: exit code %d, want %d; %q lacks %q", cmd.Args[1:], got, code, out, message)
	}
}

// synthModels creates a random checkpoint in the folder m below a new folder.
func synthModels(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if out, err := models(t, dir, "synth", "--size", "tiny", "--dir", "m").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// tinyModels returns a folder with random checkpoints of an engine, shared by the tests
// that only read it. Of the preview, which has none, it is "".
func tinyModels(t *testing.T, engine string) string {
	t.Helper()
	synth := sharedModels[engine]
	if synth == nil {
		return ""
	}
	dir, err := synth()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var sharedModels = map[string]func() (string, error){"latentsync": synthOnce("latentsync"), "musetalk": synthOnce("musetalk")}

func synthOnce(engine string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		dir := filepath.Join(inputs, "models", engine)
		out, err := exec.Command(binary, "models", "synth", "--engine", engine, "--size", "tiny", "--with", "taesd", "--dir", dir).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%w: %s", err, out)
		}
		return dir, nil
	})
}

func TestModelsBadFiles(t *testing.T) {
	t.Parallel()
	dir := synthModels(t)
	if err := writeEvil(filepath.Join(dir, "evil.pt")); err != nil {
		t.Fatal(err)
	}
	modelsFails(t, dir, 3, "refuses to call os.system", "check", "evil.pt")
	modelsFails(t, dir, 3, "refuses to call os.system", "prepare", "evil.pt")
	if _, err := os.Stat(filepath.Join(dir, "pwned")); err == nil {
		t.Error("the program in the file ran")
	}
	// NaN and a wrong shape, in a format that is easy to edit.
	vae := filepath.Join(dir, "m", "vae", "diffusion_pytorch_model.safetensors")
	good, err := os.ReadFile(vae)
	if err != nil {
		t.Fatal(err)
	}
	nan := bytes.Clone(good)
	copy(nan[len(nan)-4:], "\x00\x00\xc0\x7f")
	if err := os.WriteFile(vae, nan, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := models(t, dir, "check", "m").CombinedOutput(); err != nil {
		t.Errorf("without --deep: %v: %s", err, out)
	}
	modelsFails(t, dir, 3, "1 values that are not finite", "check", "m", "--deep")
	modelsFails(t, dir, 3, "1 values that are not finite", "prepare", vae)
	shape := bytes.Replace(good, []byte("[32,3,3,3]"), []byte("[3,32,3,3]"), 1)
	if err := os.WriteFile(vae, shape, 0o600); err != nil {
		t.Fatal(err)
	}
	modelsFails(t, dir, 3, "encoder.conv_in.weight [3 32 3 3] instead of [32 3 3 3]", "check", vae)
}

func TestModelsPull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	answer := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusNotFound) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/mirror/ByteDance/LatentSync-1.5/resolve/main/") || r.Header.Get("Authorization") != "" {
			t.Errorf("asked for %s with %v", r.URL.Path, r.Header)
		}
		answer(w, r)
	}))
	defer server.Close()
	// The token is for Hugging Face alone: a mirror must not see it.
	env := []string{"HF_TOKEN=secret", "LIPSTREAM_MODELS_URL=" + server.URL + "/mirror"}
	refused := func(code int, message string) {
		t.Helper()
		cmd := models(t, dir, "pull", "1.5", "--dir", "m")
		cmd.Env = append(cmd.Env, env...)
		commandFails(t, cmd, code, message)
	}
	refused(5, "the server answers 404")
	answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>Sign in") }
	refused(3, "an HTML page instead of the file")
	answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "short") }
	refused(3, "has 5 bytes, and the published one has 5072348184")
	if runtime.GOOS == "windows" {
		return // a process cannot be interrupted there
	}
	// Interrupted in the middle: the part that has arrived stays.
	answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Length", "5072348184")
		_, _ = w.Write(make([]byte, 4<<20))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	cmd := models(t, dir, "pull", "1.5", "--dir", "m")
	cmd.Env = append(cmd.Env, env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(dir, "m", "latentsync-1.5", "latentsync_unet.pt.part")
	waitUntil(t, func() bool {
		st, err := os.Stat(part)
		return err == nil && st.Size() > 50_000
	})
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code, _ := exitOf(cmd.Wait()); code != 130 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(part); err != nil {
		t.Error(err)
	}
}
