package checkpoint

import (
	"bytes"
	"io"
	"os"
	"slices"
	"testing"
	"unsafe"

	"github.com/lipstream/lipstream/internal/tensor"
)

// residentPages counts the pages of b that are mapped into this process: bits
// 63 and 62 of an entry of /proc/self/pagemap are present and swapped. (The
// page cache, which mincore speaks of, keeps them.)
func residentPages(t *testing.T, b []byte) int {
	t.Helper()
	file, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Skip(err)
	}
	defer file.Close()
	page := os.Getpagesize()
	first := uintptr(unsafe.Pointer(&b[0])) / uintptr(page)
	end := (uintptr(unsafe.Pointer(&b[len(b)-1])))/uintptr(page) + 1
	entries := make([]byte, 8*(end-first))
	if _, err := file.ReadAt(entries, int64(8*first)); err != nil {
		t.Skip(err)
	}
	n := 0
	for i := 7; i < len(entries); i += 8 {
		if entries[i]&0x80 != 0 {
			n++
		}
	}
	return n
}

func TestRelease(t *testing.T) {
	const size = 4 << 20
	specs := []Spec{{"a", tensor.U8, []int{size}}, {"b", tensor.U8, []int{size}}}
	var buf bytes.Buffer
	block := bytes.Repeat([]byte{1, 2, 3, 4}, size/4)
	err := WriteTorch(&buf, nil, "state_dict", specs, func(_ int, w io.Writer) error {
		_, err := w.Write(block)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, buf.Bytes())
	a, b := f.Tensor("a").Data, f.Tensor("b").Data
	same := func() bool { return bytes.Equal(a, block) && bytes.Equal(b, block) }
	pages := size / os.Getpagesize()

	if !same() || residentPages(t, a) < pages || residentPages(t, b) < pages {
		t.Fatalf("before: %d and %d pages", residentPages(t, a), residentPages(t, b))
	}
	f.Release("a", "nope")
	// Pages at the borders are shared with what lies beside the tensor.
	if n := residentPages(t, a); n > 2 {
		t.Errorf("%d pages of the released tensor are resident", n)
	}
	if n := residentPages(t, b); n < pages {
		t.Errorf("only %d pages of the other tensor are resident", n)
	}
	if !same() {
		t.Error("the data changed")
	}
	f.Release()
	if n := residentPages(t, f.data); n > 0 {
		t.Errorf("%d pages are resident after the release of all", n)
	}
	if !same() || !slices.Equal(f.Tensor("a").Data[:4], []byte{1, 2, 3, 4}) {
		t.Error("the data changed")
	}
	f.Release()
	if err := f.Finite(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if n := residentPages(t, f.data); n > 4 {
		t.Errorf("%d pages are resident after a scan", n)
	}
}
