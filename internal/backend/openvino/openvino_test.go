package openvino

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/stub"
)

// open opens the installed library for a test.
func open(t *testing.T) *Backend {
	t.Helper()
	b, err := Open(t.Context(), backendtest.Library(t, Name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func openBackend(t *testing.T) backend.Backend { return open(t) }

func TestConformance(t *testing.T) {
	backendtest.Library(t, Name) // or skip
	backendtest.Run(t, openBackend)
}

// source is the source of a library of a given version without other functions.
const source = `
typedef struct { const char *build, *description; } version;
int ov_get_openvino_version(version *v) { v->build = "%s"; v->description = ""; return %d; }
void ov_version_free(version *v) { v->build = 0; }
`

func TestOpenStub(t *testing.T) {
	for _, c := range []struct {
		name, version string
		status        int
		want          string
	}{
		{"old year", "2025.3.0-19807-44526285f24-releases/2025/3", 0, "it is OpenVINO 2025.3.0; version 2026.4 or a later one of 2026"},
		{"old", "2026.1.0-1-x", 0, "it is OpenVINO 2026.1.0"},
		{"next year", "2027.0.0-1-x", 0, "it is OpenVINO 2027.0.0"},
		{"no version", "banana", 0, `its version is "banana"`},
		{"failing", "2026.4.1", -1, "its version cannot be read"},
		{"missing symbols", "2026.4.1-22982-x", 0, "it lacks ov_get_last_err_msg"},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkRefused(t, stub.Library(t, fmt.Sprintf(source, c.version, c.status)), c.want)
		})
	}
	t.Run("missing file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "libopenvino_c.so")
		_, err := os.Stat(path)
		checkRefused(t, path, fault.WithoutPath(err).Error())
	})
}

// TestOpenDamagedSibling truncates a library that OpenVINO loads when it needs it.
func TestOpenDamagedSibling(t *testing.T) {
	lib := backendtest.Library(t, Name)
	dir := t.TempDir()
	plugins, err := filepath.Glob(filepath.Join(filepath.Dir(lib), "*openvino_*_cpu_plugin.*"))
	if err != nil || len(plugins) != 1 {
		t.Fatal(plugins, err)
	}
	for path, part := range map[string]int{lib: 1, plugins[0]: 2} {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), whole[:len(whole)/part], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	checkRefused(t, filepath.Join(dir, filepath.Base(lib)), "cpu_plugin")
}

func checkRefused(t *testing.T, path, want string) {
	t.Helper()
	b, err := Open(t.Context(), path)
	if err == nil {
		_ = b.Close()
		t.Fatal("no error")
	}
	t.Log(err)
	if !strings.Contains(err.Error(), want) {
		t.Errorf("it does not say %q", want)
	}
	if fault.KindOf(err) != fault.Missing || !strings.Contains(fault.HintOf(err), "runtime install openvino") {
		t.Errorf("kind %d, hint %q", fault.KindOf(err), fault.HintOf(err))
	}
}
