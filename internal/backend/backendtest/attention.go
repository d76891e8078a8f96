package backendtest

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Attention is the size of one attention of a network.
type Attention struct {
	Name                string
	Batch, NQ, NK, C, H int // sequences, queries and keys of each, channels, heads
}

// attentions are the kinds that LatentSync's networks have: the UNet's
// self-attention at its first level (of 256 and 512 pixels) and at its last, its
// attention to audio, its motion modules, the VAE's one wide head, and Whisper's.
var attentions = []Attention{
	{"self", 2, 1024, 1024, 320, 8},
	{"self, 512 pixels", 1, 4096, 4096, 320, 8},
	{"self, deep", 16, 16, 16, 1280, 8},
	{"audio", 2, 1024, 50, 320, 8},
	{"motion", 128, 16, 16, 320, 8},
	{"VAE", 1, 1024, 1024, 512, 1},
	{"VAE, 512 pixels", 1, 4096, 4096, 512, 1},
	{"Whisper", 1, 1500, 1500, 384, 6},
}

// large are attentions whose scores take far more memory than all else: 512 and 256
// MiB. The second is the VAE's, of more pixels than it gets.
var large = []Attention{attentions[1], {"VAE, 724 pixels", 1, 8192, 8192, 512, 1}}

// slow reports whether the attention is only for long tests.
func (n Attention) slow() bool { return n.H == 1 && n.NQ > 1024 }

// scores returns the size of the matrix of scores in float32, in bytes.
func (n Attention) scores() int64 { return 4 * int64(n.Batch) * int64(n.H) * int64(n.NQ) * int64(n.NK) }

// graph writes the attention as internal/network does: layers with
// transposed weights in half before and after it, and in the middle what
// builder.attention writes: ONNX's own operators, or with microsoft those of ONNX
// Runtime. With keep the scores are an output too, so that they cannot be fused
// away; the operators then are ONNX's own.
func (n Attention) graph(microsoft, keep bool, half tensor.DType) *onnx.Graph {
	g := onnx.New(n.Name)
	random := rand.New(rand.NewPCG(1, 2))
	as := func(v onnx.Value, from, to tensor.DType) onnx.Value {
		if from == to {
			return v
		}
		return g.Cast(v, to)
	}
	reshape := func(v onnx.Value, shape ...int) onnx.Value {
		dims := make([]int64, len(shape))
		for i, d := range shape {
			dims[i] = int64(d)
		}
		return g.Op("Reshape", []onnx.Value{v, g.Ints(dims...)})
	}
	transpose := func(v onnx.Value, perm ...int64) onnx.Value {
		return g.Op("Transpose", []onnx.Value{v}, onnx.Ints("perm", perm...))
	}
	linear := func(x onnx.Value, name string) onnx.Value {
		t := tensor.New(half, n.C, n.C)
		put(t, func(int) float32 { return float32(random.NormFloat64() / math.Sqrt(float64(n.C))) })
		w := g.Weight(onnx.Weight{Name: name, Tensor: t})
		x = as(x, tensor.F32, half)
		if microsoft {
			return as(g.Op("Gemm", []onnx.Value{x, w}, onnx.Int("transB", 1)), half, tensor.F32)
		}
		return as(g.Op("MatMul", []onnx.Value{x, transpose(w, 1, 0)}), half, tensor.F32)
	}
	x := g.Input("x", tensor.F32, n.Batch*n.NQ, n.C)
	from := x
	if n.NK != n.NQ {
		from = g.Input("other", tensor.F32, n.Batch*n.NK, n.C)
	}
	q, k, v := linear(x, "q"), linear(from, "k"), linear(from, "v")
	d := n.C / n.H
	scale := float32(1 / math.Sqrt(float64(d)))
	var y onnx.Value
	if microsoft && !keep {
		q, k, v = reshape(q, n.Batch, n.NQ, n.C), reshape(k, n.Batch, n.NK, n.C), reshape(v, n.Batch, n.NK, n.C)
		y = g.OpIn(onnx.Microsoft, "MultiHeadAttention", []onnx.Value{q, k, v}, onnx.Int("num_heads", int64(n.H)), onnx.Float("scale", scale))
	} else {
		q = transpose(reshape(q, n.Batch, n.NQ, n.H, d), 0, 2, 1, 3)
		k = transpose(reshape(k, n.Batch, n.NK, n.H, d), 0, 2, 3, 1)
		v = transpose(reshape(v, n.Batch, n.NK, n.H, d), 0, 2, 1, 3)
		scores := g.Op("MatMul", []onnx.Value{g.Op("Mul", []onnx.Value{q, g.Scalar(scale)}), k})
		scores = g.Op("Softmax", []onnx.Value{scores}, onnx.Int("axis", -1))
		if keep {
			g.Output("scores", scores, tensor.F32, n.Batch, n.H, n.NQ, n.NK)
		}
		y = g.Op("MatMul", []onnx.Value{scores, v})
		y = transpose(y, 0, 2, 1, 3)
	}
	y = linear(reshape(y, n.Batch*n.NQ, n.C), "out")
	g.Output("y", y, tensor.F32, n.Batch*n.NQ, n.C)
	return g
}

