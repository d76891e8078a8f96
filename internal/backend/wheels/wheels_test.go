package wheels

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/archive"
	"github.com/lipstream/lipstream/internal/fault"
)

// entry is a file in a wheel made for a test.
type entry struct {
	name, data string
	mode       fs.FileMode
}

// fileName returns the name of a shared library on this system.
func fileName(stem, version string) string {
	switch {
	case runtime.GOOS == "windows" && version != "":
		return stem + "64_" + version + ".dll"
	case runtime.GOOS == "windows":
		return stem + ".dll"
	case runtime.GOOS == "darwin":
		return "lib" + stem + "." + cmp.Or(version, "1") + ".dylib"
	}
	return "lib" + stem + ".so." + cmp.Or(version, "1")
}

var goodWheel = []entry{
	{name: "stub/libs/" + fileName("stub_c", ""), data: strings.Repeat("library", 10000)},
	{name: "stub/libs/" + fileName("other", ""), data: "not needed"},
	{name: "stub-1.0.dist-info/licenses/LICENSE", data: "free"},
	{name: "stub/__init__.py", data: "raise SystemExit"},
}

func makeWheel(t *testing.T, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		h.SetMode(e.mode | 0o644)
		w, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// emptyCache sets a new cache folder, on any system.
func emptyCache(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for _, v := range []string{"XDG_CACHE_HOME", "LocalAppData", "HOME"} {
		t.Setenv(v, dir)
	}
}

// stage replaces the table by a runtime called stub with the given wheel. It sets an
// empty cache folder and an empty PATH, and returns the folder in PATH.
func stage(t *testing.T, wheelBytes []byte) (bin string) {
	t.Helper()
	sum := sha256.Sum256(wheelBytes)
	old := table
	t.Cleanup(func() { table = old })
	table = []Runtime{{
		Name: "stub", Backend: "stub", library: "stub_c",
		Packages: []Package{{
			Project: "stub", Version: "1.0", places: []place{{"stub", "libs"}},
			keep:  append(shared("stub/libs", "stub_c"), "stub/libs/evil*", "stub-*.dist-info/licenses/*"),
			files: map[string]wheel{thisPlatform: {platform: "any", sha256: hex.EncodeToString(sum[:]), size: int64(len(wheelBytes))}},
		}},
	}}
	emptyCache(t)
	t.Setenv(DirVariable, "")
	t.Setenv(IndexVariable, "http://127.0.0.1:1/none") // nothing listens there
	bin = t.TempDir()
	t.Setenv("PATH", bin)
	t.Setenv(PythonVariable, "")
	return bin
}

func write(t *testing.T, path string, data []byte, mode fs.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// leftovers fails the test unless the folder of the installations holds exactly want.
func leftovers(t *testing.T, want ...string) {
	t.Helper()
	dir, err := archive.Root()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var have []string
	for _, e := range entries {
		have = append(have, e.Name())
	}
	if !slices.Equal(have, want) {
		t.Errorf("the folder holds %q, want %q", have, want)
	}
}

func TestInstallFromFile(t *testing.T) {
	data := makeWheel(t, goodWheel)
	stage(t, data)
	if _, err := Find(t.Context(), "stub"); fault.KindOf(err) != fault.Missing || !strings.Contains(fault.HintOf(err), "install stub") {
		t.Errorf("Find before: %v, hint %q", err, fault.HintOf(err))
	}
	file := write(t, filepath.Join(t.TempDir(), "stub.whl"), data, 0o600)
	var said []string
	dir, err := Install(t.Context(), "stub", file, archive.Progress{Say: func(s string) { said = append(said, s) }})
	if err != nil {
		t.Fatal(err)
	}
	lib, err := Find(t.Context(), "stub")
	if err != nil || lib.Path != filepath.Join(dir, fileName("stub_c", "")) || lib.Source != "installed by Lipstream" {
		t.Errorf("Find: %+v, %v", lib, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "licenses", "LICENSE")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, fileName("other", ""))); err == nil {
		t.Error("an unneeded file was unpacked")
	}
	leftovers(t, "stub-1.0")
	if len(said) < 2 {
		t.Errorf("progress said %q", said)
	}

	// Again, without a client and a file: it is already installed.
	if again, err := Install(t.Context(), "stub", "", archive.Progress{}); err != nil || again != dir {
		t.Errorf("second: %q, %v", again, err)
	}
	// A damaged installation does not count, and is repaired.
	write(t, lib.Path, []byte("damaged"), 0o600)
	if _, err := Install(t.Context(), "stub", "", archive.Progress{}); fault.KindOf(err) != fault.Missing || !strings.Contains(fault.HintOf(err), "--from FILE") {
		t.Errorf("damaged, without a client: %v, hint %q", err, fault.HintOf(err))
	}
	if _, err := Install(t.Context(), "stub", file, archive.Progress{}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(lib.Path); err != nil || string(got) != goodWheel[0].data {
		t.Errorf("after the repair: %d bytes, %v", len(got), err)
	}
	leftovers(t, "stub-1.0")
}

func TestInstallRefuses(t *testing.T) {
	good := makeWheel(t, goodWheel)
	for name, c := range map[string]struct {
		pinned, given []byte
		kind          fault.Kind
		want          string
	}{
		"another wheel": {good, makeWheel(t, goodWheel[:1]), fault.Input, "SHA-256"},
		"cut":           {good, good[:len(good)/2], fault.Input, "SHA-256"},
		"no zip":        {[]byte("text"), []byte("text"), fault.Input, "zip"},
		"no library":    {makeWheel(t, goodWheel[2:]), nil, fault.Internal, "does not contain the library"},
		"link":          {makeWheel(t, append([]entry{{"stub/libs/evil", "/etc/passwd", fs.ModeSymlink}}, goodWheel...)), nil, fault.Input, "not a regular file"},
		"backslash":     {makeWheel(t, append([]entry{{`stub/libs/evil\..\..\x`, "x", 0}}, goodWheel...)), nil, fault.Input, ""},
		"twice":         {makeWheel(t, append(goodWheel[:1:1], goodWheel...)), nil, fault.Input, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			stage(t, c.pinned)
			if c.given == nil {
				c.given = c.pinned
			}
			file := write(t, filepath.Join(t.TempDir(), "stub.whl"), c.given, 0o600)
			_, err := Install(t.Context(), "stub", file, archive.Progress{})
			if err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Errorf("kind %d, %v", fault.KindOf(err), err)
			}
			leftovers(t)
		})
	}
	stage(t, good)
	for _, from := range []string{filepath.Join(t.TempDir(), "none"), t.TempDir()} {
		_, err := Install(t.Context(), "stub", from, archive.Progress{Say: func(s string) { t.Errorf("it said %q", s) }})
		if fault.KindOf(err) != fault.Input || fault.HintOf(err) == "" || strings.Count(err.Error(), from) != 1 {
			t.Errorf("no file: %v, hint %q", err, fault.HintOf(err))
		}
	}
	if _, err := Install(t.Context(), "nonsense", "", archive.Progress{}); fault.KindOf(err) != fault.Usage {
		t.Errorf("unknown name: %v", err)
	}
	table[0].Packages[0].files = nil
	if _, err := Install(t.Context(), "stub", "", archive.Progress{}); fault.KindOf(err) != fault.Missing {
		t.Errorf("another platform: %v", err)
	}
}

