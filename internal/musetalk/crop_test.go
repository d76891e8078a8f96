package musetalk

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/face/facetest"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
)

// similarity returns a map that scales, turns by angle, and shifts.
func similarity(scale, angle, x, y float64) frame.Affine {
	sin, cos := math.Sincos(angle)
	return frame.Affine{A: scale * cos, B: -scale * sin, C: x, D: scale * sin, E: scale * cos, F: y}
}

// corners returns where the corners of the crop of m lie in the frame.
func corners(t testing.TB, m frame.Affine) (c [4]float64) {
	t.Helper()
	inv, ok := m.Invert()
	if !ok {
		t.Fatal("the matrix has no inverse")
	}
	c[0], c[1] = inv.Apply(-0.5, -0.5)
	c[2], c[3] = inv.Apply(Side-0.5, Side-0.5)
	return c
}

func TestHeadBox(t *testing.T) {
	f := facetest.Portrait(t, 1)
	f.Points = mapped(f.Points, similarity(1, -0.045, 0, 0)) // now the eyes are level
	var h head
	m := h.matrix(f)
	if math.Abs(m.B) > 0.02 {
		t.Errorf("the crop of an upright face is turned: %v", m)
	}
	original := meshBox(f.Points, 512, 512)
	for i, got := range corners(t, m) {
		if want := []int{original.Min.X, original.Min.Y, original.Max.X, original.Max.Y}[i]; math.Abs(got-float64(want)) > 4 {
			t.Errorf("Side %d of the box is at %.1f, the original's at %d", i, got, want)
		}
	}
	nose := mean(f.Points, bridge)
	want := 0.5/(1+margin)*Side - 0.5
	if _, v := m.Apply(nose.X, nose.Y); math.Abs(v-want) > 1e-9 {
		t.Errorf("the bridge of the nose is in row %g, want %g", v, want)
	}
}

// TestHeadFollows checks that the crop does not depend on where in the frame a face is, how large
// it is, and how far it is turned.
func TestHeadFollows(t *testing.T) {
	f := facetest.Portrait(t, 1)
	var first head
	want := first.matrix(f)
	for _, s := range []frame.Affine{similarity(1, 0, 30.25, -200), similarity(3.7, 0, 0, 0), similarity(0.2, 0.6, 5, 7), similarity(1, -1.4, 0, 0)} {
		var h head
		m := h.matrix(&face.Face{Points: mapped(f.Points, s)})
		for i, p := range f.Points {
			x, y := s.Apply(p.X, p.Y)
			u, v := m.Apply(x, y)
			if wu, wv := want.Apply(p.X, p.Y); math.Hypot(u-wu, v-wv) > 1e-6 {
				t.Fatalf("%v: point %d is at %g, %g in the crop, want %g, %g", s, i, u, v, wu, wv)
			}
		}
	}
}

// withJaw returns the face with lower lip, chin and jaw moved down.
func withJaw(f *face.Face, down float64) *face.Face {
	g := &face.Face{Track: f.Track, Points: slices.Clone(f.Points)}
	for _, i := range []int{14, 17, 152, 148, 176, 377, 400, 149, 378} {
		g.Points[i].Y += down
	}
	return g
}

func TestHeadContainsChin(t *testing.T) {
	f := facetest.Portrait(t, 1)
	var h head
	shut := corners(t, h.matrix(f))
	height := shut[3] - shut[1]
	for range memory {
		h.matrix(f)
	}
	// A jaw that moves less than the margin changes the box by its part of the mean only.
	if got := corners(t, h.matrix(withJaw(f, 0.04*height)))[3]; math.Abs(got-shut[3]) > 1.5*2*0.04*height/memory {
		t.Errorf("a speaking jaw moves the lower edge from %g to %g", shut[3], got)
	}
	wide := withJaw(f, 0.2*height)
	m := h.matrix(wide)
	if _, v := m.Apply(wide.Points[152].X, wide.Points[152].Y); v > Side-0.5 {
		t.Errorf("the chin of a wide open mouth is in row %g", v)
	}
}

