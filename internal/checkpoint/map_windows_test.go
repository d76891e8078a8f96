package checkpoint

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/shirou/gopsutil/v4/process"
	"golang.org/x/sys/windows"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/tensor"
)

// writeBlock writes a checkpoint with one tensor of that many bytes, all of value v.
func writeBlock(t *testing.T, path string, size int, v byte) {
	t.Helper()
	err := disk.Write(path, 0o644, func(w io.Writer) error {
		return WriteSafetensors(w, nil, []Spec{{"a", tensor.U8, []int{size}}}, func(_ int, w io.Writer) error {
			_, err := w.Write(bytes.Repeat([]byte{v}, size))
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// private returns the memory that this process has committed.
func private(t *testing.T) int64 {
	t.Helper()
	self, err := process.NewProcess(int32(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	info, err := self.MemoryInfo()
	if err != nil {
		t.Fatal(err)
	}
	return int64(info.VMS)
}

// TestMapped: an open checkpoint takes no memory of its own, whether its weights are
// read or not, and gives the address space back.
func TestMapped(t *testing.T) {
	const size = 256 << 20
	path := filepath.Join(t.TempDir(), "Gewichte – 重み.safetensors")
	writeBlock(t, path, size, 7)
	before := private(t)
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	data := f.Tensor("a").Data
	for range 2 {
		if n := bytes.Count(data, []byte{7}); n != size {
			t.Errorf("%d bytes of %d are right", n, size)
		}
		if used := private(t) - before; used > size/4 {
			t.Errorf("%d bytes of private memory for %d mapped ones", used, size)
		}
		f.Release("a")
		f.Release()
	}
	var info windows.MemoryBasicInformation
	query := func() {
		if err := windows.VirtualQuery(uintptr(unsafe.Pointer(unsafe.SliceData(data))), &info, unsafe.Sizeof(info)); err != nil {
			t.Fatal(err)
		}
	}
	if query(); info.State != windows.MEM_COMMIT || info.Protect != windows.PAGE_READONLY {
		t.Errorf("open: %+v", info)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if query(); info.State == windows.MEM_COMMIT {
		t.Errorf("closed: %+v", info)
	}
}

// TestReplaceMapped: a checkpoint that is open is not replaced or shortened, and the
// error says that it is open. Afterwards it can be.
func TestReplaceMapped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.safetensors")
	writeBlock(t, path, 1<<20, 1)
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, change := range map[string]func() error{
		"replace": func() error { return disk.WriteFile(path, []byte("new"), 0o644) },
		"shorten": func() error { return os.Truncate(path, 10) },
	} {
		if err := change(); !disk.IsBusy(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := bytes.Count(f.Tensor("a").Data, []byte{1}); n != 1<<20 {
		t.Errorf("%d bytes are right", n)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	writeBlock(t, path, 1<<20, 2)
	f, err = Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Tensor("a").Data[0]; got != 2 {
		t.Errorf("after replacing: %d", got)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
