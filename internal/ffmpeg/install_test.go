package ffmpeg

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/archive"
	"github.com/lipstream/lipstream/internal/fault"
)

// brokenVariable makes the programs of the test's package fail.
const brokenVariable = "LIPSTREAM_TEST_BROKEN_FFMPEG"

// TestMain lets the test binary play the programs in the package.
func TestMain(m *testing.M) {
	if strings.HasPrefix(filepath.Base(os.Args[0]), "ff") && !strings.Contains(os.Args[0], ".test") {
		if os.Getenv(brokenVariable) != "" {
			fmt.Fprintln(os.Stderr, "libpulse.so.0: cannot open shared object file")
			os.Exit(127)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// stage replaces the package for this machine by one with the given programs, and returns
// its file.
func stage(t *testing.T, programs ...string) string {
	t.Helper()
	clean(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	add := func(name string, data []byte) {
		w, err := z.CreateHeader(&zip.FileHeader{Name: "org/bytedeco/ffmpeg/test-gpl/" + name}) // stored: fast
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range programs {
		add(fileName(name), program)
	}
	for _, name := range []string{"libavcodec.so.62", "libswscale.9.dylib", "avcodec-62.dll", "libjniavcodec.so", "jniavutil.dll", "include/libavutil.h"} {
		add(name, []byte(name))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b.Bytes())
	old, had := jars[archive.Platform]
	jars[archive.Platform] = jar{"test", hex.EncodeToString(sum[:]), int64(b.Len())}
	t.Cleanup(func() {
		jars[archive.Platform] = old
		if !had {
			delete(jars, archive.Platform)
		}
	})
	file := filepath.Join(t.TempDir(), jars[archive.Platform].file())
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// mirror serves the folder of a file.
func mirror(t *testing.T, file string) {
	t.Helper()
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(file))))
	t.Cleanup(server.Close)
	t.Setenv(MirrorVariable, server.URL)
}

// installed returns the names in the folder of all installations.
func installed(t *testing.T) (names []string) {
	t.Helper()
	root, err := archive.Root()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(root, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		names = append(names, filepath.Base(path))
	}
	return names
}

func TestInstall(t *testing.T) {
	file := stage(t, "ffmpeg", "ffprobe")
	mirror(t, file)
	var said []string
	progress := archive.Progress{Say: func(s string) { said = append(said, s) }}
	dir, err := Install(t.Context(), "", progress)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ffmpeg", "ffprobe"} {
		if got, err := Find(name); err != nil || got != (Program{filepath.Join(dir, fileName(name)), "installed by Lipstream"}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"avcodec-62.dll", fileName("ffmpeg"), fileName("ffprobe"), "libavcodec.so.62", "libswscale.9.dylib", "licenses", "manifest.json"}; !slices.Equal(names, want) {
		t.Errorf("unpacked %q, want %q", names, want)
	}
	for name, want := range map[string]string{"GPL-3.0.txt": "GNU GENERAL PUBLIC LICENSE", "README.txt": filepath.Base(file)} {
		if text, err := os.ReadFile(filepath.Join(dir, "licenses", name)); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if last := said[len(said)-1]; !strings.Contains(last, "GNU General Public License") || !strings.Contains(last, filepath.Join(dir, "licenses")) {
		t.Errorf("said %q", said)
	}

	// Again, without a file to download.
	mirror(t, filepath.Join(t.TempDir(), "none"))
	if again, err := Install(t.Context(), "", progress); err != nil || again != dir || said[len(said)-1] != "ffmpeg 8.1.2 is already installed" {
		t.Errorf("again: %q, %v, said %q", again, err, said)
	}
	// A damaged installation is replaced.
	if err := os.WriteFile(filepath.Join(dir, "avcodec-62.dll"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Install(t.Context(), "", progress); fault.KindOf(err) != fault.Missing || !strings.Contains(fault.HintOf(err), "--from FILE") {
		t.Errorf("nothing to download: %v, hint %q", err, fault.HintOf(err))
	}
	if _, err := Install(t.Context(), filepath.Dir(file), progress); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "avcodec-62.dll")); err != nil || len(text) == 0 {
		t.Errorf("not repaired: %q, %v", text, err)
	}
	if names := installed(t); !slices.Equal(names, []string{"ffmpeg-8.1.2"}) {
		t.Errorf("left %q", names)
	}
}

func TestInstallRefuses(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other.jar")
	if err := os.WriteFile(other, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		programs []string
		setup    func(t *testing.T, file string) (from string)
		kind     fault.Kind
		want     string // in the error or the hint
	}{
		"another file":     {nil, func(*testing.T, string) string { return other }, fault.Input, "SHA-256"},
		"an empty folder":  {nil, func(t *testing.T, _ string) string { return t.TempDir() }, fault.Input, "does not have ffmpeg-8.1.2"},
		"no file":          {nil, func(t *testing.T, _ string) string { return filepath.Join(t.TempDir(), "none") }, fault.Input, "open "},
		"only one program": {[]string{"ffmpeg"}, func(_ *testing.T, file string) string { return file }, fault.Internal, "does not contain ffprobe"},
		"another system": {[]string{"ffmpeg", "ffprobe"}, func(t *testing.T, file string) string {
			t.Setenv(brokenVariable, "1")
			return file
		}, fault.Missing, "libpulse.so.0"},
		"a mirror without the file": {nil, func(t *testing.T, _ string) string { mirror(t, other); return "" }, fault.Missing, "--from FILE"},
		"a mirror with another file": {nil, func(t *testing.T, file string) string {
			if err := os.WriteFile(file, bytes.Repeat([]byte("x"), int(jars[archive.Platform].size)), 0o600); err != nil {
				t.Fatal(err)
			}
			mirror(t, file)
			return ""
		}, fault.Input, "SHA-256"},
		"a mirror that is a folder": {nil, func(t *testing.T, file string) string {
			t.Setenv(MirrorVariable, filepath.Dir(file))
			return ""
		}, fault.Usage, MirrorVariable},
		"no build": {nil, func(*testing.T, string) string { delete(jars, archive.Platform); return "" }, fault.Missing, "install it: "},
	} {
		t.Run(name, func(t *testing.T) {
			from := c.setup(t, stage(t, c.programs...))
			_, err := Install(t.Context(), from, archive.Progress{})
			if fault.KindOf(err) != c.kind || !strings.Contains(err.Error()+fault.HintOf(err), c.want) {
				t.Errorf("kind %d, %v, hint %q", fault.KindOf(err), err, fault.HintOf(err))
			}
			if names := installed(t); len(names) != 0 {
				t.Errorf("left %q", names)
			}
		})
	}
}

// TestJars checks the table and the patterns.
func TestJars(t *testing.T) {
	for where, j := range jars {
		if b, err := hex.DecodeString(j.sha256); err != nil || len(b) != sha256.Size || j.size == 0 || j.platform == "" {
			t.Errorf("%s: %+v", where, j)
		}
	}
	_, a, err := build()
	if err != nil {
		t.Skip(err)
	}
	for _, pattern := range a.Keep {
		if _, err := path.Match(pattern, ""); err != nil {
			t.Errorf("pattern %q: %v", pattern, err)
		}
	}
}