// needsShell skips a test with programs that are shell scripts.
func needsShell(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the fake programs are shell scripts")
	}
}

// fakeClient writes a shell script that acts like pip download: it copies the wheel into
// the folder after --dest.
func fakeClient(t *testing.T, bin, name, wheelFile string) {
	t.Helper()
	needsShell(t)
	write(t, filepath.Join(bin, name), []byte(`#!/bin/sh
echo "$0 $@" >> "`+bin+`/log"
while [ $# -gt 0 ]; do
	if [ "$1" = --dest ]; then dest=$2; fi
	shift
done
/bin/mkdir -p "$dest" && /bin/cp "`+wheelFile+`" "$dest/stub-1.0-py3-none-any.whl"
`), 0o755)
}

func TestInstallDownloads(t *testing.T) {
	needsShell(t)
	data := makeWheel(t, goodWheel)
	bin := stage(t, data)
	file := write(t, filepath.Join(t.TempDir(), "stub.whl"), data, 0o600)
	// The first client fails; the next one is tried.
	write(t, filepath.Join(bin, "python3"), []byte("#!/bin/sh\necho 'No module named pip' >&2\nexit 1\n"), 0o755)
	_, err := Install(t.Context(), "stub", "", archive.Progress{})
	if fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), "No module named pip") {
		t.Errorf("only a broken client: %v", err)
	}
	leftovers(t)
	fakeClient(t, bin, "uv", file)
	if _, err := Install(t.Context(), "stub", "", archive.Progress{}); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(bin, "log"))
	if err != nil || !strings.Contains(string(log), "uv tool run pip download --no-deps --only-binary=:all: --python-version 3.11") ||
		!strings.Contains(string(log), "stub==1.0") {
		t.Errorf("the client was called as %q, %v", log, err)
	}
	leftovers(t, "stub-1.0")

	emptyCache(t)
	own := filepath.Join(bin, "own", "python")
	fakeClient(t, filepath.Dir(own), "python", file)
	t.Setenv(PythonVariable, own)
	if _, err := Install(t.Context(), "stub", "", archive.Progress{}); err != nil {
		t.Fatal(err)
	}
	log, err = os.ReadFile(filepath.Join(bin, "own", "log"))
	if err != nil || !strings.HasPrefix(string(log), own+" -m pip download") {
		t.Errorf("%s was called as %q, %v", PythonVariable, log, err)
	}
}

