package bench

import (
	"context"
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// arcFace are the places of the eyes, the tip of the nose and the corners of the mouth in the
// crop of 112 x 112 for ArcFace and networks like it (insightface,
// python-package/insightface/utils/face_align.py).
var arcFace = [][2]float64{{38.2946, 51.6963}, {73.5318, 51.5014}, {56.0252, 71.7366}, {41.5493, 92.3655}, {70.7299, 92.2041}}

const embeddingSide = 112

var embeddingShape = []int{1, 3, embeddingSide, embeddingSide}

// embedder runs a user's network that turns a face into numbers which say who it is.
type embedder struct {
	session     backend.Session
	input       *tensor.Tensor
	crop        *frame.RGB
	mean, scale float32 // of the input: (value - mean)·scale
}

// openEmbedder loads a network in ArcFace's layout.
func openEmbedder(ctx context.Context, b backend.Backend, path string, threads int) (*embedder, error) {
	op := "open the identity network " + path
	const hint = "give a network in ArcFace's layout, with one input of 1x3x112x112 and one output"
	if err := backend.CheckFile(op, path); err != nil {
		return nil, err
	}
	names, err := firstNames(path)
	if err != nil {
		return nil, fault.Input.Wrap(op, fault.WithoutPath(err), hint)
	}
	s, err := b.Load(ctx, backend.Model{Name: "identity network", Path: path}, backend.Options{Device: "cpu", Precision: backend.F32, Threads: threads})
	if err != nil {
		return nil, fault.Input.Wrap(op, err, hint)
	}
	in, out := s.Inputs(), s.Outputs()
	if len(in) != 1 || len(out) != 1 || in[0].DType != tensor.F32 || out[0].DType != tensor.F32 || !in[0].Accepts(embeddingShape) {
		_ = s.Close()
		return nil, fault.Input.New(op, fmt.Sprintf("its inputs are %s and its outputs %s", backend.Ports(in), backend.Ports(out)), hint)
	}
	e := &embedder{session: s, input: tensor.New(tensor.F32, embeddingShape...), crop: frame.NewRGB(embeddingSide, embeddingSide)}
	if e.mean, e.scale = 127.5, 1/127.5; normalises(names) {
		e.mean, e.scale = 0, 1
	}
	return e, nil
}

// firstNames returns the names of the first nodes of a network.
func firstNames(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return onnx.FirstNames(f, st.Size(), 8)
}

// normalises reports whether a network whose first nodes have these names takes values of
// 0..255, as those made with MXNet do. It is insightface's own rule
// (python-package/insightface/model_zoo/arcface_onnx.py).
func normalises(names []string) bool {
	starts := func(prefixes ...string) bool {
		for _, n := range names {
			for _, p := range prefixes {
				if strings.HasPrefix(n, p) {
					return true
				}
			}
		}
		return false
	}
	return starts("Sub", "_minus") && starts("Mul", "_mul")
}

// fivePoints returns the points of a face that arcFace places.
func fivePoints(p []face.Point) [][2]float64 {
	middle := func(i, j int) [2]float64 { return [2]float64{(p[i].X + p[j].X) / 2, (p[i].Y + p[j].Y) / 2} }
	at := func(i int) [2]float64 { return middle(i, i) }
	return [][2]float64{middle(33, 133), middle(362, 263), at(1), at(61), at(291)}
}

// embed returns the embedding of a face, of length 1.
func (e *embedder) embed(ctx context.Context, f *frame.Frame, points []face.Point) ([]float64, error) {
	fit, ok := face.FitSimilarity(fivePoints(points), arcFace)
	if !ok {
		return nil, fault.Internal.New("align a face for the identity network", "all its points coincide")
	}
	inv, _ := fit.Invert()
	f.Warp(e.crop, inv, frame.Constant, 0)
	in := e.input.F32()
	const plane = embeddingSide * embeddingSide
	for i, v := range e.crop.Pix {
		in[i%3*plane+i/3] = (float32(v) - e.mean) * e.scale
	}
	result, err := e.session.Run(ctx, map[string]*tensor.Tensor{e.session.Inputs()[0].Name: e.input})
	if err != nil {
		return nil, fault.Internal.Wrap("run the identity network", err)
	}
	values := result[e.session.Outputs()[0].Name].F32()
	out, square := make([]float64, len(values)), 0.0
	for i, v := range values {
		out[i] = float64(v)
		square += out[i] * out[i]
	}
	if !(square > 0) || math.IsInf(square, 0) {
		return nil, fault.Input.New("run the identity network", "the values that it computes for a face are all 0, or some are not numbers", "use another network")
	}
	for i := range out {
		out[i] /= math.Sqrt(square)
	}
	return out, nil
}

// resemblance returns the cosine of the angle between the embeddings of two faces.
func (e *embedder) resemblance(ctx context.Context, a, b face.Tracked) (cosine float64, err error) {
	p, err := e.embed(ctx, a.Frame, a.Face.Points)
	if err != nil {
		return 0, err
	}
	q, err := e.embed(ctx, b.Frame, b.Face.Points)
	if err != nil {
		return 0, err
	}
	for i := range p {
		cosine += p[i] * q[i]
	}
	return cosine, nil
}
