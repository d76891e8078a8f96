package backendtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Stub compiles C source into a shared library that stands in for a runtime of
// another version, or a damaged one, and returns its path. The test is skipped if
// gcc is not installed.
func Stub(t testing.TB, source string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("gcc is not installed")
	}
	dir := t.TempDir()
	c, lib := filepath.Join(dir, "stub.c"), filepath.Join(dir, "libstub.so")
	if err := os.WriteFile(c, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), gcc, "-shared", "-fPIC", "-o", lib, c).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return lib
}
