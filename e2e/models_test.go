package e2e_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// models runs lipstream models with a cache of its own below dir.
func models(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"models"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CACHE_HOME="+filepath.Join(dir, "cache"), "LocalAppData="+filepath.Join(dir, "cache"))
	return cmd
}

// modelsFails runs a command that has to fail with an exit code and a message.
func modelsFails(t *testing.T, dir string, code int, message string, args ...string) {
	t.Helper()
	out, err := models(t, dir, args...).CombinedOutput()
	if got, _ := exitOf(err); got != code || !strings.Contains(string(out), message) {
		t.Errorf("%v: exit code %d, want %d; %q lacks %q", args, got, code, out, message)
	}
}

func synthModels(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := models(t, dir, "synth", "--size", "tiny", "--dir", "m").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

func TestModelsBadFiles(t *testing.T) {
	dir := synthModels(t)
	// A pickle that would run a program.
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range map[string]string{
		"archive/data.pkl": "\x80\x02cos\nsystem\n(X\x0c\x00\x00\x00touch pwned!tR.", "archive/version": "3\n", "archive/byteorder": "little",
	} {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "evil.pt"), b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	modelsFails(t, dir, 3, "refuses to call os.system", "check", "evil.pt")
	modelsFails(t, dir, 3, "refuses to call os.system", "prepare", "evil.pt")
	if _, err := os.Stat(filepath.Join(dir, "pwned!")); err == nil {
		t.Error("the file's program ran")
	}
	// NaN and a wrong shape, in a format whose numbers are easily found.
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
	dir := t.TempDir()
	answer := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusNotFound) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/mirror/ByteDance/LatentSync-1.5/resolve/main/") || r.Header.Get("Authorization") != "" {
			t.Errorf("asked for %s with %v", r.URL.Path, r.Header)
		}
		answer(w, r)
	}))
	defer server.Close()
	t.Setenv("HF_TOKEN", "secret")
	t.Setenv("LIPSTREAM_MODELS_URL", server.URL+"/mirror")
	modelsFails(t, dir, 5, "the server answers 404", "pull", "1.5", "--dir", "m")
	answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>Sign in") }
	modelsFails(t, dir, 3, "a web page instead of the file", "pull", "1.5", "--dir", "m")
	answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "short") }
	modelsFails(t, dir, 3, "has 5 bytes, and the published one has 5072348184", "pull", "1.5", "--dir", "m")
	if runtime.GOOS == "windows" {
		return // no interrupts to be sent there
	}
	// Interrupted in the middle: what came stays.
	answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Length", "5072348184")
		for r.Context().Err() == nil {
			_, _ = w.Write(make([]byte, 10_000))
			w.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	}
	cmd := models(t, dir, "pull", "1.5", "--dir", "m")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(dir, "m", "latentsync-1.5", "latentsync_unet.pt.part")
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if st, err := os.Stat(part); err == nil && st.Size() > 50_000 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("nothing is downloaded")
		}
	}
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
