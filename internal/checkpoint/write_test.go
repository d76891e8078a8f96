package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/tensor"
)

// sample is a set of tensors with every type, a scalar, an empty tensor, and
// sizes that would misalign what follows.
var sample = []Spec{
	{"a.bytes", tensor.U8, []int{3}},
	{"a.half", tensor.F16, []int{3, 1}},
	{"b.weight", tensor.F32, []int{2, 3, 4}},
	{"b.scalar", tensor.F32, nil},
	{"c.brain", tensor.BF16, []int{5}},
	{"c.index", tensor.I64, []int{1, 2}},
	{"c.empty", tensor.F32, []int{0, 7}},
}

// content writes the bytes of the i-th tensor of sample.
func content(i int) []byte {
	b := make([]byte, sample[i].Size())
	for k := range b {
		b[k] = byte(i*50 + k)
	}
	return b
}

func fillSample(i int, w io.Writer) error {
	b := content(i)
	if _, err := w.Write(b[:len(b)/2]); err != nil { // in two pieces
		return err
	}
	_, err := w.Write(b[len(b)/2:])
	return err
}

var sampleTop = []Entry{
	{"global_step", 123}, {"lr", 1e-5}, {"best", true}, {"big", int64(-1) << 40}, {"none", nil},
	{"dims", []Entry{{"inner", []Entry{{"name", "tiny"}}}, {"n_mels", 80}}},
}

