package wheels

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/archive"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/stub"
)

// stagePackages adds two packages that the stub runtime needs, and returns a folder with
// all wheels.
func stagePackages(t *testing.T) (bin, folder string) {
	t.Helper()
	stub := makeWheel(t, goodWheel)
	bin, folder = stage(t, stub), t.TempDir()
	write(t, filepath.Join(folder, "stub.whl"), stub, 0o600)
	for _, p := range []Package{
		{Project: "nvidia-a", Version: "1", places: []place{{"nvidia", "a/lib"}, {"torch", "lib"}}, keep: []string{"nvidia/a/lib/*"}, needed: []library{{"a", "13"}}},
		{Project: "nvidia-b", Version: "2", places: []place{{"nvidia", "b/lib"}, {"torch", "lib"}}, keep: []string{"nvidia/b/lib/*"}, needed: []library{{"bLt", "13"}, {"b", "13"}}},
	} {
		var entries []entry
		for _, l := range p.needed {
			entries = append(entries, entry{name: "nvidia/" + strings.TrimPrefix(p.Project, "nvidia-") + "/lib/" + fileName(l.stem, l.version), data: l.stem})
		}
		data := makeWheel(t, entries)
		sum := sha256.Sum256(data)
		p.files = map[string]wheel{thisPlatform: {platform: "any", sha256: hex.EncodeToString(sum[:]), size: int64(len(data))}}
		write(t, filepath.Join(folder, p.Project+".whl"), data, 0o600)
		table[0].Packages = append(table[0].Packages, p)
	}
	return bin, folder
}

// TestPackages installs a runtime of three packages from a folder, one of which is then
// missing.
func TestPackages(t *testing.T) {
	_, folder := stagePackages(t)
	dir, err := Install(t.Context(), "stub", folder, archive.Progress{})
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Dir(dir)
	leftovers(t, "nvidia-a-1", "nvidia-b-2", "stub-1.0")
	lib, err := Find(t.Context(), "stub")
	want := []string{filepath.Join(root, "nvidia-a-1", fileName("a", "13")), filepath.Join(root, "nvidia-b-2", fileName("bLt", "13")), filepath.Join(root, "nvidia-b-2", fileName("b", "13"))}
	if err != nil || !slices.Equal(lib.Needed, want) || lib.Missing != nil {
		t.Errorf("needed %q, missing %q, %v", lib.Needed, lib.Missing, err)
	}
	if err := os.Remove(want[2]); err != nil {
		t.Fatal(err)
	}
	if lib, err = Find(t.Context(), "stub"); err != nil || !slices.Equal(lib.Needed, want[:1]) || !slices.Equal(lib.Missing, []string{"nvidia-b"}) {
		t.Errorf("without a library: needed %q, missing %q, %v", lib.Needed, lib.Missing, err)
	}
	// Installed again from the folder, without the wheels that do not matter.
	if err := os.Remove(filepath.Join(folder, "nvidia-a.whl")); err != nil {
		t.Fatal(err)
	}
	if _, err := Install(t.Context(), "stub", folder, archive.Progress{}); err != nil {
		t.Fatal(err)
	}
	if lib, err = Find(t.Context(), "stub"); err != nil || !slices.Equal(lib.Needed, want) {
		t.Errorf("repaired: needed %q, %v", lib.Needed, err)
	}
}

// pythonOutput makes the test binary play a Python that prints its value.
const pythonOutput = "LIPSTREAM_TEST_PYTHON"

func TestMain(m *testing.M) {
	if out := os.Getenv(pythonOutput); out != "" {
		fmt.Print(out)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fakePython makes a program that prints out the Python whose packages are searched.
func fakePython(t *testing.T, out string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(PythonVariable, self)
	t.Setenv(pythonOutput, out)
}

// TestFindScript: modules in the working directory are not found.
func TestFindScript(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	module := filepath.Dir(write(t, filepath.Join(dir, "stub", "__init__.py"), nil, 0o600))
	for path, want := range map[string]string{"": "", dir: "stub\t" + module} {
		cmd := exec.CommandContext(t.Context(), python, "-c", findScript, "stub")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "PYTHONPATH="+path)
		if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("PYTHONPATH=%s: %q, %v", path, out, err)
		}
	}
}

