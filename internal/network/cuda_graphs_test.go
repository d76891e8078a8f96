package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// computed counts the operators of graphs that depend on an input. The others are computed
// when a session is created.
func computed(graphs ...*onnx.Graph) map[string]int {
	count := map[string]int{}
	for _, g := range graphs {
		varies := map[onnx.Value]bool{}
		for _, name := range g.InputNames() {
			varies[onnx.Value(name)] = true
		}
		for _, n := range g.Nodes {
			if slices.ContainsFunc(n.In, func(v onnx.Value) bool { return varies[v] }) {
				varies[n.Out] = true
				count[n.Op]++
			}
		}
	}
	return count
}

// TestCUDAOperators counts the operators of the published networks in f16. Nothing is
// converted but the inputs and outputs, and nothing is transposed but these, and the tokens
// of the motion modules.
func TestCUDAOperators(t *testing.T) {
	u, err := NewUNet(Published(), UNetShape{Batch: 2, Frames: 16, Latent: 64, Tokens: 50}, nil, forCUDA(tensor.F16))
	if err != nil {
		t.Fatal(err)
	}
	const (
		resnets      = 8 + 2 + 12
		widened      = 2 + 12 // resnets with another number of channels in than out
		transformers = 6 + 1 + 9
		motions      = 8 + 12
		blocks       = transformers + motions // of two attentions and a GEGLU
		audio        = 5                      // graphs with audio
	)
	vae := coders(t, PublishedVAE(), 2, 64, nil, forCUDA(tensor.F16))
	for _, c := range []struct {
		name   string
		graphs []*onnx.Graph
		want   map[string]int
	}{
		{"UNet", u.Graphs, map[string]int{
			"Cast":                  3 + audio, // and sample, time, noise
			"Transpose":             2 + 2*motions,
			"NhwcConv":              2*resnets + widened + 3 + 3 + 2, // and down, up, in, out
			"GroupNorm":             resnets + transformers + motions + 1,
			"SkipGroupNorm":         resnets,
			"LayerNormalization":    3 * blocks,
			"MultiHeadAttention":    2 * blocks,
			"BiasSplitGelu":         blocks,
			"BiasAdd":               resnets + 3*blocks,
			"Gemm":                  blocks*(4+4+2+2) + resnets + 2, // attentions, GEGLU, projections; time
			"QuickGelu":             2,                              // time
			"Add":                   transformers + motions + 2*motions,
			"Concat":                12,
			"Resize":                3,
			"InstanceNormalization": 0, "Conv": 0, "Mul": 0, "Gelu": 0, "MatMul": 0, "Softmax": 0, "Sigmoid": 0, "Pad": 0,
		}},
		{"VAE", vae, map[string]int{
			"Cast": 5, "Transpose": 5, "Slice": 2 + 3, // mean and logvar; down
			"MultiHeadAttention": 2, "Gemm": 8, "Resize": 3,
			"InstanceNormalization": 0, "Conv": 0, "Mul": 0, "QuickGelu": 0, "Pad": 0,
		}},
	} {
		got := computed(c.graphs...)
		for op, want := range c.want {
			if got[op] != want {
				t.Errorf("%s: %d %s instead of %d", c.name, got[op], op, want)
			}
		}
	}
	// The estimate of the memory follows the shapes through these operators.
	for name, g := range map[string]*onnx.Graph{"noise": u.Graphs[len(u.Graphs)-1], "mean": vae[0]} {
		n := map[string]int{"noise": 2 * 16, "mean": 2}[name]
		if got := g.Size(name); got != int64(4*n*4*64*64) {
			t.Errorf("%s has %d bytes", name, got)
		}
	}
	if got := u.Graphs[1].Size("skip_9"); got != 2*2*16*1280*8*8 {
		t.Errorf("skip_9 has %d bytes", got)
	}
}

