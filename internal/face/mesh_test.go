package face

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"sync"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/frame/frametest"
	"github.com/lipstream/lipstream/internal/tensor"
)

// goldenFace holds the results of MediaPipe itself for a picture.
type goldenFace struct {
	Width, Height float64
	Detections    []struct {
		Score     float64
		Box       [4]float64
		KeyPoints [6][2]float64
	}
	ROI  struct{ CX, CY, Size, Rotation float64 }
	Mesh struct {
		Score  float64
		Points [][3]float64          `json:"landmarks_px"`
		Align  map[string][2]float64 `json:"align_points"`
	} `json:"mesh_attention"`
}

func readFace(t *testing.T, name string) goldenFace {
	t.Helper()
	b, err := os.ReadFile("testdata/mesh/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var g goldenFace
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func newDetector(t testing.TB, b backend.Backend) *Detector {
	t.Helper()
	d, err := NewDetector(t.Context(), b, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func newMesh(t testing.TB, b backend.Backend) *Mesh {
	t.Helper()
	m, err := NewMesh(t.Context(), b, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tol) {
		t.Errorf("%s: %v, want %v within %v", what, got, want, tol)
	}
}

var goldenPictures = []string{"astronaut", "astronaut_rot20"}

// TestNetworksGolden compares the networks alone, with the golden crops as their input.
func TestNetworksGolden(t *testing.T) { eachBackend(t, networksGolden) }

func networksGolden(t *testing.T, b backend.Backend) {
	d, m := newDetector(t, b), newMesh(t, b)
	for _, name := range goldenPictures {
		g := readGolden(t, "mesh/"+name+".safetensors")
		for _, net := range []struct {
			session backend.Session
			prefix  string
			input   string
			outputs []string
		}{
			{d.session, "detector.", "detector.input", []string{"regressors", "scores"}},
			{m.session, "attention.", "mesh.input", []string{"landmarks", "score", "lips", "left_eye", "right_eye", "left_iris", "right_iris"}},
		} {
			in := g[net.input]
			out, err := net.session.Run(t.Context(), map[string]*tensor.Tensor{"input": tensor.FromF32(in.data, in.shape...)})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range net.outputs {
				closeTo(t, name+" "+net.prefix+o, out[o].F32(), g[net.prefix+o].data, 1e-3)
			}
		}
	}
}

// TestInputsGolden compares the crops. They are rounded, so they may differ by a level.
func TestInputsGolden(t *testing.T) { eachBackend(t, inputsGolden) }

func inputsGolden(t *testing.T, b backend.Backend) {
	d, m := newDetector(t, b), newMesh(t, b)
	for _, name := range goldenPictures {
		g, want := readGolden(t, "mesh/"+name+".safetensors"), readFace(t, name)
		pic := readPNG(t, "mesh/"+name+".png")
		if _, err := d.Level(t.Context(), pic, 0, 0); err != nil {
			t.Fatal(err)
		}
		closeTo(t, name+" detector input", d.input.F32(), g["detector.input"].data, 1.01*2/255)
		r := ROI{want.ROI.CX, want.ROI.CY, want.ROI.Size, want.ROI.Rotation}
		if _, _, err := m.Landmarks(t.Context(), pic, r); err != nil {
			t.Fatal(err)
		}
		closeTo(t, name+" mesh input", m.input.F32(), g["mesh.input"].data, 1.01/255)
	}
}

// TestChainGolden compares the whole chain, from the picture to the points.
func TestChainGolden(t *testing.T) { eachBackend(t, chainGolden) }

func chainGolden(t *testing.T, b backend.Backend) {
	d, m := newDetector(t, b), newMesh(t, b)
	for _, name := range goldenPictures {
		want := readFace(t, name)
		pic := readPNG(t, "mesh/"+name+".png")
		found, err := d.Level(t.Context(), pic, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) != len(want.Detections) {
			t.Fatalf("%s: %d detections, want %d", name, len(found), len(want.Detections))
		}
		for i, w := range want.Detections {
			f := found[i]
			near(t, name+" score", f.Score, w.Score, 1e-3)
			for k, v := range []float64{f.Points[0][0] / want.Width, f.Points[0][1] / want.Height, f.Points[1][0] / want.Width, f.Points[1][1] / want.Height} {
				near(t, name+" box", v, w.Box[k], 2e-4)
			}
			for k, v := range f.Points[2:] {
				near(t, name+" key x", v[0]/want.Width, w.KeyPoints[k][0], 2e-4)
				near(t, name+" key y", v[1]/want.Height, w.KeyPoints[k][1], 2e-4)
			}
		}
		r := ROIFromDetection(found[0])
		near(t, name+" cx", r.CX, want.ROI.CX, 0.1)
		near(t, name+" cy", r.CY, want.ROI.CY, 0.1)
		near(t, name+" size", r.Size, want.ROI.Size, 0.1)
		near(t, name+" rotation", r.Rotation, want.ROI.Rotation, 1e-3)
		points, score, err := m.Landmarks(t.Context(), pic, r)
		if err != nil {
			t.Fatal(err)
		}
		near(t, name+" presence", score, want.Mesh.Score, 1e-3)
		if len(points) != len(want.Mesh.Points) || len(points) != Points {
			t.Fatalf("%d points", len(points))
		}
		worst := 0.0
		for i, w := range want.Mesh.Points {
			worst = math.Max(worst, math.Max(dist(points[i], Point{X: w[0], Y: w[1]}), math.Abs(points[i].Z-w[2])))
		}
		t.Logf("%s: points within %.4f pixels", name, worst)
		if worst > 0.1 {
			t.Errorf("%s: points differ by %.3f pixels", name, worst)
		}
		for k, a := range AlignPoints468(points) {
			w := want.Mesh.Align[fmt.Sprint("P", k)]
			near(t, name+" anchor x", a[0], w[0], 0.1)
			near(t, name+" anchor y", a[1], w[1], 0.1)
		}
	}
}

// place draws src, enlarged by s and turned by angle, with its centre at (cx, cy).
func place(dst *frame.RGB, src *frame.RGB, cx, cy, s, angle float64) frame.Affine {
	sin, cos := math.Sincos(angle)
	to := frame.Affine{A: s * cos, B: -s * sin, D: s * sin, E: s * cos}
	hx, hy := float64(src.W-1)/2, float64(src.H-1)/2
	to.C = cx - (to.A*hx + to.B*hy)
	to.F = cy - (to.D*hx + to.E*hy)
	inv, _ := to.Invert()
	x0, y0, x1, y1 := mappedBox(to, src.W, src.H, dst.W, dst.H, 0)
	layer := frame.NewRGB(x1-x0, y1-y0)
	part := inv
	part.C, part.F = inv.Apply(float64(x0), float64(y0))
	src.Warp(layer, part, frame.Replicate, 0)
	for y := range layer.H {
		for x := range layer.W {
			u, v := part.Apply(float64(x), float64(y))
			if u >= 0 && v >= 0 && u <= float64(src.W-1) && v <= float64(src.H-1) {
				i, j := 3*((y+y0)*dst.W+x+x0), 3*(y*layer.W+x)
				copy(dst.Pix[i:i+3], layer.Pix[j:j+3])
			}
		}
	}
	return to
}

// rooms caches the images of grey, which are slow to make under the race detector.
var rooms sync.Map

func grey(w, h int) *frame.RGB {
	if p, ok := rooms.Load([2]int{w, h}); ok {
		return &frame.RGB{W: w, H: h, Pix: bytes.Clone(p.(*frame.RGB).Pix)}
	}
	p := frame.NewRGB(w, h)
	for y := range h {
		for x := range w {
			i := 3 * (y*w + x)
			v := byte(100 + 30*math.Sin(float64(x)/57)*math.Cos(float64(y)/43))
			p.Pix[i], p.Pix[i+1], p.Pix[i+2] = v, v, v+10
		}
	}
	rooms.Store([2]int{w, h}, p)
	return grey(w, h)
}

// The finer levels find a face of 60 pixels anywhere in a full-HD frame.
func TestSearchFindsSmallFaces(t *testing.T) {
	backendtest.SkipShort(t)
	d, m := nets(t)
	face := readPNG(t, "portrait.png").Half().Half() // 128 x 128, face about 46 wide
	for _, at := range [][2]float64{{960, 540}, {200, 200}, {1700, 900}, {640, 800}, {1300, 150}} {
		pic := grey(1920, 1080)
		place(pic, face, at[0], at[1], 1.3, 0)
		p := people{detector: d, mesh: m}
		fresh, err := p.next(t.Context(), pic)
		if err != nil {
			t.Fatal(err)
		}
		if len(fresh) != 1 {
			t.Errorf("at %v: %d people", at, len(fresh))
			continue
		}
		o := fresh[0].obs
		x, y := o.centre()
		if w := o.x1 - o.x0; w < 45 || w > 80 || math.Hypot(x-at[0], y-at[1]) > 30 {
			t.Errorf("at %v: found at %.0f, %.0f, %.0f wide", at, x, y, w)
		}
	}
	p := people{detector: d, mesh: m}
	for range 20 {
		if fresh, err := p.next(t.Context(), grey(1920, 1080)); err != nil || len(fresh) > 0 {
			t.Errorf("an empty frame: %v, %v", fresh, err)
		}
	}
}

func TestTiles(t *testing.T) {
	for _, c := range []struct {
		length, side float64
		n            int
	}{{1080, 1080, 1}, {1920, 1080, 3}, {1920, 540, 5}, {1080, 540, 3}} {
		got := tiles(c.length, c.side)
		if len(got) != c.n || got[0] != c.side/2 || got[len(got)-1] != c.length-c.side/2 {
			t.Errorf("tiles(%v, %v) = %v", c.length, c.side, got)
		}
	}
}

func TestROIAffine(t *testing.T) {
	r := ROI{CX: 225, CY: 130, Size: 143, Rotation: 0.3}
	sin, cos := math.Sincos(r.Rotation)
	for _, p := range [][2]float64{{0, 0}, {192, 0}, {50, 170}} {
		a, b := p[0]/192-0.5, p[1]/192-0.5
		x, y := r.Affine(192).Apply(p[0], p[1])
		near(t, "x", x, r.CX+r.Size*(cos*a-sin*b), 1e-9)
		near(t, "y", y, r.CY+r.Size*(sin*a+cos*b), 1e-9)
	}
}

func TestGeometry(t *testing.T) {
	if len(Triangles) != 898 || len(poseBasis) != 33 {
		t.Fatalf("%d triangles, %d pose points", len(Triangles), len(poseBasis))
	}
	used := map[uint16]bool{}
	for _, tr := range Triangles {
		if tr[0] == tr[1] || tr[1] == tr[2] || tr[0] == tr[2] {
			t.Fatalf("degenerate triangle %v", tr)
		}
		for _, p := range tr {
			used[p] = true
		}
	}
	if len(used) != MeshPoints {
		t.Errorf("%d points in triangles", len(used))
	}
	// Each inner edge belongs to two triangles, in opposite directions. The outer ones
	// form the face's oval.
	edges := map[[2]uint16]int{}
	for _, tr := range Triangles {
		for k := range 3 {
			edges[[2]uint16{tr[k], tr[(k+1)%3]}]++
		}
	}
	border := 0
	for e, n := range edges {
		if n != 1 {
			t.Fatalf("edge %v is in %d triangles in the same direction", e, n)
		}
		if edges[[2]uint16{e[1], e[0]}] == 0 {
			border++
		}
	}
	if border != len(FaceOval) {
		t.Errorf("%d edges on the border, want %d", border, len(FaceOval))
	}
}

// TestYaw turns the mean face by known angles.
func TestYaw(t *testing.T) {
	for _, want := range [][3]float64{{0, 0, 0}, {0.5, 0, 0}, {-0.5, 0.2, 0}, {0, 0, 0.4}, {0.3, -0.3, -0.7}, {1, 0.1, 2}} {
		sy, cy := math.Sincos(want[0])
		sp, cp := math.Sincos(want[1])
		sr, cr := math.Sincos(want[2])
		p := make([]Point, Points)
		for i, v := range Canonical {
			// pitch (down), then yaw (to the image's right), in y-up space
			x, y, z := v.X, cp*v.Y-sp*v.Z, sp*v.Y+cp*v.Z
			x, z = cy*x+sy*z, -sy*x+cy*z
			// to the image, then roll clockwise there
			y, z = -y, -z
			p[i] = Point{300 + 10*(cr*x-sr*y), 200 + 10*(sr*x+cr*y), 10 * z}
		}
		near(t, fmt.Sprint("yaw of ", want), yaw(p), want[0], 1e-6)
	}
}

func BenchmarkNetworks(b *testing.B) {
	d, m := nets(b)
	pic := grey(1280, 720)
	place(pic, readPNG(b, "portrait.png"), 640, 360, 1, 0)
	f := frame.New(frame.Format{Width: 1280, Height: 720, ShiftX: 1, ShiftY: 1, Depth: 8, Matrix: frame.BT709})
	frametest.Fill(f, pic)
	found, err := d.Level(b.Context(), f, 0, 0)
	if err != nil || len(found) == 0 {
		b.Fatal(found, err)
	}
	b.Run("detect", func(b *testing.B) {
		for b.Loop() {
			if _, err := d.Level(b.Context(), f, 0, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("mesh", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := m.Landmarks(b.Context(), f, ROIFromDetection(found[0])); err != nil {
				b.Fatal(err)
			}
		}
	})
}
