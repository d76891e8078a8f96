package face

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/frame/frametest"
	"github.com/lipstream/lipstream/internal/tensor"
)

const sceneW, sceneH = 640, 480

func toFrame(p *frame.RGB) *frame.Frame {
	f := frame.New(frame.Format{Width: p.W, Height: p.H, ShiftX: 1, ShiftY: 1, Depth: 8, Matrix: frame.BT709})
	frametest.Fill(f, p)
	return f
}

// stage is the place of a portrait in a scene.
type stage struct{ x, y, scale, angle float64 }

// scene draws portraits into a patterned room.
func scene(portrait *frame.RGB, at ...stage) (*frame.Frame, []frame.Affine) {
	p := grey(sceneW, sceneH)
	var to []frame.Affine
	for _, s := range at {
		to = append(to, place(p, portrait, s.x, s.y, s.scale, s.angle))
	}
	return toFrame(p), to
}

// noCuts makes all frames one shot.
func noCuts(*frame.Frame) bool { return false }

func newTracker(t testing.TB, face string) *Tracker {
	t.Helper()
	c, err := ParseChoice(face)
	if err != nil {
		t.Fatal(err)
	}
	d, m := nets(t)
	return trackWith(d, m, Options{Choice: c})
}

// follow runs all frames through the tracker and checks their order and how many it holds.
func follow(t testing.TB, tr *Tracker, frames []*frame.Frame) []Tracked {
	t.Helper()
	var out []Tracked
	for i, f := range frames {
		ready, err := tr.Push(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, ready...)
		if held := i + 1 - len(out); held > LookAhead {
			t.Fatalf("%d frames are held", held)
		}
	}
	rest, err := tr.Flush(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out = append(out, rest...)
	if len(out) != len(frames) {
		t.Fatalf("%d frames in, %d out", len(frames), len(out))
	}
	for i := range out {
		if out[i].Frame != frames[i] {
			t.Fatalf("frame %d is out of order", i)
		}
	}
	return out
}

// reference returns the points of the portrait in its pixels.
func reference(t *testing.T, portrait *frame.RGB) []Point {
	f, to := scene(portrait, stage{320, 240, 0.9, 0})
	out := follow(t, newTracker(t, ""), []*frame.Frame{f})
	if out[0].Face == nil {
		t.Fatal("no face in the portrait")
	}
	inv, _ := to[0].Invert()
	p := make([]Point, Points)
	for i, q := range out[0].Face.Points {
		p[i].X, p[i].Y = inv.Apply(q.X, q.Y)
	}
	return p
}

// meanError returns the mean distance of the points from their true places, and the
// length of the mean shift.
func meanError(f *Face, ref []Point, to frame.Affine) (points, shift float64) {
	var sx, sy float64
	n := float64(len(ref))
	for i, q := range ref {
		x, y := to.Apply(q.X, q.Y)
		p := f.Points[i]
		points += math.Hypot(p.X-x, p.Y-y) / n
		sx += (p.X - x) / n
		sy += (p.Y - y) / n
	}
	return points, math.Hypot(sx, sy)
}

// film draws n frames of one portrait on stages that differ from frame to frame, and returns
// them with the transformations from the portrait.
func film(portrait *frame.RGB, n int, on func(i int) stage) (frames []*frame.Frame, to []frame.Affine) {
	for i := range n {
		f, m := scene(portrait, on(i))
		frames, to = append(frames, f), append(to, m[0])
	}
	return frames, to
}

// TestFollowsMotion checks that a head that moves, turns and comes nearer is followed
// within a pixel and without lag.
func TestFollowsMotion(t *testing.T) {
	backendtest.SkipShort(t)
	portrait := readPNG(t, "portrait.png")
	ref := reference(t, portrait)
	const n = 60
	frames, to := film(portrait, n, func(i int) stage {
		a := float64(i) / 25
		return stage{
			320 + 90*math.Sin(2*math.Pi*0.7*a), 240 + 20*math.Sin(2*math.Pi*1.1*a),
			0.9 + 0.08*math.Sin(2*math.Pi*0.4*a), 0.15 * math.Sin(2*math.Pi*0.5*a),
		}
	})
	tr := newTracker(t, "")
	out := follow(t, tr, frames)
	var worst, worstShift float64
	var x, want [n]float64
	for i, o := range out {
		if o.Face == nil {
			t.Fatalf("frame %d: no face", i)
		}
		if o.Face.Track != 0 || o.Cut {
			t.Errorf("frame %d: track %d, cut %v", i, o.Face.Track, o.Cut)
		}
		e, s := meanError(o.Face, ref, to[i])
		worst, worstShift = math.Max(worst, e), math.Max(worstShift, s)
		x[i] = o.Face.Points[4].X
		want[i], _ = to[i].Apply(ref[4].X, ref[4].Y)
	}
	t.Logf("mean point error at most %.2f pixels, shift at most %.2f", worst, worstShift)
	if worst > 1 || worstShift > 1 {
		t.Errorf("mean point error %.2f, shift %.2f", worst, worstShift)
	}
	if lag := bestLag(x[:], want[:]); lag != 0 {
		t.Errorf("lag of %d frames", lag)
	}
	if len(out) != n {
		t.Errorf("%d frames of %d are returned", len(out), n)
	}
}

// bestLag returns the shift of a against b at which their velocities agree best.
func bestLag(a, b []float64) int {
	best, at := math.Inf(-1), 0
	for lag := -5; lag <= 5; lag++ {
		var c float64
		for i := 6; i < len(a)-7; i++ {
			c += (a[i+lag] - a[i+lag-1]) * (b[i] - b[i-1])
		}
		if c > best {
			best, at = c, lag
		}
	}
	return at
}

// A noisy still: smoothing at least halves the jitter.
func TestSmoothingStill(t *testing.T) {
	backendtest.SkipShort(t)
	portrait := readPNG(t, "portrait.png")
	base := grey(sceneW, sceneH)
	place(base, portrait, 320, 240, 0.7, 0)
	rng := rand.New(rand.NewPCG(1, 1))
	var frames []*frame.Frame
	for range 50 {
		f := toFrame(base)
		for i, v := range f.Planes[0] {
			f.Planes[0][i] = byte(min(max(float64(v)+12*rng.NormFloat64(), 0), 255))
		}
		frames = append(frames, f)
	}
	tr := newTracker(t, "")
	raw := make([][]Point, 0, len(frames))
	var soft [][]Point
	var align []float64
	keep := func(ready []Tracked) {
		for _, o := range ready {
			soft = append(soft, o.Face.Points)
			x, _ := o.Face.Align.Apply(320, 240)
			align = append(align, x)
		}
	}
	for _, f := range frames {
		ready, err := tr.Push(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		raw = append(raw, tr.people.chosen[0].obs.points)
		keep(ready)
	}
	rest, err := tr.Flush(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keep(rest)
	for _, group := range []struct {
		name string
		pick func(int) bool
		want float64
	}{
		{"all", func(int) bool { return true }, 2},
		{"head", func(i int) bool { return i < MeshPoints && !isMouth[i] }, 2},
		{"mouth", func(i int) bool { return isMouth[i] }, 1.5},
	} {
		a, b := jitter(raw, group.pick), jitter(soft, group.pick)
		t.Logf("%s: jitter %.3f -> %.3f pixels, %.1f times less", group.name, a, b, a/b)
		if a < group.want*b {
			t.Errorf("%s: jitter %.3f only falls to %.3f", group.name, a, b)
		}
	}
}

// jitter returns the root mean square of the second difference over time.
func jitter(p [][]Point, pick func(int) bool) float64 {
	var sum, n float64
	for t := 1; t+1 < len(p); t++ {
		for i := range p[t] {
			if pick(i) {
				dx := p[t-1][i].X - 2*p[t][i].X + p[t+1][i].X
				dy := p[t-1][i].Y - 2*p[t][i].Y + p[t+1][i].Y
				sum += dx*dx + dy*dy
				n++
			}
		}
	}
	return math.Sqrt(sum / n)
}

// TestStillPictureIsFree checks that the networks run once for frames with the same
// content, and that these share a Face.
func TestStillPictureIsFree(t *testing.T) {
	portrait := readPNG(t, "portrait.png")
	picture, _ := scene(portrait, stage{320, 240, 0.9, 0})
	var frames []*frame.Frame
	for range 30 {
		f := frame.New(picture.Format)
		copy(f.Data, picture.Data)
		frames = append(frames, f)
	}
	runs := func(frames []*frame.Frame) (n int) {
		tr := newTracker(t, "")
		for _, s := range []*backend.Session{&tr.people.detector.session, &tr.people.mesh.session} {
			*s = counted{*s, &n}
		}
		out := follow(t, tr, frames)
		for i, o := range out {
			if o.Face == nil || o.Face != out[0].Face {
				t.Fatalf("frame %d has a face of its own or none", i)
			}
		}
		return n
	}
	if one, all := runs(frames[:1]), runs(frames); one == 0 || all != one {
		t.Errorf("the networks run %d times for one frame and %d times for all", one, all)
	}
}

// counted is a session that counts its runs.
type counted struct {
	backend.Session
	n *int
}

func (c counted) Run(ctx context.Context, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	*c.n++
	return c.Session.Run(ctx, in)
}

// TestCutRestarts checks that a cut to a face in another place begins a new track, and that
// neither shot influences the other.
func TestCutRestarts(t *testing.T) {
	backendtest.SkipShort(t)
	portrait := readPNG(t, "portrait.png")
	ref := reference(t, portrait)
	frames, to := film(portrait, 12, func(i int) stage {
		return stage{200 + float64(i), 240, 0.8, 0}
	})
	for i := range 12 {
		p := frame.NewRGB(sceneW, sceneH)
		for k := range p.Pix {
			p.Pix[k] = byte(k / 3 % sceneW / 4)
		}
		m := place(p, portrait, 440-float64(i), 230, 0.8, 0.1)
		frames, to = append(frames, toFrame(p)), append(to, m)
	}
	out := follow(t, newTracker(t, ""), frames)
	for i, o := range out {
		if o.Face == nil {
			t.Fatalf("frame %d: no face", i)
		}
		if o.Cut != (i == 12) || o.Face.Track != i/12 {
			t.Errorf("frame %d: cut %v, track %d", i, o.Cut, o.Face.Track)
		}
		if e, _ := meanError(o.Face, ref, to[i]); e > 1 {
			t.Errorf("frame %d: error %.2f", i, e)
		}
	}
}

// A face that leaves for long returns as a new track, and a short gap is bridged.
func TestGaps(t *testing.T) {
	backendtest.SkipShort(t)
	portrait := readPNG(t, "portrait.png")
	var frames []*frame.Frame
	gone := func(i int) bool { return i >= 10 && i < 13 || i >= 22 && i < 32 }
	for i := range 44 {
		if gone(i) {
			// A grey board hides the face, so that the room stays the same.
			f, _ := scene(frame.NewRGB(200, 300), stage{320 + float64(i), 240, 1, 0})
			frames = append(frames, f)
			continue
		}
		f, _ := scene(portrait, stage{320 + float64(i), 240, 0.6, 0})
		frames = append(frames, f)
	}
	tr := newTracker(t, "")
	tr.cuts = noCuts // the board is most of the thumbnail's structure
	out := follow(t, tr, frames)
	for i, o := range out {
		switch {
		case i >= 10 && i < 13:
			if o.Face == nil || !o.Face.Bridged || o.Face.Track != 0 {
				t.Errorf("frame %d is not bridged: %v", i, o.Face)
			}
		case gone(i):
			if o.Face != nil {
				t.Errorf("frame %d has a face", i)
			}
		default:
			track := 0
			if i >= 32 {
				track = 1
			}
			if o.Face == nil || o.Face.Track != track || o.Face.Bridged {
				t.Errorf("frame %d: %v, want track %d", i, o.Face, track)
			} else if o.Cut {
				t.Errorf("frame %d: cut %v", i, o.Cut)
			}
		}
	}
}

// TestJump checks that a person is followed at once, on a new track, after a jump cut in an
// unchanged room.
func TestJump(t *testing.T) {
	backendtest.SkipShort(t)
	portrait := readPNG(t, "portrait.png")
	ref := reference(t, portrait)
	frames, to := film(portrait, 20, func(i int) stage {
		return stage{230 + 150*float64(i/10) + float64(i), 240, 0.7, 0}
	})
	tr := newTracker(t, "")
	tr.cuts = noCuts
	for i, o := range follow(t, tr, frames) {
		if o.Face == nil || o.Face.Track != i/10 || o.Cut {
			t.Fatalf("frame %d: cut %v, face %+v", i, o.Cut, o.Face)
		}
		if e, _ := meanError(o.Face, ref, to[i]); e > 1 {
			t.Errorf("frame %d: error %.2f", i, e)
		}
	}
}

func TestUnusable(t *testing.T) {
	portrait := readPNG(t, "portrait.png").Half().Half() // face about 46 wide
	f, _ := scene(portrait, stage{320, 240, 0.5, 0})
	tr := newTracker(t, "")
	out := follow(t, tr, []*frame.Frame{f, toFrame(grey(sceneW, sceneH))})
	if out[0].Face != nil || out[1].Face != nil {
		t.Error("a face that is too small was returned")
	}
}

func TestUsable(t *testing.T) {
	for _, c := range []struct {
		x, scale, yaw float64
		want          bool
	}{
		{320, 10, 0, true},
		{320, 1, 0, false}, // too small
		{320, 10, 1.1, false},
		{320, 10, -1.1, false},
		{320, 10, 0.9, true},
		{40, 10, 0, true},
		{-30, 10, 0, false}, // mostly outside
	} {
		f := &Face{Points: make([]Point, Points), Yaw: c.yaw}
		for i := range f.Points {
			q := Canonical[min(i, MeshPoints-1)]
			f.Points[i] = Point{c.x + c.scale*q.X, 240 - c.scale*q.Y, -c.scale * q.Z}
		}
		if got := f.usable(640, 480); got != c.want {
			t.Errorf("%+v: usable %v", c, got)
		}
	}
}

func TestForget(t *testing.T) {
	keep := &person{gone: 1000}
	p := people{chosen: []*person{keep}, all: []*person{keep}}
	for i := range 100 {
		p.all = append(p.all, &person{gone: i % 7})
		p.forget()
	}
	if len(p.all) != maxKnown || p.all[0] != keep {
		t.Errorf("%d people are remembered", len(p.all))
	}
}

func TestContextEnds(t *testing.T) {
	tr, err := NewTracker(t.Context(), openBackend(t), Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tr.Push(ctx, toFrame(grey(64, 64))); err == nil {
		t.Error("Push ignores the context")
	}
	if _, err := tr.Flush(ctx); err == nil {
		t.Error("Flush ignores the context")
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
}

func BenchmarkTrack720(b *testing.B) {
	portrait := readPNG(b, "portrait.png")
	var frames []*frame.Frame
	for i := range 50 {
		p := grey(1280, 720)
		place(p, portrait, 600+float64(i), 360, 1.1, 0)
		frames = append(frames, toFrame(p))
	}
	tr := newTracker(b, "")
	i := 0
	for b.Loop() {
		ready, err := tr.Push(b.Context(), frames[i%50])
		if err != nil {
			b.Fatal(err)
		}
		if len(ready) > 0 && ready[0].Face == nil {
			b.Error("a frame without a face")
		}
		i++
	}
}
