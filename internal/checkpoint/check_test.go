package checkpoint

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

func sampleWants() []Want {
	var want []Want
	for _, s := range sample {
		if s.DType != tensor.U8 && s.DType != tensor.I64 {
			want = append(want, Want{Name: s.Name, Shape: s.Shape})
		}
	}
	return want
}

func TestCheck(t *testing.T) {
	f := open(t, torchSample(t, "state_dict"))
	integers := func(name string) bool { return name == "a.bytes" || name == "c.index" }
	if err := f.Check("the sample", sampleWants(), integers); err != nil {
		t.Error(err)
	}
	renamed := sampleWants()
	renamed[1] = Want{Name: "new.weight", Aliases: []string{"older", "b.weight"}, Shape: []int{6, 4, 1}, AnyShape: [][]int{{24}, {2, 3, 4}}}
	if err := f.Check("the sample", renamed, integers); err != nil {
		t.Error(err)
	}
	name, found := f.Find(renamed[1])
	if name != "b.weight" || !slices.Equal(found.Shape, []int{6, 4, 1}) || !bytes.Equal(found.Data, content(2)) {
		t.Errorf("found %s %v", name, found)
	}
	if name, found := f.Find(Want{Name: "b.weight", Shape: []int{1}}); name != "b.weight" || found != nil {
		t.Errorf("found %s %v", name, found)
	}
	if name, found := f.Find(Want{Name: "nope"}); name != "" || found != nil {
		t.Errorf("found %s %v", name, found)
	}
}

func TestMismatch(t *testing.T) {
	f := open(t, torchSample(t, "state_dict"))
	want := []Want{
		{Name: "z", Shape: []int{1}}, {Name: "y"}, {Name: "x"}, {Name: "k", Aliases: []string{"l"}},
		{Name: "c.index", Shape: []int{1, 2}},
		{Name: "c.brain", Shape: []int{5, 1}}, {Name: "b.weight", Shape: []int{4, 3, 2}},
		{Name: "a.half", Shape: []int{3, 1}},
	}
	err := f.Check("the UNet", want, func(name string) bool { return strings.HasPrefix(name, "c.") })
	m, ok := errors.AsType[*Mismatch](err)
	if !ok || fault.KindOf(err) != fault.Input {
		t.Fatalf("got %v", err)
	}
	if !slices.Equal(m.Missing, []string{"k", "x", "y", "z"}) || !slices.Equal(m.Unexpected, []string{"a.bytes", "b.scalar"}) ||
		!slices.Equal(m.Misshapen, []string{"b.weight [2 3 4] instead of [4 3 2]", "c.brain [5] instead of [5 1]"}) ||
		!slices.Equal(m.BadType, []string{"c.index i64"}) {
		t.Errorf("%+v", m)
	}
	const text = ": the tensors are not those of the UNet: 4 missing (k, x, y, ...), 2 unexpected (a.bytes, b.scalar), " +
		"2 of the wrong shape (b.weight [2 3 4] instead of [4 3 2], c.brain [5] instead of [5 1]), 1 not floating-point (c.index i64)"
	if !strings.HasSuffix(err.Error(), text) {
		t.Error(err)
	}
	for _, c := range []struct {
		want []Want
		hint string
	}{
		{want, "use a checkpoint made for this version of the UNet"},
		{want[:3], "this file belongs to another network: check which checkpoint was given for the UNet"},
		{want[4:5], "this file belongs to another network"}, // nothing fits
		{append(sampleWants(), want[4]), "use the checkpoint with float32 or float16 weights"},
		{sampleWants(), "use a checkpoint with the weights of the UNet alone"},
	} {
		if err := f.Check("the UNet", c.want, nil); !strings.HasPrefix(fault.HintOf(err), c.hint) {
			t.Errorf("%v: hint %s", err, fault.HintOf(err))
		}
	}
}

func TestFinite(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	values := map[string][]float32{"good": {1, -2, math.MaxFloat32}, "bad": {0, 1, nan, 3, inf}}
	half := []byte{0, 0x3c, 0xff, 0x7b, 0, 0xfc} // 1, 65504, -Inf
	brain := []byte{0x80, 0x3f, 0xc0, 0x7f}      // 1, NaN
	// More than one piece, with the bad value in the second.
	long := make([]byte, scanBytes+64)
	binary.LittleEndian.PutUint32(long[scanBytes+8:], 0x7f800000)
	specs := []Spec{
		{"good", tensor.F32, []int{3}}, {"bad", tensor.F32, []int{5}}, {"half", tensor.F16, []int{3}},
		{"brain", tensor.BF16, []int{2}}, {"int", tensor.I64, []int{1}}, {"long", tensor.F32, []int{len(long) / 4}},
	}
	var b bytes.Buffer
	err := WriteSafetensors(&b, nil, specs, func(i int, w io.Writer) error {
		switch name := specs[i].Name; name {
		case "half":
			_, err := w.Write(half)
			return err
		case "brain":
			_, err := w.Write(brain)
			return err
		case "int":
			return binary.Write(w, binary.LittleEndian, int64(-1))
		case "long":
			_, err := w.Write(long)
			return err
		default:
			return binary.Write(w, binary.LittleEndian, values[name])
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, b.Bytes())
	for name, want := range map[string]string{
		"good": "", "int": "",
		"bad":   `tensor "bad" has 2 values that are not finite, the first at index 2 of 5`,
		"half":  `tensor "half" has 1 values that are not finite, the first at index 2 of 3`,
		"brain": `tensor "brain" has 1 values that are not finite, the first at index 1 of 2`,
		"long":  `tensor "long" has 1 values that are not finite, the first at index 2097154 of 2097168`,
	} {
		err := f.Finite(t.Context(), nil, name)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasSuffix(err.Error(), want) || fault.KindOf(err) != fault.Input) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.Finite(t.Context(), nil, "nope"); fault.KindOf(err) != fault.Internal {
		t.Error(err)
	}

	g := open(t, torchSample(t, ""))
	total := int64(0)
	for i := range sample {
		total += sample[i].Size()
	}
	last := int64(0)
	err = g.Finite(t.Context(), func(done, of int64) {
		if done <= last || of != total {
			t.Errorf("%d of %d after %d", done, of, last)
		}
		last = done
	}, g.Names()...)
	if err != nil || last != total {
		t.Errorf("%d of %d bytes, %v", last, total, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	pieces := 0
	err = f.Finite(ctx, func(done, total int64) { pieces++; cancel() }, "long")
	if fault.KindOf(err) != fault.Cancelled || pieces != 1 {
		t.Errorf("%d pieces, %v", pieces, err)
	}
}

func BenchmarkFinite(b *testing.B) {
	data := make([]byte, 64<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		notFinite(tensor.F32, data)
	}
}