// TestPackagesOfPython: what PyTorch has is used and not downloaded.
func TestPackagesOfPython(t *testing.T) {
	_, folder := stagePackages(t)
	site := t.TempDir()
	write(t, filepath.Join(site, "nvidia", "a", "lib", fileName("a", "12")), nil, 0o600) // another version
	for _, name := range []string{fileName("bLt", "13"), fileName("b", "13"), "libb.alt.so.13", "b64_13.alt.dll"} {
		write(t, filepath.Join(site, "torch", "lib", name), nil, 0o600)
	}
	fakePython(t, fmt.Sprintf("nvidia\t%s\ntorch\t%s\n", filepath.Join(site, "nvidia"), filepath.Join(site, "torch")))
	var said []string
	dir, err := Install(t.Context(), "stub", folder, archive.Progress{Say: func(s string) { said = append(said, s) }})
	if err != nil {
		t.Fatal(err)
	}
	leftovers(t, "nvidia-a-1", "nvidia-b-2", "stub-1.0") // the folder has them all

	if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(folder, "nvidia-b.whl")); err != nil {
		t.Fatal(err)
	}
	said = nil
	if _, err := Install(t.Context(), "stub", folder, archive.Progress{Say: func(s string) { said = append(said, s) }}); err != nil {
		t.Fatal(err)
	}
	leftovers(t, "nvidia-a-1", "stub-1.0")
	if !slices.Contains(said, "using nvidia-b of Python: "+filepath.Join(site, "torch", "lib")) {
		t.Errorf("said %q", said)
	}
	lib, err := Find(t.Context(), "stub")
	if err != nil || len(lib.Needed) != 3 || lib.Needed[1] != filepath.Join(site, "torch", "lib", fileName("bLt", "13")) || lib.Missing != nil {
		t.Errorf("needed %q, missing %q, %v", lib.Needed, lib.Missing, err)
	}
}

func TestInstallFromOtherFolder(t *testing.T) {
	stagePackages(t)
	empty := t.TempDir()
	_, err := Install(t.Context(), "stub", empty, archive.Progress{})
	if fault.KindOf(err) != fault.Input || !strings.Contains(fault.HintOf(err), "nvidia-b 2") {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
}

func TestChooseCUDA(t *testing.T) {
	for _, c := range []struct {
		version    int
		capability string
		want       string // or a part of the error
	}{
		{13000, "8.9", CUDA13}, {13010, "12.0", CUDA13}, {12080, "8.9", CUDA12}, {12000, "7.5", CUDA12},
		{11080, "8.9", "CUDA 11.8"}, {13000, "6.1", "capability 6.1"}, {13000, "7.0", "capability 7.0"},
		{13000, "", "finds no GPU"}, {0, "", "no NVIDIA driver"},
	} {
		got, err := ChooseCUDA(c.version, c.capability)
		if err == nil && got != c.want {
			t.Errorf("%d, %s: %s, want %s", c.version, c.capability, got, c.want)
		}
		if err != nil && (!strings.Contains(err.Error(), c.want) || fault.KindOf(err) != fault.Missing || fault.HintOf(err) == "") {
			t.Errorf("%d, %s: %v, hint %q", c.version, c.capability, err, fault.HintOf(err))
		}
	}
}

// TestCUDAProvider: the provider itself says for which CUDA it was built.
func TestCUDAProvider(t *testing.T) {
	if thisPlatform != "linux/amd64" {
		t.Skip("needs Linux on amd64")
	}
	dir := t.TempDir()
	stub.At(t, filepath.Join(dir, "libcublas.so"), "int x;", "-Wl,-soname,libcublas.so.12")
	stub.At(t, filepath.Join(dir, "libonnxruntime_providers_cuda.so"), "int x;", "-Wl,--no-as-needed", "-L"+dir, "-lcublas")
	write(t, filepath.Join(dir, "libonnxruntime.so.1"), nil, 0o600)
	for name, want := range map[string]bool{CUDA12: true, CUDA13: false, "onnxruntime": true} {
		r, err := Named(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.libraryIn(dir) != ""; got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	write(t, filepath.Join(dir, "libonnxruntime_providers_cuda.so"), []byte("no library"), 0o600)
	if cudaProvider(dir, "12") != "" {
		t.Error("a file that is no library is for CUDA 12")
	}
}
