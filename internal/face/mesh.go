package face

import (
	"context"
	_ "embed" // the model file
	"math"
	"runtime"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

//go:embed models/face_mesh_attention.onnx
var meshModel []byte

const (
	meshSide = 192
	// Points is the number of points of a Face: the mesh and two irises of 5.
	Points = MeshPoints + 10
	// minContrast is the least contrast of a face, in levels of 256. The points of a face
	// with less are off by more than 1 % of the distance between the eyes.
	minContrast = 12
)

// ROI is the square that the mesh network looks at: centre and side in image
// pixels, rotation in radians, clockwise in the image.
type ROI struct{ CX, CY, Size, Rotation float64 }

// Affine returns the map from pixels of a crop of n x n to the image.
func (r ROI) Affine(n int) frame.Affine {
	sin, cos := math.Sincos(r.Rotation)
	s := r.Size / float64(n)
	return frame.Affine{
		A: s * cos, B: -s * sin, C: r.CX + r.Size*(sin-cos)/2,
		D: s * sin, E: s * cos, F: r.CY - r.Size*(sin+cos)/2,
	}
}

// around returns the square for a face with the given bounding box, whose eyes lie
// (dx, dy) apart.
func around(x0, y0, x1, y1, dx, dy float64) ROI {
	return ROI{CX: (x0 + x1) / 2, CY: (y0 + y1) / 2, Size: 1.5 * max(x1-x0, y1-y0), Rotation: math.Atan2(dy, dx)}
}

// ROIFromDetection returns the square for a detection, from its box and eyes.
func ROIFromDetection(d Detection) ROI {
	p := &d.Points
	return around(p[0][0], p[0][1], p[1][0], p[1][1], p[3][0]-p[2][0], p[3][1]-p[2][1])
}

// ROIFromPoints returns the square for the next frame, from the points of a face.
func ROIFromPoints(p []Point) ROI {
	x0, y0, x1, y1 := bounds(p)
	return around(x0, y0, x1, y1, p[263].X-p[33].X, p[263].Y-p[33].Y)
}

// bounds returns the bounding box of the points.
func bounds(p []Point) (x0, y0, x1, y1 float64) {
	x0, y0, x1, y1 = math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	for _, q := range p {
		x0, y0 = min(x0, q.X), min(y0, q.Y)
		x1, y1 = max(x1, q.X), max(y1, q.Y)
	}
	return x0, y0, x1, y1
}

// Mesh is MediaPipe's face mesh with attention: 478 points, lips and eyes
// refined. It is not safe for concurrent use.
type Mesh struct{ network }

// NewMesh loads the embedded network. threads is as in backend.Options.
func NewMesh(ctx context.Context, b backend.Backend, threads int) (*Mesh, error) {
	model := meshModel
	// OpenVINO 2026.4 on ARM computes a PRelu wrongly if it fuses it into an Add: the
	// result has NaNs. ONNX Runtime computes the parts faster (3.3 instead of 4.9 ms).
	// OpenVINO on amd64 computes the operator correctly, and as fast as its parts.
	if b.Name() != "openvino" || runtime.GOARCH != "amd64" {
		var err error
		if model, err = onnx.SplitPReLU(model); err != nil {
			return nil, fault.Internal.Wrap("load the face mesh", err)
		}
	}
	n, err := loadNetwork(ctx, b, "face mesh", model, meshSide, threads, 2.0/3)
	return &Mesh{n}, err
}

// Landmarks returns the 478 points of the face in the square, in image pixels,
// and the presence score, 0..1, which is high if the square fits a face. It is 0 if the
// square shows too little, such as the first frames of a fade from black.
func (m *Mesh) Landmarks(ctx context.Context, src frame.Source, roi ROI) ([]Point, float64, error) {
	to := roi.Affine(meshSide)
	out, contrast, err := m.run(ctx, src, to, frame.Replicate, 1.0/255, 0)
	if err != nil {
		return nil, 0, err
	}
	p := merge(out)
	for i, q := range p {
		x, y := to.Apply(q.X, q.Y)
		p[i] = Point{x, y, roi.Size * q.Z / meshSide}
	}
	if contrast < minContrast {
		return p, 0, nil
	}
	return p, sigmoid(float64(out["score"].F32()[0])), nil
}

// merge replaces points of the plain mesh by the refined lips, eyes and irises. The
// result is in pixels of the crop.
func merge(out map[string]*tensor.Tensor) []Point {
	p := make([]Point, Points)
	mesh := out["landmarks"].F32()
	for i := range MeshPoints {
		p[i] = Point{float64(mesh[3*i]), float64(mesh[3*i+1]), float64(mesh[3*i+2])}
	}
	refine := func(name string, indices []int) {
		v := out[name].F32()
		for k, i := range indices {
			p[i].X, p[i].Y = float64(v[2*k]), float64(v[2*k+1])
		}
	}
	refine("lips", attentionLips)
	refine("left_eye", attentionLeftEye)
	refine("right_eye", attentionRightEye)
	refine("left_iris", irisLeft)
	refine("right_iris", irisRight)
	for i := range irisLeft { // the irises lie as deep as the eyes
		p[irisLeft[i]].Z, p[irisRight[i]].Z = meanDepth(p, eyeLeft), meanDepth(p, eyeRight)
	}
	return p
}

func meanDepth(p []Point, indices []int) (z float64) {
	for _, i := range indices {
		z += p[i].Z / float64(len(indices))
	}
	return z
}