func torchSample(t testing.TB, stateKey string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteTorch(&b, sampleTop, stateKey, sample, fillSample); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func safetensorsSample(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteSafetensors(&b, map[string]string{"format": "pt"}, sample, fillSample); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// store writes a file and returns its path.
func store(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// open opens data as a checkpoint.
func open(t testing.TB, data []byte) *File {
	t.Helper()
	f, err := Open(store(t, "model.pt", data))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// checkSample compares an open file with sample.
func checkSample(t *testing.T, f *File, data []byte) {
	t.Helper()
	for i, s := range sample {
		got := f.Tensor(s.Name)
		if got == nil {
			t.Fatalf("%s is missing", s.Name)
		}
		if got.DType != s.DType || !slices.Equal(got.Shape, s.Shape) || !bytes.Equal(got.Data, content(i)) {
			t.Errorf("%s: %v %v %v", s.Name, got.DType, got.Shape, got.Data)
		}
		at := f.Offset(s.Name)
		if !bytes.Equal(data[at:at+s.Size()], content(i)) {
			t.Errorf("%s is not at %d", s.Name, at)
		}
		if f.Format() == formatTorch && at%torchAlign != 0 || at%int64(s.DType.Size()) != 0 {
			t.Errorf("%s at %d is not aligned", s.Name, at)
		}
	}
	if len(f.copies) != 0 {
		t.Error("aligned tensors were copied")
	}
}

func TestTorchRoundTrip(t *testing.T) {
	for _, key := range []string{"state_dict", "model_state_dict", ""} {
		data := torchSample(t, key)
		f := open(t, data)
		checkSample(t, f, data)
		for i, n := range f.Names() {
			if n != sample[i].Name {
				t.Errorf("tensor %d is %s", i, n)
			}
		}
		for k, want := range map[string]any{
			"global_step": int64(123), "lr": 1e-5, "best": true, "big": int64(-1) << 40,
			"dims.n_mels": int64(80), "dims.inner.name": "tiny", "none": nil, "state_dict": nil,
		} {
			if got, ok := f.Scalar(k); got != want || ok != (want != nil) {
				t.Errorf("scalar %s is %v", k, got)
			}
		}
	}
}

func TestSafetensorsRoundTrip(t *testing.T) {
	data := safetensorsSample(t)
	f := open(t, data)
	checkSample(t, f, data)
	if got, _ := f.Scalar("format"); got != "pt" || f.Format() != "safetensors" {
		t.Errorf("metadata %v, format %s", got, f.Format())
	}
}

// TestModulePrefix: the prefix of DataParallel goes only where all have it.
func TestModulePrefix(t *testing.T) {
	write := func(names ...string) *File {
		var specs []Spec
		for _, n := range names {
			specs = append(specs, Spec{n, tensor.U8, []int{1}})
		}
		var b bytes.Buffer
		err := WriteTorch(&b, nil, "state_dict", specs, func(i int, w io.Writer) error {
			_, err := w.Write([]byte{byte(i)})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return open(t, b.Bytes())
	}
	f := write("module.b", "module.a")
	if !slices.Equal(f.Names(), []string{"b", "a"}) || f.Tensor("a").Data[0] != 1 || f.Tensor("module.a") != nil {
		t.Errorf("names %v", f.Names())
	}
	if f := write("module.b", "a"); !slices.Equal(f.Names(), []string{"module.b", "a"}) {
		t.Errorf("names %v", f.Names())
	}
}

func TestWriteErrors(t *testing.T) {
	one := []Spec{{"w", tensor.F32, []int{2}}}
	give := func(n int) func(int, io.Writer) error {
		return func(_ int, w io.Writer) error { _, err := w.Write(make([]byte, n)); return err }
	}
	full := errors.New("disk full")
	for _, c := range []struct {
		top   []Entry
		specs []Spec
		fill  func(int, io.Writer) error
		want  string
	}{
		{nil, nil, give(8), "0 tensors are not between"},
		{nil, one, give(7), `tensor "w": 1 bytes are missing of its shape`},
		{nil, one, give(9), `tensor "w": more bytes were written than its shape has`},
		{nil, one, func(int, io.Writer) error { return full }, `tensor "w": disk full`},
		{nil, append(one, one...), give(8), `tensor "w" occurs twice`},
		{nil, []Spec{{"w", 0, nil}}, give(8), "has an unknown type"},
		{nil, []Spec{{"w", tensor.F32, []int{-1}}}, give(8), "shape [-1] is impossible"},
		{nil, []Spec{{"w", tensor.F32, []int{1 << 40, 1 << 40}}}, give(8), "is impossible"},
		{nil, []Spec{{"", tensor.F32, nil}}, give(8), "cannot be the name of a tensor"},
		{[]Entry{{"k", 1i}}, one, give(8), "a complex128 cannot be written"},
		{[]Entry{{"state_dict", 1}}, one, give(8), `"state_dict" occurs twice`},
		{[]Entry{{"k", 1}, {"k", 2}}, one, give(8), `"k" occurs twice`},
	} {
		err := WriteTorch(io.Discard, c.top, "state_dict", c.specs, c.fill)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
		if c.top != nil {
			continue
		}
		err = WriteSafetensors(io.Discard, nil, c.specs, c.fill)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("safetensors: got %v, want %s", err, c.want)
		}
	}
	if err := WriteTorch(io.Discard, []Entry{{"w", 1}}, "", one, give(8)); err == nil {
		t.Error("a tensor and a scalar of one name")
	}
}

var zeros = make([]byte, 1<<20)

// sparse writes to a file and leaves holes for blocks of zeros.
type sparse struct {
	f    *os.File
	size int64
}

func (s *sparse) Write(p []byte) (int, error) {
	if len(p) > len(zeros) || !bytes.Equal(p, zeros[:len(p)]) {
		if _, err := s.f.WriteAt(p, s.size); err != nil {
			return 0, err
		}
	}
	s.size += int64(len(p))
	return len(p), nil
}

// TestZip64 writes a member of more than 4 GiB and another one after it. The file is sparse:
// it occupies a few pages.
func TestZip64(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("computes the checksum of 4 GiB")
	}
	path := filepath.Join(t.TempDir(), "big.pt")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	block := len(zeros)
	specs := []Spec{{"big", tensor.U8, []int{4097, block}}, {"last", tensor.F32, []int{2}}}
	w := &sparse{f: file}
	err = WriteTorch(w, nil, "state_dict", specs, func(i int, w io.Writer) error {
		if i == 1 {
			return binary.Write(w, binary.LittleEndian, []float32{1.5, -2})
		}
		for range specs[0].Shape[0] {
			if _, err := w.Write(zeros); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	last := f.Tensor("last")
	if !slices.Equal(last.F32(), []float32{1.5, -2}) || f.Offset("last") < 1<<32 || f.Offset("last")%torchAlign != 0 {
		t.Errorf("last is %v at %d", last.F32(), f.Offset("last"))
	}
	if big := f.Tensor("big"); len(big.Data) != 4097<<20 || big.Data[len(big.Data)-1] != 0 {
		t.Error("the big tensor is wrong")
	}
}