// TestManySequences divides an attention of more sequences than CUDA's kernels take.
func TestManySequences(t *testing.T) {
	for n, want := range map[int]int{1: 1, 65535: 1, 65536: 2, 65537: 65537, 131072: 4, 196605: 3} {
		if got := parts(n, maxSequences); got != want {
			t.Errorf("%d sequences in %d parts instead of %d", n, got, want)
		}
	}
	const batch, nq, nk, heads, c = 65536, 4, 3, 2, 8
	b := newBuilder("attention", nil, forCUDA(tensor.F32))
	in := func(name string, n int) onnx.Value { return b.Input(name, tensor.F32, batch*n, c) }
	b.Output("y", b.attention(in("q", nq), in("k", nk), in("v", nk), batch, nq, nk, heads, c), tensor.F32, batch*nq, c)
	if got := computed(b.Graph)["MultiHeadAttention"]; got != 2 {
		t.Errorf("%d attentions", got)
	}

	backend := openBackend(t, onnxruntime.Name)
	in = func(name string, n int) onnx.Value { return b.Input(name, tensor.F32, 6*n, c) }
	inputs := Flow{"q": noise(1, 6*nq, c), "k": noise(2, 6*nk, c), "v": noise(3, 6*nk, c)}
	var y [2]*tensor.Tensor
	for i, attend := range []func(q, k, v onnx.Value) onnx.Value{
		func(q, k, v onnx.Value) onnx.Value { return b.attention(q, k, v, 6, nq, nk, heads, c) },
		func(q, k, v onnx.Value) onnx.Value { return b.attentions(q, k, v, 3, 6, nq, nk, heads, c) },
	} {
		b = b.fork("attention")
		b.Output("y", attend(in("q", nq), in("k", nk), in("v", nk)), tensor.F32, 6*nq, c)
		flow := maps.Clone(inputs)
		runAll(t, backend, flow, b.Graph)
		y[i] = flow["y"]
	}
	same(t, "an attention in three parts against one", y[1], y[0])
}

// layers builds parts of the published networks at their widths, with few pixels. weights
// may be nil.
func layers(weights *checkpoint.File, to Target) (list []Operator, wants []checkpoint.Want) {
	const frames, tokens, side = 2, 5, 4
	b := newBuilder("", weights, to)
	begin := func(name string, m stack) onnx.Value {
		b = b.fork(name)
		list = append(list, Operator{name, b.Graph, map[string][]int{"x": {m.n, m.c, m.h, m.w}}})
		return b.inputMaps("x", m)
	}
	for _, c := range []struct{ in, out int }{{960, 320}, {320, 640}} {
		m := stack{frames, c.in, side, side}
		x := begin(fmt.Sprintf("a layer from %d to %d channels", c.in, c.out), m)
		u := &unet{UNetConfig: Published(), UNetShape: UNetShape{Batch: 1, Frames: frames, Tokens: tokens}, b: b}
		u.time = b.input("time", 1, u.timeDim())
		u.audio = b.reshape(b.input("audio", frames, tokens, u.AudioDim), frames*tokens, u.AudioDim)
		x, m = u.layer(x, m, b.Name(), 0, c.out, true)
		b.outputMaps(OperatorOutput, x, m)
		inputs := list[len(list)-1].Inputs
		inputs["time"], inputs["audio"] = []int{1, u.timeDim()}, []int{frames, tokens, u.AudioDim}
	}
	m := stack{frames, 1280, side, side}
	x := begin("1280 channels", m)
	u := &unet{b: b}
	x = b.toTokens(b.groupNorm(x, "norm", m, frames, epsResnet), m)
	x = u.feedForward(x, b.layerNorm(x, "layer", m.c), "ff", m.c)
	b.outputMaps(OperatorOutput, b.toMaps(b.attention(x, x, x, m.n, m.h*m.w, m.h*m.w, 8, m.c), m), m)

	m = stack{frames, 512, side, side}
	v := &vae{VAEConfig: PublishedVAE(), builder: b}
	x = begin("VAE", m)
	v.builder = b
	x = v.halve(v.double(v.middle(x, m, "middle")), "down", 512)
	b.outputMaps(OperatorOutput, x, m)
	return list, b.wanted.list
}

