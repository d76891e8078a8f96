package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

func openFile(t testing.TB, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// TestWhisper compares every tensor with what PyTorch reads (testdata/make.py).
func TestWhisper(t *testing.T) {
	f := openFile(t, "testdata/tiny_whisper_fp16.pt")
	var want map[string][3]any
	b, err := os.ReadFile("testdata/tiny_whisper_fp16.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	if len(f.Names()) != len(want) || f.Names()[0] != "encoder.positional_embedding" {
		t.Errorf("%d names, the first is %s; want %d", len(f.Names()), f.Names()[0], len(want))
	}
	for name, w := range want {
		got := f.Tensor(name)
		if got == nil {
			t.Errorf("%s is missing", name)
			continue
		}
		sum := sha256.Sum256(got.Data)
		var shape []int
		for _, d := range w[1].([]any) {
			shape = append(shape, int(d.(float64)))
		}
		if got.DType != tensor.F16 || w[0] != "float16" || !slices.Equal(got.Shape, shape) || hex.EncodeToString(sum[:]) != w[2] {
			t.Errorf("%s: %v %v, want %v", name, got.DType, got.Shape, w)
		}
	}
	if n, _ := f.Scalar("dims.n_audio_ctx"); n != int64(1500) {
		t.Errorf("dims.n_audio_ctx is %v", n)
	}
	if err := f.Finite(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// TestGoldens reads the checkpoints of the golden runs of LatentSync, which
// PyTorch and safetensors wrote.
func TestGoldens(t *testing.T) {
	golden := filepath.FromSlash("../../testdata/latentsync/")
	unet := openFile(t, filepath.Join(golden, "models/latentsync_unet.pt"))
	var keys map[string][]int
	b, err := os.ReadFile(filepath.Join(golden, "unet/keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &keys); err != nil {
		t.Fatal(err)
	}
	var want []Want
	for name, shape := range keys {
		want = append(want, Want{Name: name, Shape: shape})
	}
	if err := unet.Check("the UNet", want, nil); err != nil || len(want) != 1244 {
		t.Errorf("%d keys: %v", len(want), err)
	}
	if n, _ := unet.Scalar("global_step"); n != int64(123) {
		t.Errorf("global_step is %v", n)
	}
	half := openFile(t, "testdata/tiny_whisper_fp16.pt")
	full := openFile(t, filepath.Join(golden, "models/whisper/tiny.pt"))
	if !slices.Equal(half.Names(), full.Names()) {
		t.Error("the two Whisper files have different names")
	}
	for _, name := range half.Names() { // the half file is the full one, rounded
		h, v := half.Tensor(name), full.Tensor(name)
		rounded := make([]byte, len(h.Data))
		if n := tensor.F32ToF16(rounded, v.F32()); n != 0 || !slices.Equal(rounded, h.Data) {
			t.Errorf("%s: rounding differs from PyTorch's", name)
		}
	}
	files := 0
	err = filepath.WalkDir(golden, func(path string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".safetensors" {
			return err
		}
		files++
		f := openFile(t, path)
		if f.Format() != "safetensors" || len(f.Names()) == 0 {
			t.Errorf("%s: %s %v", path, f.Format(), f.Names())
		}
		if err := f.Finite(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if strings.HasSuffix(path, "_model.safetensors") {
			if w := f.Tensor("decoder.conv_in.weight"); w == nil || !slices.Equal(w.Shape[1:], []int{4, 3, 3}) {
				t.Errorf("%s: decoder.conv_in.weight is %v", path, w)
			}
		}
		return nil
	})
	if err != nil || files < 10 {
		t.Errorf("%d safetensors files: %v", files, err)
	}
}

// TestPyTorchFiles reads what PyTorch and safetensors wrote (testdata/make.py).
func TestPyTorchFiles(t *testing.T) {
	for _, name := range []string{"optimizer", "protocol3", "protocol4", "protocol5"} {
		f := openFile(t, "testdata/"+name+".pt")
		want := []string{"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"}
		if !slices.Equal(f.Names(), want) || !slices.Equal(f.Tensor("0.weight").Shape, []int{4, 3}) ||
			f.Tensor("1.running_var").F32()[3] != 1 || f.Tensor("1.num_batches_tracked").DType != tensor.I64 {
			t.Errorf("%s: %v", name, f.Names())
		}
		if n, _ := f.Scalar("global_step"); n != int64(5) {
			t.Errorf("%s: global_step is %v", name, n)
		}
	}
	f := openFile(t, "testdata/tied.pt")
	if f.Offset("a") != f.Offset("tied") || f.Offset("rows") != f.Offset("a")+16 ||
		!slices.Equal(f.Tensor("rows").F32(), []float32{4, 5, 6, 7, 8, 9, 10, 11}) || !slices.Equal(f.Tensor("p").F32(), []float32{0, 1, 2, 3}) {
		t.Error("tied weights, a part, or a parameter are wrong")
	}
	f = openFile(t, "testdata/small.safetensors")
	for _, name := range []string{"a", "h", "b"} {
		if v := f.Tensor(name).ToF32(); !slices.Equal(v.Shape, []int{3, 4}) || v.F32()[11] != 11 {
			t.Errorf("%s is %v %v", name, v.Shape, v.F32())
		}
	}
	if f.Tensor("i").ToF32().F32()[0] != 7 || f.Tensor("u").Data[2] != 3 {
		t.Error("integers are wrong")
	}
}

// TestMisaligned: a safetensors file may have any offsets; data for the reader
// is aligned all the same.
func TestMisaligned(t *testing.T) {
	data := safetensorsFile(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}}`,
		"\x07\x00\x00\x80\x3f\x00\x00\x00\x40")
	f := open(t, data)
	first := f.Tensor("b")
	if !slices.Equal(first.F32(), []float32{1, 2}) || len(f.copies) != 1 {
		t.Fatalf("%v, %d copies", first.F32(), len(f.copies))
	}
	if second := f.Tensor("b"); &second.Data[0] != &first.Data[0] {
		t.Error("copied twice")
	}
	f.Release("b")
	if len(f.copies) != 0 || !slices.Equal(f.Tensor("b").F32(), first.F32()) {
		t.Error("Release keeps the copy, or the tensor is lost")
	}
}

func TestClosed(t *testing.T) {
	f, err := Open(store(t, "m.pt", torchSample(t, "")))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	f.Release()
	if f.Tensor("b.weight") != nil || len(f.Names()) != len(sample) || f.Offset("nope") != -1 {
		t.Error("a closed file gives data")
	}
	if err := f.Finite(t.Context(), nil); fault.KindOf(err) != fault.Internal {
		t.Error(err)
	}
}

func TestCannotOpen(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(filepath.Join(dir, "absent.pt"))
	if fault.KindOf(err) != fault.Missing || !strings.HasSuffix(err.Error(), "absent.pt: no such file") {
		t.Error(err)
	}
	if _, err = Open(dir); fault.KindOf(err) != fault.Input || !strings.HasSuffix(err.Error(), ": it is a directory") {
		t.Error(err)
	}
	if _, ok := errors.AsType[*fault.Error](err); !ok {
		t.Errorf("a bare error: %v", err)
	}
}
