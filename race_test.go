package lipstream_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestRaceList keeps the two lists of the Makefile true: every package that
// starts goroutines is run with the race detector, or says why not.
func TestRaceList(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{} // folder -> list
	for line := range strings.Lines(string(makefile)) {
		if !regexp.MustCompile(`^(NO)?RACE\b`).MatchString(line) {
			continue
		}
		m := regexp.MustCompile(`^(RACE|NORACE) \+= (\S+) +# \S.*\n$`).FindStringSubmatch(line)
		if m == nil {
			t.Errorf("Makefile: write %q as a list, a folder and a reason: RACE += ./internal/queue # leases", line)
			continue
		}
		folder := filepath.ToSlash(filepath.Clean(m[2]))
		if listed[folder] != "" {
			t.Errorf("Makefile: %s is listed twice", folder)
		}
		listed[folder] = m[1]
	}
	var found []string
	for _, p := range listPackages(t) {
		folder := p.folder()
		found = append(found, folder)
		if at := startsGoroutines(t, folder); at != "" && listed[folder] == "" {
			t.Errorf("%s starts goroutines (%s): put it into RACE in the Makefile, or into NORACE, with a reason", folder, at)
		} else if at == "" && listed[folder] == "NORACE" {
			t.Errorf("Makefile: %s starts no goroutines and needs no exception", folder)
		}
	}
	for folder := range listed {
		if !slices.Contains(found, folder) {
			t.Errorf("Makefile: %s is not a package", folder)
		}
	}
}

// startsGoroutines returns the first place in a folder, outside of tests, that
// starts a goroutine, or "".
func startsGoroutines(t *testing.T, folder string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			continue
		}
		if at := firstGoroutine(file); at.IsValid() {
			return fset.Position(at).String()
		}
	}
	return ""
}

// firstGoroutine finds a go statement or a call of a method Go or TryGo, such as
// those of sync.WaitGroup and errgroup.Group.
func firstGoroutine(file *ast.File) (at token.Pos) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			at = n.Pos()
		case *ast.CallExpr:
			if s, ok := n.Fun.(*ast.SelectorExpr); ok && len(n.Args) == 1 && (s.Sel.Name == "Go" || s.Sel.Name == "TryGo") {
				at = n.Pos()
			}
		}
		return !at.IsValid()
	})
	return at
}

// TestFirstGoroutine checks the finder.
func TestFirstGoroutine(t *testing.T) {
	for body, want := range map[string]bool{
		"go f()":                   true,
		"wg.Go(func() {})":         true,
		"if g.TryGo(f) { return }": true,
		"f.Going(g)":               false,
		"wg.Wait()":                false,
		"_ = func() { go f() }":    true,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "p.go", "package p\nfunc _() {\n"+body+"\n}", 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := firstGoroutine(file).IsValid(); got != want {
			t.Errorf("%s: %v", body, got)
		}
	}
}
