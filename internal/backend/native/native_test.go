package native

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/stub"
)

func TestOpenAndBind(t *testing.T) {
	lib, err := Open(stub.Library(t, `int twice(int x) { return 2 * x; }`), "the hint")
	if err != nil {
		t.Fatal(err)
	}
	var twice func(int32) int32
	if err := lib.Bind("", Func{"twice", &twice}); err != nil {
		t.Fatal(err)
	}
	if got := twice(21); got != 42 {
		t.Errorf("twice(21) = %d", got)
	}
	var other func()
	err = lib.Bind("the hint", Func{"twice", &twice}, Func{"thrice", &other}, Func{"more", &other})
	if err == nil || !strings.Contains(err.Error(), "it lacks thrice, more") ||
		fault.KindOf(err) != fault.Missing || fault.HintOf(err) != "the hint" {
		t.Errorf("missing symbols: %v", err)
	}
	var bad func(map[string]int)
	if err := lib.Bind("", Func{"twice", &bad}); err == nil {
		t.Error("no error for a signature that does not exist in C")
	}
}

// TestOpenBroken opens files that must not reach the dynamic loader, which would map
// the truncated ones, so that the process dies at the first missing page.
func TestOpenBroken(t *testing.T) {
	lib := stub.Library(t, `static char big[1 << 16] = {1}; char *get(void) { return big; }`)
	whole, err := os.ReadFile(lib)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := map[string][]byte{
		"empty": {},
		"text":  []byte("this is no library\n"),
		"magic": whole[:4],
	}
	for _, part := range []int{64, 1000, len(whole) / 4, len(whole) / 2, len(whole) - 1} {
		files["cut at "+string(rune('a'+len(files)))] = whole[:part]
	}
	machine := append([]byte(nil), whole...)
	machine[18] ^= 0xff // e_machine
	files["another machine"] = machine
	program := append([]byte(nil), whole...)
	program[16] = 2 // e_type ET_EXEC
	files["a program"] = program
	noSections := append([]byte(nil), whole[:len(whole)/2]...)
	for i := 40; i < 48; i++ {
		noSections[i] = 0 // e_shoff
	}
	noSections[60], noSections[61], noSections[62], noSections[63] = 0, 0, 0, 0 // e_shnum, e_shstrndx
	files["cut, without sections"] = noSections
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path, "the hint")
		if err == nil || fault.KindOf(err) != fault.Missing || fault.HintOf(err) != "the hint" {
			t.Errorf("%s: %v", name, err)
			continue
		}
		t.Logf("%s: %v", name, err)
	}
	for _, path := range []string{filepath.Join(dir, "none"), dir} {
		if _, err := Open(path, ""); fault.KindOf(err) != fault.Missing {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "libx.so.1"), whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CheckDir(dir, ""); fault.KindOf(err) != fault.Missing {
		t.Errorf("CheckDir: %v", err)
	}
}

func TestStrings(t *testing.T) {
	for _, s := range []string{"", "a", "grün"} {
		if got := GoString(CString(s)); got != s {
			t.Errorf("got %q for %q", got, s)
		}
	}
	if GoString(nil) != "" {
		t.Error("nil is not empty")
	}
}

func TestGrowth(t *testing.T) {
	const size = 64 << 20
	debug.FreeOSMemory() // so that b needs new pages, and nothing else is freed
	g := NewGrowth(100)
	var b []byte
	g.Measure(func() {
		b = make([]byte, size)
		for i := range b {
			b[i] = 1
		}
	})
	if m := g.Memory(); m.Held < size/2 || m.Held > 4*size || m.Peak < m.Held || m.Exact {
		t.Errorf("after %d bytes: %+v", len(b), m)
	}
	if m := NewGrowth(100).Memory(); m.Held != 100 || m.Peak != 100 {
		t.Errorf("without a measurement: %+v", m)
	}
}
