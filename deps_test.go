package lipstream_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/lipstream/lipstream"

// layers is the architecture, from the top down: a package may import packages
// of lower layers only. A folder stands for itself and everything below it that is
// not listed itself; within one such folder imports are free. A layer with several folders keeps
// them from importing each other. "." is the public root package.
//
// A new package must be added here before this test passes.
var layers = [][]string{
	{"cmd", "tools", "e2e", "examples"},
	{"internal/check"},
	{"internal/server", "internal/worker", "internal/doctor", "internal/bench"},
	{"internal/client"},
	{"internal/web", "comfyui"},
	{"internal/queue"},
	{"internal/store"},
	{"internal/cluster"},
	{"."},
	{"internal/job"},
	{"internal/pipeline", "internal/preview", "internal/neural", "internal/restorer", "internal/mask"},
	{"internal/models"},
	{"internal/network", "internal/sampler", "internal/musetalk"},
	{"internal/lip"},
	{"internal/settings"},
	{"internal/face", "internal/syncnet"},
	{"internal/audio", "internal/media"},
	{"internal/backend"},
	{"internal/onnx"},
	{"internal/checkpoint", "internal/memory", "internal/journal", "internal/chart", "internal/ffmpeg"},
	{"internal/frame", "internal/tensor", "internal/archive"},
	{"internal/disk", "internal/child", "internal/download", "internal/certificate"},
	{"internal/fault"},
	{"internal/golden", "internal/stub"}, // for tests: what they measure against the original, libraries in C
	{"testdata"},                         // files to embed, beside the tests that use them
}

// onlyIn are third-party modules that some folders keep to themselves, so that
// libraries of the command line stay out of the public package. A module without
// folders is for tests only.
var onlyIn = map[string][]string{
	"github.com/alecthomas/kong":      {"cmd", "tools"},
	"github.com/google/pprof":         {"tools"},
	"golang.org/x/term":               {"cmd"},
	"github.com/rogpeppe/go-internal": nil,
	"github.com/google/go-cmp":        nil,
	"github.com/getkin/kin-openapi":   nil,
	"github.com/chromedp":             nil,
	"github.com/nats-io/nats-server":  {"internal/queue", "e2e"},
	"github.com/minio/minio-go":       {"internal/store"},
	"github.com/gofrs/flock":          {"internal/disk"},
	"go.yaml.in/yaml/v3":              {"internal/models"},
}

// maxLines is the longest that a Go file may be.
const maxLines = 500

// place returns the layer of a package and the folder of that layer it is in, which
// is the longest that matches.
func place(pkg string) (layer int, folder string, ok bool) {
	for i, folders := range layers {
		for _, f := range folders {
			if within(pkg, f) && len(f) > len(folder) {
				layer, folder, ok = i, f, true
			}
		}
	}
	return layer, folder, ok
}

// checkImport returns what is wrong with an import between two packages of this
// module, named by their folders, or "".
func checkImport(from, to string) string {
	const noPlace = " has no place in the architecture: put it into the layers of deps_test.go"
	fromLayer, fromFolder, ok := place(from)
	if !ok {
		return from + noPlace
	}
	toLayer, toFolder, ok := place(to)
	switch {
	case !ok:
		return to + noPlace
	case fromFolder == toFolder || fromLayer < toLayer:
		return ""
	case fromLayer == toLayer:
		return from + " imports " + to + ", which is in the same layer"
	}
	return from + " imports " + to + ", which is above it"
}

// goPackage holds the fields of go list -json that this test uses.
type goPackage struct {
	ImportPath string
	Name       string
	Imports    []string
	CgoFiles   []string
}

// folder returns the folder of the package below the root of the module.
func (p goPackage) folder() string { return folderOf(p.ImportPath) }

func folderOf(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the sources are the same on all systems")
	}
	// -e: the compiler reports packages that do not compile.
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Name,Imports,CgoFiles", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var pkgs []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func TestDependenciesPointDown(t *testing.T) {
	for _, p := range listPackages(t) {
		from := p.folder()
		if _, _, ok := place(from); !ok {
			t.Error(checkImport(from, from))
			continue
		}
		for _, name := range []string{path.Base(from), p.Name} {
			if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "misc", "shared"}, name) {
				t.Errorf("%s: choose a name that says what the package contains", from)
			}
		}
		// One static binary: native libraries are loaded at run time.
		if len(p.CgoFiles) > 0 {
			t.Errorf("%s uses cgo in %v", from, p.CgoFiles)
		}
		for _, imported := range p.Imports {
			if imported == module || strings.HasPrefix(imported, module+"/") {
				if wrong := checkImport(from, folderOf(imported)); wrong != "" {
					t.Error(wrong)
				}
				continue
			}
			if wrong := checkThirdParty(from, imported); wrong != "" {
				t.Error(wrong)
			}
		}
	}
}

// within reports whether a path is a folder or lies below it.
func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// checkThirdParty returns what is wrong with an import from outside, or "".
func checkThirdParty(from, imported string) string {
	for prefix, owners := range onlyIn {
		if !within(imported, prefix) {
			continue
		}
		switch {
		case owners == nil && !strings.HasSuffix(from, "test"): // backendtest, liptest
			return from + " imports " + imported + ", which is for tests only"
		case owners != nil && !slices.ContainsFunc(owners, func(owner string) bool { return within(from, owner) }):
			return from + " imports " + imported + ", which is only for " + strings.Join(owners, " and ")
		}
	}
	return ""
}

