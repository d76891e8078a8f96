package bench

import (
	"math"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/face/facetest"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/frame/frametest"
	"github.com/lipstream/lipstream/internal/golden"
)

// TestReferences compares with scikit-image: testdata/identity.py has made the file.
func TestReferences(t *testing.T) {
	var want struct {
		Faces []struct {
			Points [][2]float64
			Matrix [6]float64
		}
		A, B      []byte
		Width     int
		SSIM      float64
		Row       float64 `json:"ssim_row_5"`
		Colours   [][3]float64
		Distances []float64
	}
	golden.ReadJSON(t, "testdata/identity.json", &want)
	for _, f := range want.Faces {
		m, _ := face.FitSimilarity(f.Points, arcFace)
		for i, v := range [6]float64{m.A, m.B, m.C, m.D, m.E, m.F} {
			if math.Abs(v-f.Matrix[i]) > 1e-4 { // arcFace is float32 there
				t.Errorf("matrix %v, want %v", m, f.Matrix)
				break
			}
		}
	}
	a, b := make([]float64, len(want.A)), make([]float64, len(want.A))
	for i := range a {
		a[i], b[i] = float64(want.A[i]), float64(want.B[i])
	}
	all := make([]int, len(a))
	if got := ssim(a, b, want.Width, all); math.Abs(got-want.SSIM) > 1e-9 {
		t.Errorf("SSIM %v, want %v", got, want.SSIM)
	}
	row := make([]int, len(a))
	for i := range row {
		if i/want.Width != 5 {
			row[i] = outside
		}
	}
	if got := ssim(a, b, want.Width, row); math.Abs(got-want.Row) > 1e-9 {
		t.Errorf("SSIM of a row %v, want %v", got, want.Row)
	}
	for i, d := range want.Distances {
		if got := colourDistance(want.Colours[i], want.Colours[i+1]); math.Abs(got-d) > 1e-3 {
			t.Errorf("from %v to %v it is %v, want %v", want.Colours[i], want.Colours[i+1], got, d)
		}
	}
}

// portrait returns the demo's picture and its face, each as seen through m, which maps
// places in the result to the picture.
func portrait(t *testing.T, m frame.Affine) face.Tracked {
	t.Helper()
	picture := facetest.Picture(t)
	seen := frame.NewRGB(picture.W, picture.H)
	picture.Warp(seen, m, frame.Replicate, 0)
	f := frame.New(frame.Format{Width: picture.W, Height: picture.H, ShiftX: 1, ShiftY: 1, Depth: 8})
	frametest.Fill(f, seen)
	inv, ok := m.Invert()
	if !ok {
		t.Fatal("the map has no inverse")
	}
	found := facetest.Portrait(t, 1)
	for i, p := range found.Points {
		found.Points[i].X, found.Points[i].Y = inv.Apply(p.X, p.Y)
	}
	found.Align = face.TemplateAffine(face.AlignPoints468(found.Points))
	return face.Tracked{Frame: f, Face: found}
}

var same = frame.Affine{A: 1, E: 1}

// narrow shows another face: four fifths as wide.
var narrow = frame.Affine{A: 1.25, C: -64, E: 1}

func newRun() *syncRun {
	return &syncRun{flicker: newFlicker(), before: newFlicker(), identity: new(identity), warped: [2]*aligned{newAligned(), newAligned()}}
}

// compared returns the run after one frame of a video and its source.
func compared(t *testing.T, source, out face.Tracked) *syncRun {
	t.Helper()
	s := newRun()
	if err := s.faces(t.Context(), out, source); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestIdentity compares the portrait with itself, with one whose lips have been painted over,
// with another face, and with another light.
func TestIdentity(t *testing.T) {
	source := portrait(t, same)
	lips, pale := portrait(t, same), portrait(t, same)
	parts := partsOf(source.Face)
	for y := range lips.Frame.Height {
		for x := range lips.Frame.Width {
			u, v := source.Face.Align.Apply(float64(x), float64(y))
			if i := int(math.Round(v))*width + int(math.Round(u)); i >= 0 && i < len(parts) && u >= 0 && u < width && parts[i] == onMouth {
				lips.Frame.Planes[0][y*lips.Frame.Width+x] = 30
			}
		}
	}
	for i, v := range pale.Frame.Planes[0] {
		pale.Frame.Planes[0][i] = byte(min(235, int(v)+20))
	}
	for _, tt := range []struct {
		name   string
		out    face.Tracked
		failed []string
	}{
		{"itself", portrait(t, same), nil},
		{"other lips", lips, nil},
		{"another face", portrait(t, narrow), []string{"identity_shape", "identity_ssim", "identity_border"}},
		{"another light", pale, []string{"identity_skin", "identity_border"}},
	} {
		var failed []string
		for _, f := range compared(t, source, tt.out).identity.figures() {
			t.Logf("%s: %s %v", tt.name, f.Key, f.Value)
			if f.Verdict() == "FAIL" {
				failed = append(failed, f.Key)
			}
		}
		if !slices.Equal(failed, tt.failed) {
			t.Errorf("%s: %q failed, want %q", tt.name, failed, tt.failed)
		}
	}
	for name, pair := range map[string][2]face.Tracked{"source": {{Frame: source.Frame}, source}, "video": {source, {Frame: source.Frame}}} {
		s := compared(t, pair[0], pair[1])
		for _, f := range s.identity.figures() {
			if !math.IsNaN(f.Value) || len(s.identity.likeness) != 1 {
				t.Errorf("without a face in the %s: %s is %v", name, f.Key, f.Value)
			}
		}
	}
}

// TestShape takes a turned, shifted and larger copy of a face for the same face.
func TestShape(t *testing.T) {
	source := facetest.Portrait(t, 1)
	copied := facetest.Portrait(t, 1)
	sin, cos := math.Sincos(0.4)
	m := frame.Affine{A: 2 * cos, B: -2 * sin, C: 30, D: 2 * sin, E: 2 * cos, F: -9}
	for i, p := range copied.Points {
		copied.Points[i].X, copied.Points[i].Y = m.Apply(p.X, p.Y)
	}
	d := new(identity)
	d.shape(source, copied)
	if got := d.shapeError(); got > 1e-9 {
		t.Errorf("the shape differs by %v %%", got)
	}
	// A nose that is longer by 5 % of the eye distance.
	copied.Points[4].Y += 0.05 * eyeDistance(copied.Points)
	d = new(identity)
	d.shape(source, copied)
	if got := d.shapeError(); got < 0.1 || got > 1 {
		t.Errorf("with a longer nose the shape differs by %v %%", got)
	}
}