func put(t *tensor.Tensor, f func(i int) float32) {
	for i := range t.Len() {
		v := f(i)
		switch t.DType {
		case tensor.F32:
			t.F32()[i] = v
		case tensor.BF16:
			b := math.Float32bits(v)
			t.Data[2*i], t.Data[2*i+1] = byte(b>>16), byte(b>>24)
		}
	}
}

// FusedAttention checks that the backend says that its CPU fuses attention, and
// that it does: the compiled graph has the named operator in the place of each
// attention, and neither a Softmax nor a MatMul. No matrix of scores exists.
func FusedAttention(t *testing.T, b backend.Backend, microsoft bool, p backend.Precision, fused string) {
	SkipShort(t)
	list, err := b.Devices()
	if err != nil || !slices.ContainsFunc(list, func(d backend.Device) bool { return d.ID == "cpu" && d.FusesAttention }) {
		t.Error("the backend does not say that its CPU fuses attention")
	}
	types := func(t *testing.T, n Attention, keep bool) []string {
		s, err := b.Load(t.Context(), backend.Model{Name: n.Name, Graph: n.graph(microsoft, keep, p.DType())},
			backend.Options{Device: "cpu", Precision: p, Threads: 2, Profile: true})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		run(t, s, noise(s))
		var list []string
		for _, n := range profiled(t, s) {
			list = append(list, n.Type)
		}
		t.Log(strings.Join(list, " "))
		return list
	}
	for _, n := range attentions {
		t.Run(n.Name, func(t *testing.T) {
			if n.slow() && !long() {
				t.Skip("only with " + LongVariable)
			}
			list := types(t, n, false)
			if slices.Contains(list, "Softmax") || slices.Contains(list, "MatMul") || !slices.Contains(list, fused) {
				t.Errorf("the attention is not fused to a %s: %v", fused, list)
			}
		})
	}
	t.Run("unfused", func(t *testing.T) { // the check finds a Softmax if there is one
		if list := types(t, attentions[0], true); !slices.Contains(list, "Softmax") || !slices.Contains(list, "MatMul") {
			t.Errorf("no Softmax in %v", list)
		}
	})
}

// FusedAttentionMemory checks, in a process for each of the large attentions, that
// computing it takes the memory of its tokens and a small part of what its scores
// would take, in precision p. The test is skipped if the CPU does not compute in
// p.
func FusedAttentionMemory(t *testing.T, open func(t *testing.T) backend.Backend, microsoft bool, p backend.Precision) {
	SkipShort(t)
	for _, n := range large {
		t.Run(n.Name, func(t *testing.T) {
			if n.slow() && !long() {
				t.Skip("only with " + LongVariable)
			}
			if !InChild(t) {
				return
			}
			b := open(t)
			defer b.Close()
			list, err := b.Devices()
			if err != nil {
				t.Fatal(err)
			}
			if p != backend.F32 && list[0].Half != p {
				t.Skipf("this CPU does not compute in %s", p)
			}
			s, err := b.Load(t.Context(), backend.Model{Name: n.Name, Graph: n.graph(microsoft, false, p.DType())},
				backend.Options{Device: "cpu", Precision: p, Threads: 2})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			in := noise(s)
			_, before := residentPeak(t)
			run(t, s, in)
			_, after := residentPeak(t)
			size := int64(p.DType().Size())
			tokens := size * int64(n.NQ) * int64(n.C) // the size of q, k, v and so on
			scores := n.scores() / 4 * size
			t.Logf("grown by %d MiB; the scores would take %d MiB, the tokens take %d MiB", (after-before)>>20, scores>>20, tokens>>20)
			if after-before > 12*tokens+scores/8 {
				t.Errorf("the process grew by %d bytes; the scores would take %d", after-before, scores)
			}
		})
	}
}

// noise returns inputs for a session.
func noise(s backend.Session) map[string]*tensor.Tensor {
	random := rand.New(rand.NewPCG(3, 4))
	in := map[string]*tensor.Tensor{}
	for _, p := range s.Inputs() {
		in[p.Name] = tensor.New(p.DType, p.Shape...)
		put(in[p.Name], func(int) float32 { return float32(random.NormFloat64()) })
	}
	return in
}

// profiled returns the nodes of a session that was loaded with Options.Profile.
func profiled(t testing.TB, s backend.Session) []backend.Node {
	t.Helper()
	p, ok := s.(backend.Profiler)
	if !ok {
		t.Fatalf("%T is not a Profiler", s)
	}
	nodes, err := p.Nodes()
	if err != nil {
		t.Fatal(err)
	}
	return nodes
}
