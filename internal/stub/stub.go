// Package stub compiles C source into shared libraries that stand in for real ones in
// tests.
package stub

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Library compiles source with gcc and returns the path of the library. The test is
// skipped on other systems than Linux, and if gcc is not installed.
func Library(t testing.TB, source string, flags ...string) string {
	t.Helper()
	return At(t, filepath.Join(t.TempDir(), "libstub.so"), source, flags...)
}

// At is Library for a library with the given path, which it returns.
func At(t testing.TB, path, source string, flags ...string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil || runtime.GOOS != "linux" {
		t.Skip("needs gcc and Linux")
	}
	file := filepath.Join(t.TempDir(), "stub.c")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-shared", "-fPIC", "-o", path, file}, flags...)
	if out, err := exec.CommandContext(t.Context(), gcc, args...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return path
}
