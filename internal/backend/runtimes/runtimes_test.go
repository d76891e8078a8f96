package runtimes

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/fault"
)

func TestOpen(t *testing.T) {
	for _, name := range []string{openVINO.name, onnxRuntime.name} {
		t.Run(name, func(t *testing.T) {
			backendtest.Library(t, name)
			b, err := Open(t.Context(), Choice{Backend: name, Device: "cpu"})
			if err != nil {
				t.Fatal(err)
			}
			if b.Name() != name {
				t.Errorf("got %s", b.Name())
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("auto", func(t *testing.T) {
		backendtest.Library(t, "openvino")
		for _, prefer := range []string{"", Auto} {
			b, err := Open(t.Context(), Choice{Backend: prefer})
			if err != nil {
				t.Fatal(err)
			}
			if b.Name() != "openvino" {
				t.Errorf("%q opens %s", prefer, b.Name())
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// fileName returns the name of a library on this system.
func fileName(stem string) string {
	switch runtime.GOOS {
	case "windows":
		return stem + ".dll"
	case "darwin":
		return "lib" + stem + ".dylib"
	}
	return "lib" + stem + ".so"
}

func TestOpenFails(t *testing.T) {
	for _, v := range []string{"XDG_CACHE_HOME", "LocalAppData", "HOME"} { // the cache folders of all systems
		t.Setenv(v, t.TempDir())
	}
	t.Setenv("PATH", t.TempDir())
	t.Setenv(wheels.DirVariable, "")
	if _, err := Open(t.Context(), Choice{Backend: "abacus"}); fault.KindOf(err) != fault.Usage {
		t.Errorf("unknown: %v", err)
	}
	for prefer, hint := range map[string]string{
		"": "install openvino", "openvino": "install openvino", "onnxruntime": "install onnxruntime",
	} {
		if _, err := Open(t.Context(), Choice{Backend: prefer}); fault.KindOf(err) != fault.Missing || !strings.HasSuffix(fault.HintOf(err), hint) {
			t.Errorf("%q: %v, hint %q", prefer, err, fault.HintOf(err))
		}
	}
	// The user should learn about an installed library that is broken.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName("onnxruntime")), []byte("this is not a library, but a long enough text\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(wheels.DirVariable, dir)
	if _, err := Open(t.Context(), Choice{}); fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), "load library "+dir) {
		t.Errorf("broken: %v", err)
	}
	if _, err := Open(t.Context(), Choice{Backend: "openvino"}); fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), "not in the folder "+dir) {
		t.Errorf("not given: %v", err)
	}
	t.Setenv(wheels.DirVariable, filepath.Join(dir, "none"))
	if _, err := Open(t.Context(), Choice{}); fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), "neither OpenVINO nor") || fault.HintOf(err) != wheels.GivenHint {
		t.Errorf("no folder: %v, hint %q", err, fault.HintOf(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, Choice{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestGivenIsNotReplaced: a broken library in the folder that the user has set is an
// error, even if a working one is installed.
func TestGivenIsNotReplaced(t *testing.T) {
	for _, stem := range []string{"openvino_c", "onnxruntime"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, fileName(stem)), []byte("this is not a library, but a long enough text\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv(wheels.DirVariable, dir)
		_, err := Open(t.Context(), Choice{Backend: Auto})
		if fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), wheels.DirVariable) || !strings.Contains(err.Error(), dir) || fault.HintOf(err) != wheels.GivenHint {
			t.Errorf("%s: %v, hint %q", stem, err, fault.HintOf(err))
		}
	}
}
