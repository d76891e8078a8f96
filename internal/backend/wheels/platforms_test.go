package wheels

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/archive"
	"github.com/lipstream/lipstream/internal/fault"
)

var platforms = []string{"darwin/amd64", "darwin/arm64", "linux/amd64", "linux/arm64", "windows/amd64", "windows/arm64"}

// at replaces the table by that of another platform.
func at(t *testing.T, platform string) {
	t.Helper()
	oldTable, oldPlatform := table, thisPlatform
	t.Cleanup(func() { table, thisPlatform = oldTable, oldPlatform })
	table, thisPlatform = tableFor(platform), platform
}

// TestPlatforms: these runtimes can be installed.
func TestPlatforms(t *testing.T) {
	const all = "openvino onnxruntime cuda13 cuda12 webgpu tensorrt-rtx"
	for platform, want := range map[string]string{
		"linux/amd64": all, "windows/amd64": all,
		"linux/arm64": "openvino onnxruntime webgpu", "darwin/arm64": "openvino onnxruntime webgpu",
		"windows/arm64": "onnxruntime webgpu", "darwin/amd64": "onnxruntime", "plan9/386": "",
	} {
		at(t, platform)
		var names []string
		for _, r := range Runtimes() {
			crt := slices.ContainsFunc(r.Packages, func(p Package) bool { return p.crt })
			if windows := strings.HasPrefix(platform, "windows/"); crt != windows {
				t.Errorf("%s on %s with Microsoft's runtime: %v", r.Name, platform, crt)
			}
			if r.Available() {
				names = append(names, r.Name)
				continue
			}
			_, err := Install(t.Context(), r.Name, "", archive.Progress{})
			hint := "lipstream runtime install " + strings.Split(want, " ")[0]
			if want == "" {
				hint = DirVariable
			}
			if fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), "no build of it for "+platform) || !strings.Contains(fault.HintOf(err), hint) {
				t.Errorf("%s on %s: %v, hint %q", r.Name, platform, err, fault.HintOf(err))
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %s, want %s", platform, got, want)
		}
		if first, _, _ := strings.Cut(want, " "); first != "" && Default() != first {
			t.Errorf("%s: the default is %s", platform, Default())
		}
	}
	at(t, "darwin/amd64")
	if r, err := Named("onnxruntime"); err != nil || r.Version() != "1.23.2" {
		t.Errorf("on Macs with Intel processors: %s, %v", r.Version(), err)
	}
}

// TestTable checks patterns, sums and names.
func TestTable(t *testing.T) {
	for _, platform := range platforms {
		for _, r := range tableFor(platform) {
			for _, p := range r.Packages {
				for _, pattern := range p.keep {
					if _, err := path.Match(pattern, ""); err != nil {
						t.Errorf("%s: pattern %q: %v", p.Project, pattern, err)
					}
				}
				for where, w := range p.files {
					if b, err := hex.DecodeString(w.sha256); err != nil || len(b) != sha256.Size || w.size == 0 || w.platform == "" || !slices.Contains(platforms, where) {
						t.Errorf("%s on %s: %+v", p.Project, where, w)
					}
				}
			}
			if _, err := Named(r.Name); err != nil {
				t.Error(err)
			}
		}
	}
}

var update = flag.Bool("update", false, "rewrite the golden file")

// TestFiles compares what is kept of each wheel with testdata/files.txt, which lists the
// libraries and licences of all wheels, with a + before those that are kept. The kept ones
// must have the names by which they are found.
func TestFiles(t *testing.T) {
	golden := filepath.Join("testdata", "files.txt")
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string][]string{}
	title := ""
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\r\n", "\n")) {
		if line = strings.TrimSuffix(line, "\n"); strings.HasPrefix(line, "# ") {
			title = line[2:]
			continue
		}
		sections[title] = append(sections[title], line[2:])
	}
	got := map[string]string{}
	for _, platform := range platforms {
		goos, _, _ := strings.Cut(platform, "/")
		for _, r := range tableFor(platform) {
			for i, p := range r.Packages {
				if p.files[platform].size == 0 {
					continue
				}
				title := p.Project + " " + p.Version + " " + platform
				var b strings.Builder
				var kept []string
				for _, name := range sections[title] {
					sign := "- "
					if archive.Matches(name, p.keep) {
						sign, kept = "+ ", append(kept, path.Base(name))
					}
					b.WriteString(sign + name + "\n")
				}
				got[title] = b.String()
				needed := p.needed
				if i == 0 {
					needed = append([]library{{stem: r.library}}, needed...)
				}
				for _, l := range needed {
					if !slices.ContainsFunc(kept, func(name string) bool { return l.matches(goos, name) }) {
						t.Errorf("%s: %s %s is not among %q", title, l.stem, l.version, kept)
					}
				}
			}
		}
	}
	var b bytes.Buffer
	for _, title := range slices.Sorted(maps.Keys(got)) {
		b.WriteString("# " + title + "\n" + got[title])
	}
	if *update {
		if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if b.String() != strings.ReplaceAll(string(text), "\r\n", "\n") {
		t.Errorf("other files are kept, or the list is not that of the table; go test -update rewrites it, compare then:\n%s", b.String())
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		l          library
		goos, name string
		want       bool
	}{
		{library{"openvino_c", ""}, "linux", "libopenvino_c.so.2641", true},
		{library{"openvino_c", ""}, "darwin", "libopenvino_c.2641.dylib", true},
		{library{"openvino_c", ""}, "windows", "OpenVINO_c.dll", true},
		{library{"onnxruntime", ""}, "windows", "onnxruntime_providers_shared.dll", false},
		{library{"onnxruntime", ""}, "darwin", "libonnxruntime_providers_webgpu.dylib", false},
		{library{"cublas", "13"}, "windows", "cublas64_13.dll", true},
		{library{"cublas", "13"}, "windows", "cublasLt64_13.dll", false},
		{library{"cublasLt", "13"}, "windows", "cublasLt64_13.dll", true},
		{library{"cublas", "13"}, "windows", "cublas64_12.dll", false},
		{library{"nvrtc", "13"}, "windows", "nvrtc64_130_0.dll", true},
		{library{"nvrtc", "13"}, "windows", "nvrtc64_130_0.alt.dll", false},
		{library{"nvrtc", "13"}, "linux", "libnvrtc.alt.so.13", false},
		{library{"cudnn", "9"}, "windows", "cudnn_ops64_9.dll", false},
		{library{"cudnn_*", "9"}, "windows", "cudnn_ops64_9.dll", true},
		{library{"tensorrt_rtx", "1"}, "windows", "tensorrt_rtx_1_7.dll", true},
		{library{"tensorrt_rtx", "1"}, "linux", "libtensorrt_rtx.so.1.7.1", true},
	} {
		if got := c.l.matches(c.goos, c.name); got != c.want {
			t.Errorf("%+v on %s, %s: %v", c.l, c.goos, c.name, got)
		}
	}
}