// randomWeights returns a checkpoint in float16. Matrices keep the size of what they are
// multiplied with, norms have weights around 1.
func randomWeights(t *testing.T, wants []checkpoint.Want) *checkpoint.File {
	t.Helper()
	pool := noise(7, 1<<16+1)
	specs := make([]checkpoint.Spec, len(wants))
	for i, w := range wants {
		specs[i] = checkpoint.Spec{Name: w.Name, DType: tensor.F16, Shape: w.Shape}
	}
	path := filepath.Join(t.TempDir(), "random.safetensors")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	err = checkpoint.WriteSafetensors(f, nil, specs, func(i int, to io.Writer) error {
		shape, shift, scale := wants[i].Shape, 0.0, 0.1
		if len(shape) > 1 {
			scale = 1 / math.Sqrt(float64(tensor.Volume(shape[1:])))
		} else if strings.HasSuffix(wants[i].Name, "weight") {
			shift = 1
		}
		v, data := make([]float32, pool.Len()), make([]byte, 2*pool.Len())
		for j, x := range pool.F32() {
			v[j] = float32(shift + scale*float64(x))
		}
		tensor.F32ToF16(data, v)
		for left := 2 * tensor.Volume(shape); left > 0; left -= len(data) {
			if _, err := to.Write(data[:min(left, len(data))]); err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	w, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// TestCUDAAgreement compares layers at the published widths, where the operators for CUDA
// are used, with ONNX's own operators. It also checks that ONNX Runtime accepts them.
func TestCUDAAgreement(t *testing.T) {
	cached := openBackend(t, onnxruntime.Name).(*backendtest.Cached) // would keep 100 MB of weights
	b := backendtest.Lowered{Backend: cached.Backend}
	_, wants := layers(nil, Target{})
	weights := randomWeights(t, wants)
	plain, _ := layers(weights, Target{Dialect: Plain})
	exactly, _ := layers(weights, forCUDA(tensor.F32))
	half, _ := layers(weights, forCUDA(tensor.F16))
	used := map[string]int{}
	for i, layer := range plain {
		inputs := Flow{}
		for name, shape := range layer.Inputs {
			inputs[name] = noise(uint64(len(name)), shape...)
		}
		run := func(g *onnx.Graph) []float32 {
			flow := maps.Clone(inputs)
			runAll(t, b, flow, g)
			return flow[OperatorOutput].F32()
		}
		want := run(layer.Graph)
		for _, g := range []*onnx.Graph{exactly[i].Graph, half[i].Graph} {
			for op, n := range computed(g) {
				used[op] += n
			}
			accepts(t, b.Backend, g)
		}
		db := golden.Ratio(run(exactly[i].Graph), want)
		dbHalf := golden.Ratio(run(half[i].Graph), want)
		t.Logf("%s: %.1f dB in f32, %.1f dB in f16", layer.Name, db, dbHalf)
		if !(db >= 120 && dbHalf >= 50) {
			t.Errorf("%s: the dialects do not agree", layer.Name)
		}
	}
	for _, op := range backendtest.OnlyCUDA {
		if used[op] == 0 {
			t.Errorf("%s is not compared", op)
		}
	}
}

// accepts fails the test unless ONNX Runtime for the CPU accepts a graph in all but that it
// has no kernels for it: it knows the operators, infers the types and shapes of all values,
// and finds them to be the declared ones.
func accepts(t *testing.T, b backend.Backend, g *onnx.Graph) {
	t.Helper()
	if message := complaint(t, b, g); message != "" {
		t.Errorf("%s: %s", g.Name(), message)
	}
}

// complaint returns what is wrong with a graph for CUDA, or "".
func complaint(t *testing.T, b backend.Backend, g *onnx.Graph) string {
	var log strings.Builder
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	s, err := b.Load(context.WithoutCancel(t.Context()), backend.Model{Name: g.Name(), Graph: g}, exact)
	if err == nil {
		_ = s.Close()
		return "it has loaded on a CPU"
	}
	const notImplemented = 9 // ORT_NOT_IMPLEMENTED
	status, ok := errors.AsType[*backend.Status](err)
	if !ok || status.Code != notImplemented || !slices.ContainsFunc(backendtest.OnlyCUDA, func(op string) bool { return strings.Contains(status.Text, op+"(1)") }) {
		return err.Error()
	}
	return log.String()
}

// TestCUDAAccepted checks that ONNX Runtime accepts whole networks, and layers, in the
// dialect for CUDA.
func TestCUDAAccepted(t *testing.T) {
	b := openBackend(t, onnxruntime.Name)
	unet, vaes := open(t, "models/latentsync_unet.pt"), open(t, "models/vae/diffusion_pytorch_model.safetensors")
	vae, err := DetectVAE(vaes)
	if err != nil {
		t.Fatal(err)
	}
	operators := randomWeights(t, OperatorWants())
	for _, compute := range []tensor.DType{tensor.F32, tensor.F16} {
		u, err := NewUNet(tinyUNet(), UNetShape{Batch: 2, Frames: 3, Latent: 16, Tokens: 50}, unet, forCUDA(compute))
		if err != nil {
			t.Fatal(err)
		}
		list, err := Operators(operators, forCUDA(compute))
		if err != nil {
			t.Fatal(err)
		}
		graphs := append(u.Graphs, coders(t, vae, 2, 8, vaes, forCUDA(compute))...)
		for _, o := range list {
			if used := computed(o.Graph); slices.ContainsFunc(backendtest.OnlyCUDA, func(op string) bool { return used[op] > 0 }) {
				graphs = append(graphs, o.Graph)
			}
		}
		for _, g := range graphs {
			accepts(t, b, g)
		}
	}
}

// TestCUDANotAccepted: the test above would find wrong graphs.
func TestCUDANotAccepted(t *testing.T) {
	b := openBackend(t, onnxruntime.Name)
	for want, build := range map[string]func(g *onnx.Graph, x, w onnx.Value){
		"Error merging shape info": func(g *onnx.Graph, x, w onnx.Value) { // the output has 3 channels
			g.Output("y", g.OpIn(onnx.Microsoft, "NhwcConv", []onnx.Value{x, w}), tensor.F32, 1, 4, 4, 2)
		},
		"bound to different types": func(g *onnx.Graph, x, w onnx.Value) {
			g.Output("y", g.OpIn(onnx.Microsoft, "NhwcConv", []onnx.Value{g.Cast(x, tensor.F16), w}), tensor.F32, 1, 4, 4, 3)
		},
		"Unrecognized attribute": func(g *onnx.Graph, x, w onnx.Value) {
			g.Output("y", g.OpIn(onnx.Microsoft, "NhwcConv", []onnx.Value{x, w}, onnx.Int("channels_last", 1)), tensor.F32, 1, 4, 4, 3)
		},
	} {
		g := onnx.New(want)
		build(g, g.Input("x", tensor.F32, 1, 4, 4, 2), g.Floats(make([]float32, 6), 3, 1, 1, 2))
		if got := complaint(t, b, g); !strings.Contains(got, want) {
			t.Errorf("%q instead of %q", got, want)
		}
	}
}

// TestWeightsAreConstant checks that ONNX Runtime converts and transposes weights when it
// creates a session, as NhwcConv needs it, and not in each run.
func TestWeightsAreConstant(t *testing.T) {
	weights := randomWeights(t, []checkpoint.Want{{Name: "w.weight", Shape: []int{3, 4, 5, 5}}})
	b := newBuilder("weights", weights, Target{Compute: tensor.F16})
	b.want(checkpoint.Want{Name: "w.weight", Shape: []int{3, 4, 5, 5}})
	w := b.transpose(b.rows(tensor.F32, "w.weight", 0, 3, 3, 4, 5, 5), 0, 2, 3, 1)
	b.Output("y", b.add(b.Input("x", tensor.F32, 3, 5, 5, 4), w), tensor.F32, 3, 5, 5, 4)
	options := exact
	options.Profile = true
	s, err := openBackend(t, onnxruntime.Name).(*backendtest.Cached).Backend.Load(t.Context(), backend.Model{Graph: b.Graph}, options)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Run(t.Context(), Flow{"x": noise(1, 3, 5, 5, 4)}); err != nil {
		t.Fatal(err)
	}
	nodes, err := s.(backend.Profiler).Nodes()
	if err != nil || len(nodes) != 1 || nodes[0].Type != "Add" {
		t.Errorf("%v: %+v", err, nodes)
	}
}
