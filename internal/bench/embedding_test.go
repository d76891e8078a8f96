package bench

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/backend/sharedtest"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/restorer/restorertest"
	"github.com/lipstream/lipstream/internal/tensor"
)

// networkFile writes a network to a file.
func networkFile(t *testing.T, build func(g *onnx.Graph)) string {
	t.Helper()
	g := onnx.New("network")
	build(g)
	path := filepath.Join(t.TempDir(), "network.onnx")
	if err := os.WriteFile(path, g.Encode(nil), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// randomEmbedding is a network in ArcFace's layout: one convolution, and one layer for 32
// values.
func randomEmbedding(g *onnx.Graph) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(scale float64, shape ...int) onnx.Value {
		v := make([]float32, tensor.Volume(shape))
		for i := range v {
			v[i] = float32(rng.NormFloat64() * scale)
		}
		return g.Floats(v, shape...)
	}
	x := g.Input("input.1", tensor.F32, -1, 3, embeddingSide, embeddingSide)
	x = g.Op("Conv", []onnx.Value{x, random(0.2, 4, 3, 7, 7)}, onnx.Ints("kernel_shape", 7, 7), onnx.Ints("strides", 7, 7))
	x = g.Op("Flatten", []onnx.Value{g.Op("Relu", []onnx.Value{x})}, onnx.Int("axis", 1))
	g.Output("683", g.Op("Gemm", []onnx.Value{x, random(0.1, 4*16*16, 32), random(0.1, 32)}), tensor.F32, -1, 32)
}

// TestResemblance runs a random network in ArcFace's layout on both backends: it sees the same
// face in a picture that is turned and enlarged, and another one in one that is narrowed.
func TestResemblance(t *testing.T) {
	path := networkFile(t, randomEmbedding)
	source := portrait(t, same)
	sin, cos := math.Sincos(0.2)
	turned := same
	turned.A, turned.B, turned.C, turned.D, turned.E, turned.F = 0.8*cos, -0.8*sin, 80, 0.8*sin, 0.8*cos, 10
	sharedtest.OnEach(t, func(t *testing.T, on sharedtest.Target) {
		e, err := openEmbedder(t.Context(), on, path, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = e.session.Close() }()
		for _, tt := range []struct {
			name        string
			other       face.Tracked
			least, most float64
		}{{"itself", source, 1 - 1e-9, 1 + 1e-9}, {"turned", portrait(t, turned), 0.98, 1}, {"another", portrait(t, narrow), -1, 0.95}} {
			got, err := e.resemblance(t.Context(), source, tt.other)
			if err != nil || got < tt.least || got > tt.most {
				t.Errorf("%s: %v, %v", tt.name, got, err)
			}
			t.Logf("%s: %v", tt.name, got)
		}
	})
}

// TestEmbedderInput checks what the network gets: the face in its place, red first, in -1..1.
func TestEmbedderInput(t *testing.T) {
	b := sharedtest.Open(t, openvino.Name)
	path := networkFile(t, func(g *onnx.Graph) {
		g.Output("y", g.Input("x", tensor.F32, embeddingShape...), tensor.F32, embeddingShape...)
	})
	e, err := openEmbedder(t.Context(), b, path, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.session.Close() }()
	source := portrait(t, same)
	if _, err := e.embed(t.Context(), source.Frame, source.Face.Points); err != nil {
		t.Fatal(err)
	}
	const plane = embeddingSide * embeddingSide
	at := func(x, y, c int) float32 { return e.input.F32()[c*plane+y*embeddingSide+x] }
	if !(at(56, 60, 0) > at(56, 60, 2)+0.1) { // the bridge of the nose: skin is more red than blue
		t.Errorf("the nose is %v, %v, %v", at(56, 60, 0), at(56, 60, 1), at(56, 60, 2))
	}
	for _, eye := range [2][2]int{{38, 52}, {74, 52}} {
		if x, y := eye[0], eye[1]; !(at(x, y, 1) < at(x, y+14, 1)-0.2) { // pupils are darker than cheeks
			t.Errorf("at (%d, %d) there is no eye: %v, and %v below", x, y, at(x, y, 1), at(x, y+14, 1))
		}
	}
	low, high := float32(1), float32(-1)
	for _, v := range e.input.F32() {
		low, high = min(low, v), max(high, v)
	}
	if low < -1 || high > 1 || low > -0.7 || high < 0.5 {
		t.Errorf("values from %v to %v", low, high)
	}
}

func TestNormalises(t *testing.T) {
	for _, tt := range []struct {
		names []string
		want  bool
	}{
		{[]string{"_minusscalar0", "_mulscalar0", "conv0"}, true}, {[]string{"Sub_0", "Mul_1", "Conv_2"}, true},
		{[]string{"Conv_0", "PRelu_1", "Sub_2"}, false}, {nil, false},
	} {
		if got := normalises(tt.names); got != tt.want {
			t.Errorf("%q: %v", tt.names, got)
		}
	}
}

func TestOpenEmbedderRefuses(t *testing.T) {
	b := sharedtest.Open(t, openvino.Name)
	text := filepath.Join(t.TempDir(), "text.onnx")
	if err := os.WriteFile(text, []byte("no network"), 0o600); err != nil {
		t.Fatal(err)
	}
	large := networkFile(t, func(g *onnx.Graph) {
		g.Output("y", g.Input("x", tensor.F32, 1, 3, 160, 160), tensor.F32, 1, 3, 160, 160)
	})
	external := filepath.Join(t.TempDir(), "external.onnx")
	if err := os.WriteFile(external, restorertest.External("../../secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(t.TempDir(), "none.onnx"): "there is no such file", text: "not an ONNX model", external: "its weights are in another file",
		large: "its inputs are x f32 [1 3 160 160] and its outputs y f32 [1 3 160 160]",
	} {
		e, err := openEmbedder(t.Context(), b, path, 1)
		if e != nil || fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

// TestEmbedderFails refuses embeddings without a direction.
func TestEmbedderFails(t *testing.T) {
	b := sharedtest.Open(t, openvino.Name)
	source := portrait(t, same)
	for name, factor := range map[string]float32{"zero": 0, "not numbers": float32(math.NaN())} {
		path := networkFile(t, func(g *onnx.Graph) {
			x := g.Input("x", tensor.F32, embeddingShape...)
			g.Output("y", g.Op("Mul", []onnx.Value{x, g.Scalar(factor)}), tensor.F32, embeddingShape...)
		})
		e, err := openEmbedder(t.Context(), b, path, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.resemblance(t.Context(), source, source); fault.KindOf(err) != fault.Input {
			t.Errorf("%s: error %v", name, err)
		}
		_ = e.session.Close()
	}
}