// TestHeadJitter checks that noise of the mesh moves the box less than half as far as the original's.
func TestHeadJitter(t *testing.T) {
	f := facetest.Portrait(t, 1)
	random := rand.New(rand.NewPCG(1, 2))
	var h head
	var own, original []float64
	for i := range 400 {
		g := &face.Face{}
		for _, p := range f.Points {
			g.Points = append(g.Points, face.Point{X: p.X + 0.7*random.NormFloat64(), Y: p.Y + 0.7*random.NormFloat64()})
		}
		m := h.matrix(g)
		if i >= memory {
			c, b := corners(t, m), meshBox(g.Points, 512, 512)
			own, original = append(own, c[3]-c[1]), append(original, float64(b.Dy()))
		}
	}
	deviation := func(v []float64) float64 {
		var sum, square float64
		for _, x := range v {
			sum, square = sum+x, square+x*x
		}
		n := float64(len(v))
		return math.Sqrt(square/n - sum/n*sum/n)
	}
	t.Logf("height of the box: deviation %.2f pixels, the original's %.2f", deviation(own), deviation(original))
	if deviation(own) > deviation(original)/2 {
		t.Errorf("the box trembles by %g pixels, the original's by %g", deviation(own), deviation(original))
	}
}

// TestHeadForgets checks that a shot, a track, and a part of a job that begins early enough do not
// depend on the frames before.
func TestHeadForgets(t *testing.T) {
	f := facetest.Portrait(t, 1)
	faces := func(i int) *face.Face { return withJaw(f, 3*math.Sin(float64(i))) }
	var whole, part head
	for i := range 60 {
		m := whole.matrix(faces(i))
		if i >= 30 {
			if got := part.matrix(faces(i)); i >= 30+memory-1 && got != m {
				t.Fatalf("frame %d: %v in a part, %v in the whole", i, got, m)
			}
		}
	}
	var fresh head
	want := fresh.matrix(f)
	whole.reset()
	if got := whole.matrix(f); got != want {
		t.Errorf("after a cut: %v, want %v", got, want)
	}
	next := &face.Face{Track: 1, Points: f.Points}
	part.matrix(withJaw(f, 9))
	if got := part.matrix(next); got != want {
		t.Errorf("in a new track: %v, want %v", got, want)
	}
}

func TestHeadTurns(t *testing.T) {
	f := facetest.Portrait(t, 1)
	var h head
	for range 40 {
		h.matrix(f)
	}
	turned := &face.Face{Points: slices.Clone(f.Points)}
	for i := range turned.Points {
		if !slices.Contains(bridge, i) {
			turned.Points[i].X -= 25 // the nose points to the right
		}
	}
	got := corners(t, h.matrix(turned))
	var fresh head
	want := corners(t, fresh.matrix(turned))
	if math.Abs(got[0]-want[0]) > 2 || math.Abs(got[2]-want[2]) > 2 {
		t.Errorf("after a quick turn, the box has the corners %.1f, want %.1f", got, want)
	}
}

func TestUnusableFace(t *testing.T) {
	points := make([]face.Point, face.Points)
	for _, original := range []bool{false, true} {
		c := &Crops{Original: original}
		m := c.Matrix(lip.Item{Face: &face.Face{Points: points}, Frame: &frame.Frame{}})
		if _, ok := m.Invert(); ok {
			t.Errorf("a face without extent has the matrix %v", m)
		}
	}
}

