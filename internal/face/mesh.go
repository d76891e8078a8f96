package face

import (
	"context"
	_ "embed" // the model file
	"math"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/tensor"
)

//go:embed models/face_mesh_attention.onnx
var meshModel []byte

const (
	meshSide = 192
	// Points is the number of points of a Face: the mesh and two irises of 5.
	Points = MeshPoints + 10
)

// ROI is the square that the mesh network looks at: centre and side in picture
// pixels, rotation in radians, clockwise in the image.
type ROI struct{ CX, CY, Size, Rotation float64 }

// Affine returns the map from pixels of a crop of n x n to the picture.
func (r ROI) Affine(n int) frame.Affine {
	sin, cos := math.Sincos(r.Rotation)
	s := r.Size / float64(n)
	return frame.Affine{
		A: s * cos, B: -s * sin, C: r.CX + r.Size*(sin-cos)/2,
		D: s * sin, E: s * cos, F: r.CY - r.Size*(sin+cos)/2,
	}
}

// ROIFromDetection returns the square for a detection, from its box and eyes.
func ROIFromDetection(d Detection) ROI {
	return ROI{
		CX: (d.X0 + d.X1) / 2, CY: (d.Y0 + d.Y1) / 2,
		Size:     1.5 * math.Max(d.X1-d.X0, d.Y1-d.Y0),
		Rotation: math.Atan2(d.Keys[1][1]-d.Keys[0][1], d.Keys[1][0]-d.Keys[0][0]),
	}
}

// ROIFromPoints returns the square for the next frame, from the points of a face.
func ROIFromPoints(p []Point) ROI {
	x0, y0, x1, y1 := bounds(p)
	return ROI{
		CX: (x0 + x1) / 2, CY: (y0 + y1) / 2,
		Size:     1.5 * math.Max(x1-x0, y1-y0),
		Rotation: math.Atan2(p[263].Y-p[33].Y, p[263].X-p[33].X),
	}
}

// bounds returns the bounding box of the points.
func bounds(p []Point) (x0, y0, x1, y1 float64) {
	x0, y0, x1, y1 = math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	for _, q := range p {
		x0, y0 = math.Min(x0, q.X), math.Min(y0, q.Y)
		x1, y1 = math.Max(x1, q.X), math.Max(y1, q.Y)
	}
	return x0, y0, x1, y1
}

// Mesh is MediaPipe's face mesh with attention: 478 points, lips and eyes
// refined. It is not safe for concurrent use.
type Mesh struct {
	session backend.Session
	crop    *frame.RGB
	input   *tensor.Tensor // [1,192,192,3]
}

// NewMesh loads the embedded network. threads is as in backend.Options.
func NewMesh(ctx context.Context, b backend.Backend, threads int) (*Mesh, error) {
	s, err := b.Load(ctx, backend.Model{Name: "face mesh", Bytes: meshModel},
		backend.Options{Device: "cpu", Precision: backend.F32, Threads: threads})
	if err != nil {
		return nil, fault.Internal.Wrap("load the face mesh", err)
	}
	return &Mesh{
		session: s,
		crop:    frame.NewRGB(meshSide, meshSide),
		input:   tensor.New(tensor.F32, 1, meshSide, meshSide, 3),
	}, nil
}

// Close frees the network.
func (m *Mesh) Close() error { return m.session.Close() }

// Landmarks returns the 478 points of the face in the square, in picture pixels,
// and the presence score, 0..1, which is high if the square fits a face.
func (m *Mesh) Landmarks(ctx context.Context, src frame.Source, roi ROI) ([]Point, float64, error) {
	src.Warp(m.crop, roi.Affine(meshSide), frame.Replicate, 0)
	in := m.input.F32()
	for i, v := range m.crop.Pix {
		in[i] = float32(v) * (1.0 / 255)
	}
	out, err := m.session.Run(ctx, map[string]*tensor.Tensor{"input": m.input})
	if err != nil {
		return nil, 0, fault.Internal.Wrap("run the face mesh", err)
	}
	p := merge(out)
	to := roi.Affine(meshSide)
	for i, q := range p {
		x, y := to.Apply(q.X, q.Y)
		p[i] = Point{x, y, roi.Size * q.Z / meshSide}
	}
	return p, sigmoid(float64(out["score"].F32()[0])), nil
}

// merge puts the refined lips, eyes and irises over the plain mesh; crop
// pixels.
func merge(out map[string]*tensor.Tensor) []Point {
	p := make([]Point, Points)
	mesh := out["landmarks"].F32()
	for i := range MeshPoints {
		p[i] = Point{float64(mesh[3*i]), float64(mesh[3*i+1]), float64(mesh[3*i+2])}
	}
	for name, indices := range map[string][]int{
		"lips": attentionLips, "left_eye": attentionLeftEye, "right_eye": attentionRightEye,
	} {
		v := out[name].F32()
		for k, i := range indices {
			p[i].X, p[i].Y = float64(v[2*k]), float64(v[2*k+1])
		}
	}
	for _, side := range []struct {
		name      string
		iris, eye []int
	}{{"left_iris", IrisLeft, EyeLeft}, {"right_iris", IrisRight, EyeRight}} {
		var z float64
		for _, i := range side.eye {
			z += p[i].Z / float64(len(side.eye))
		}
		v := out[side.name].F32()
		for k, i := range side.iris {
			p[i] = Point{float64(v[2*k]), float64(v[2*k+1]), z}
		}
	}
	return p
}
