package archive

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
)

// stage makes an archive with two files in a new folder, and hides this machine's
// installations.
func stage(t *testing.T) (a Archive, path string) {
	t.Helper()
	for _, variable := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} {
		t.Setenv(variable, t.TempDir())
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range []string{"a/program", "a/readme"} {
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write([]byte("of " + name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "x.zip")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b.Bytes())
	return Archive{Project: "x", Version: "1", SHA256: hex.EncodeToString(sum[:]), Size: int64(b.Len()), Keep: []string{"a/pro*"}, Mode: 0o700, Hint: "get x"}, path
}

func TestInstall(t *testing.T) {
	a, path := stage(t)
	var progress Progress
	progress.Defaults()
	install := func(finished error) error {
		return a.Install(t.Context(), progress, func(string) (string, error) { return path, nil }, func(dir string) error {
			if text, err := os.ReadFile(filepath.Join(dir, "program")); err != nil || string(text) != "of a/program" {
				t.Errorf("%q, %v", text, err)
			}
			return finished
		})
	}
	dir, err := a.Dir()
	if err != nil {
		t.Fatal(err)
	}
	// An error at the end leaves nothing.
	refused := errors.New("refused")
	if err := install(refused); !errors.Is(err, refused) || a.Installed(t.Context()) {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if err := install(nil); err != nil || !a.Installed(t.Context()) {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "program")
	if st, err := os.Stat(program); err != nil || st.Mode().Perm() != 0o700 && runtime.GOOS != "windows" {
		t.Errorf("%v, %v", st, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "readme")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that was not wanted: %v", err)
	}
	// A damaged installation is none, and a failed one does not replace it.
	if err := os.WriteFile(program, []byte("damaged"), 0o700); err != nil {
		t.Fatal(err)
	}
	if a.Installed(t.Context()) {
		t.Error("a damaged installation counts")
	}
	if err := install(refused); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(program); err != nil || string(text) != "damaged" {
		t.Errorf("%q, %v", text, err)
	}
	if err := install(nil); err != nil || !a.Installed(t.Context()) {
		t.Errorf("not repaired: %v", err)
	}
	a.SHA256 = hex.EncodeToString(make([]byte, sha256.Size))
	if err := install(nil); fault.KindOf(err) != fault.Input || fault.HintOf(err) != "get x" {
		t.Errorf("another sum: %v, hint %q", err, fault.HintOf(err))
	}
	if a.Installed(t.Context()) {
		t.Error("another archive counts as installed")
	}
}

// TestReplaceFails: the old installation stays.
func TestReplaceFails(t *testing.T) {
	a, _ := stage(t)
	dir, err := a.Dir()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("old"), 0o700); err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	if err := a.replace(t.Context(), filepath.Join(work, "none"), dir, work); fault.KindOf(err) != fault.Output || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(program); err != nil || string(text) != "old" {
		t.Errorf("%q, %v", text, err)
	}
	// Without an old one, the error is that of the new one.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := a.replace(t.Context(), filepath.Join(work, "none"), dir, work); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestFetchMoves: a download that cannot be moved is kept for the next attempt.
func TestFetchMoves(t *testing.T) {
	a, source := stage(t)
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		http.ServeFile(w, r, source)
	}))
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	var progress Progress
	progress.Defaults()
	root, err := Root()
	if err == nil {
		err = os.MkdirAll(root, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	if path, err := a.Fetch(t.Context(), at, "x.zip", filepath.Join(source, "no folder"), progress); fault.KindOf(err) != fault.Output || path != "" {
		t.Errorf("%q, %v", path, err)
	}
	path, err := a.Fetch(t.Context(), at, "x.zip", filepath.Join(root, "new"), progress)
	if err != nil || requests != 1 {
		t.Fatalf("%d requests, %v", requests, err)
	}
	if sum, err := hashFile(t.Context(), path); err != nil || sum != a.SHA256 {
		t.Errorf("sum %s, %v", sum, err)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestGiven(t *testing.T) {
	a, path := stage(t)
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "other"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{path, filepath.Dir(path)} {
		if given, err := Given(t.Context(), from, ".zip"); err != nil || len(given) != 1 || given[a.SHA256] != path {
			t.Errorf("%s: %v, %v", from, given, err)
		}
	}
}

func TestTarget(t *testing.T) {
	for name, want := range map[string]string{
		"a/b/libx.so":                     "libx.so",
		"../../libx.so":                   "libx.so",
		"x.dist-info/licenses/NOTICE":     "licenses/NOTICE",
		"onnxruntime/ThirdPartyNotices.t": "licenses/ThirdPartyNotices.t",
		"a/..":                            "",
		`a/..\x`:                          "",
		"a/c:x":                           "",
		"":                                "",
	} {
		got, err := target(name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("target(%q) = %q, %v", name, got, err)
		}
	}
}