func TestInstallChecksDownload(t *testing.T) {
	bin := stage(t, makeWheel(t, goodWheel))
	fakeClient(t, bin, "pip3", write(t, filepath.Join(t.TempDir(), "x"), makeWheel(t, goodWheel[:2]), 0o600))
	if _, err := Install(t.Context(), "stub", "", archive.Progress{}); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("got %v", err)
	}
	leftovers(t)
}

func TestInstallCancelled(t *testing.T) {
	needsShell(t)
	bin := stage(t, makeWheel(t, goodWheel))
	// The client says that it runs, and does not end by itself.
	started := filepath.Join(bin, "started")
	if err := exec.Command("/usr/bin/mkfifo", started).Run(); err != nil {
		t.Skip(err)
	}
	write(t, filepath.Join(bin, "pip"), []byte("#!/bin/sh\n: > '"+started+"'\nexec /bin/sleep 1000000\n"), 0o755)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = os.ReadFile(started) // waits for the client
		cancel()
	}()
	if _, err := Install(ctx, "stub", "", archive.Progress{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	leftovers(t)
}

func TestFindOrder(t *testing.T) {
	needsShell(t)
	bin := stage(t, makeWheel(t, goodWheel))
	own, err := table[0].Packages[0].archive().Dir()
	if err != nil {
		t.Fatal(err)
	}
	variable, python := t.TempDir(), t.TempDir()
	name := fileName("stub_c", "")
	for _, dir := range []string{filepath.Join(variable, "libs"), own, filepath.Join(python, "libs")} {
		write(t, filepath.Join(dir, strings.Replace(name, ".1", "", 1)), nil, 0o600) // shorter
		write(t, filepath.Join(dir, name), nil, 0o600)
		write(t, filepath.Join(dir, fileName("stub", "")), nil, 0o600)
	}
	asked := filepath.Join(bin, "asked")
	write(t, filepath.Join(bin, "python3"), []byte("#!/bin/sh\n: > '"+asked+"'\n[ \"$5\" = stub ] && printf 'stub\\t"+python+"\\n'\n"), 0o755)
	check := func(source, dir string) {
		t.Helper()
		want := []Library{{Runtime: "stub", Path: filepath.Join(dir, name), Source: source}}
		if got, err := Candidates(t.Context(), "stub"); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if got, err := Find(t.Context(), "stub"); err != nil || !reflect.DeepEqual(got, want[0]) {
			t.Errorf("Find: %+v, %v, want %+v", got, err, want[0])
		}
		if _, err := os.Stat(asked); (err == nil) != (source == "Python package") {
			t.Errorf("%s: Python was asked: %v", source, err == nil)
		}
	}
	t.Setenv(DirVariable, variable)
	check(DirVariable, filepath.Join(variable, "libs"))
	t.Setenv(DirVariable, "")
	check("installed by Lipstream", own)
	for dir, want := range map[string]string{bin: "it is not in the folder", filepath.Join(bin, "none"): "no such file"} {
		t.Setenv(DirVariable, dir)
		_, err := Candidates(t.Context(), "stub")
		if fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), want) || fault.HintOf(err) != GivenHint {
			t.Errorf("%s: %v, hint %q", dir, err, fault.HintOf(err))
		}
	}
	if _, err := os.Stat(asked); err == nil {
		t.Error("Python was asked although the folder is named")
	}
	t.Setenv(DirVariable, "")
	if err := os.RemoveAll(own); err != nil {
		t.Fatal(err)
	}
	check("Python package", filepath.Join(python, "libs"))
	if _, err := Candidates(t.Context(), "nonsense"); fault.KindOf(err) != fault.Usage {
		t.Errorf("unknown backend: %v", err)
	}
}