// TestImportRules checks the rules on imports that do not exist.
func TestImportRules(t *testing.T) {
	tests := []struct {
		from, to string
		ok       bool
	}{
		{"cmd/lipstream", ".", true},
		{".", "internal/pipeline", true},
		{"internal/pipeline", ".", false},
		{"internal/preview", "internal/face", true},
		{"internal/preview", "internal/neural", false},
		{"internal/neural/unet", "internal/neural", true},
		{"internal/neural", "internal/models", true},
		{"internal/models", "internal/network", true},
		{"internal/models", "internal/neural", false},
		{"internal/neural", "internal/network", true},
		{"internal/network", "internal/neural", false},
		{"internal/neural", "internal/musetalk", true},
		{"internal/network", "internal/sampler", false},
		{"internal/job", "internal/neural", true},
		{"internal/pipeline", "internal/job", false},
		{"internal/lip", "internal/settings", true},
		{"internal/journal", "internal/disk", true},
		{"internal/disk", "internal/child", false},
		{"internal/face", "internal/backend", true},
		{"internal/backend/openvino", "internal/backend", true},
		{"internal/backend", "internal/backend/openvino", true},
		{"internal/backend/openvino", "internal/tensor", true},
		{"internal/fault", "internal/tensor", false},
		{"internal/media", "internal/audio", false},
		{"internal/worker", "internal/queue", true},
		{"internal/unheardof", "internal/fault", false},
		{"internal/face", "unheardof", false},
		{"internal/bench", "testdata/demo", true},
	}
	for _, tt := range tests {
		if wrong := checkImport(tt.from, tt.to); (wrong == "") != tt.ok {
			t.Errorf("%s -> %s: %q", tt.from, tt.to, wrong)
		}
	}
	if checkThirdParty("internal/face", "golang.org/x/term") == "" ||
		checkThirdParty("cmd/lipstream", "golang.org/x/term") != "" ||
		checkThirdParty("internal/face", "github.com/google/go-cmp/cmp") == "" ||
		checkThirdParty("internal/backend/backendtest", "github.com/google/go-cmp/cmp") != "" {
		t.Error("wrong answer on a third-party import")
	}
}

// TestGoFiles checks every Go file: its length, and that code in internal/ leaves
// printing to the commands.
func TestGoFiles(t *testing.T) {
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a temporary file that was removed meanwhile
		}
		if err != nil {
			return err
		}
		if d.IsDir() {
			base := d.Name()
			if name != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") ||
				slices.Contains([]string{"testdata", "node_modules", "bin", "out", "dist"}, base)) {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(name, ".go") {
			checkGoFile(t, filepath.ToSlash(name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkGoFile(t *testing.T, name string) {
	t.Helper()
	src, err := os.ReadFile(name)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		return
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution|parser.ParseComments)
	if err != nil {
		t.Error(err)
		return
	}
	if n := bytes.Count(src, []byte("\n")); n > maxLines && !ast.IsGenerated(file) {
		t.Errorf("%s has %d lines, more than %d: split it by what it does", name, n, maxLines)
	}
	if strings.HasPrefix(name, "internal/") && !strings.HasSuffix(name, "_test.go") {
		for _, found := range prints(fset, file) {
			t.Errorf("%s: only commands print; return an error or an event, or take a writer", found)
		}
	}
}

// prints returns everything in a file that writes to the standard streams.
func prints(fset *token.FileSet, file *ast.File) []string {
	imported := map[string]string{} // local name -> import path
	for _, spec := range file.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		local := path.Base(p)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		imported[local] = p
	}
	var found []string
	note := func(n ast.Node, what string) {
		found = append(found, fset.Position(n.Pos()).String()+" uses "+what)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "print" || id.Name == "println") {
				note(n, id.Name)
			}
		case *ast.SelectorExpr:
			pkg, ok := n.X.(*ast.Ident)
			if !ok {
				return true
			}
			name := n.Sel.Name
			switch imported[pkg.Name] {
			case "fmt":
				if strings.HasPrefix(name, "Print") {
					note(n, "fmt."+name)
				}
			case "log":
				if strings.HasPrefix(name, "Print") || strings.HasPrefix(name, "Fatal") || strings.HasPrefix(name, "Panic") {
					note(n, "log."+name)
				}
			case "os":
				if name == "Stdout" || name == "Stderr" {
					note(n, "os."+name)
				}
			}
		}
		return true
	})
	return found
}

// TestPrints checks prints on a file with every kind.
func TestPrints(t *testing.T) {
	const src = `package p
import ("fmt"; l "log"; "os"; "strings")
type q struct{}
func (q) Print() {}
func f(w *strings.Builder) {
	fmt.Println(1)
	l.Fatalf("x")
	println(2)
	fmt.Fprintln(os.Stderr)
	fmt.Fprintln(w, fmt.Sprint("fine"))
	q{}.Print()
}`
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "p.go", src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	got := prints(fset, file)
	want := []string{"p.go:6:2 uses fmt.Println", "p.go:7:2 uses log.Fatalf", "p.go:8:2 uses println", "p.go:9:15 uses os.Stderr"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