// TestCrop checks Crops of an image whose values are linear in x and y, on which all filters are
// exact but for rounding.
func TestCrop(t *testing.T) {
	src := frame.NewRGB(400, 300)
	value := func(x, y float64) [3]float64 {
		return [3]float64{20 + x/2, 250 - y/2, 10 + (x+y)/4}
	}
	for i := range src.W * src.H {
		for c, v := range value(float64(i%src.W), float64(i/src.W)) {
			src.Pix[3*i+c] = byte(v + 0.5)
		}
	}
	var c Crops
	for _, inv := range []frame.Affine{
		similarity(0.3, 0, 100.4, 80.7), similarity(0.9, 0.1, 80.3, 20), similarity(1.05, 0, 20, 10), similarity(1.3, -0.2, 10, 60),
		{A: 1.4, C: 12.5, E: 0.8, F: 31},
	} {
		m, _ := inv.Invert()
		crop := c.Crop(src, m)
		inside, most := 0, 0.0
		for i := range Side * Side {
			x, y := inv.Apply(float64(i%Side), float64(i/Side))
			if x < 2 || y < 2 || x > 397 || y > 297 {
				continue
			}
			inside++
			for k, v := range value(x, y) {
				most = max(most, math.Abs(float64(crop.Pix[3*i+k])-v))
			}
		}
		if inside < Side*Side/2 || most > 1.6 {
			t.Errorf("%v: %d pixels inside differ by %g at most", inv, inside, most)
		}
	}
}

// TestCropBeyondEdge checks that a crop repeats the edge of the frame.
func TestCropBeyondEdge(t *testing.T) {
	picture := portraitRGB(t)
	wide := frame.NewRGB(1024, 1024)
	picture.Warp(wide, frame.Affine{A: 1, C: -256, E: 1, F: -256}, frame.Replicate, 0)
	var c Crops
	for _, inv := range []frame.Affine{similarity(0.7, 0.2, -60, -40), similarity(1.8, 0, 300, 320), similarity(0.5, 0, 450, -100)} {
		m, _ := inv.Invert()
		inv.C, inv.F = inv.C+256, inv.F+256
		padded, _ := inv.Invert()
		if d := levels(t, c.Crop(picture, m).Pix, c.Crop(wide, padded).Pix); d > 1 {
			t.Errorf("%v: differs by %g levels from a crop of the extended picture", inv, d)
		}
	}
	// Of a box beyond the frame, the original enlarges what is inside.
	box := faceBox.Add(faceBox.Size())
	box.Min.X, box.Max.X = 400, 600
	original := Crops{Original: true}
	got := original.Crop(picture, boxMatrix(box))
	box.Max.X, box.Max.Y = min(box.Max.X, 512), min(box.Max.Y, 512)
	if d := levels(t, got.Pix, original.Crop(picture, boxMatrix(box)).Pix); d > 0 {
		t.Errorf("differs by %g levels", d)
	}
}

func TestTokens(t *testing.T) {
	const size = 5 * 3
	w := Window{silence, 0, 1, 2, 3, 4, 5, 6, 7, silence}
	got, err := w.Tokens(size, func(i int64) ([]float32, error) {
		v := make([]float32, size)
		for k := range v {
			v[k] = float32(1 + int(i)*size + k)
		}
		return v, nil
	})
	if err != nil || len(got) != 10*size {
		t.Fatal(len(got), err)
	}
	for i, v := range got {
		want := float32(1 + i - size)
		if i < size || i >= 9*size {
			want = 0
		}
		if v != want {
			t.Fatalf("value %d is %g, want %g", i, v, want)
		}
	}
	failed := fmt.Errorf("no features")
	if _, err := w.Tokens(size, func(int64) ([]float32, error) { return nil, failed }); err != failed {
		t.Errorf("error %v", err)
	}
}

// TestWindowsKeepTime checks that the window of a frame is centred at its time at any rate.
func TestWindowsKeepTime(t *testing.T) {
	for _, rate := range [][2]int64{{25, 1}, {24, 1}, {24000, 1001}, {30000, 1001}, {50, 1}, {60, 1}, {15, 1}, {25, 2}} {
		for _, frame := range []int64{0, 1, 7, 999, 100_000} {
			w := FrameWindow(frame, rate[0], rate[1], 1<<40)
			seconds := float64(frame) * float64(rate[1]) / float64(rate[0])
			if at := float64(w[4]) / 50; at > seconds+1e-9 || at < seconds-0.02 {
				t.Errorf("%v frames per second, frame %d at %g s hears %g s", rate, frame, seconds, at)
			}
		}
	}
	if got, want := FrameWindow(1, 25, 1, 6), (Window{-1, -1, 0, 1, 2, 3, 4, 5, -1, -1}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}
