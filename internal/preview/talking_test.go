package preview

import (
	"image"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/backend/runtimes"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/face/facetest"
	"github.com/lipstream/lipstream/internal/face/talker"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/frame/frametest"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/lip/liptest"
	"github.com/lipstream/lipstream/internal/media"
)

// head talks with a wide open mouth.
type head struct {
	*talker.Head
	side int
	wide float64 // width of the face, pixels
}

func newHead(t *testing.T, side int, wide float64) head {
	t.Helper()
	return head{talker.New(facetest.Picture(t), facetest.Portrait(t, 1).Points), side, wide}
}

// frame draws a frame of 8 bits and returns the points of the mesh in it.
func (k head) frame(l talker.Look) (*frame.Frame, []face.Point) {
	rgb := frame.NewRGB(k.side, k.side)
	points := k.Draw(rgb, l)
	f := frame.New(frame.Format{Width: k.side, Height: k.side, ShiftX: 1, ShiftY: 1, Depth: 8, Matrix: frame.BT709})
	frametest.Fill(f, rgb)
	return f, points
}

// TestClosesOpenMouth lets a head that does not move talk in silence, and compares with the
// same head with its mouth closed: lips, their height, and no teeth. Its points are known but
// for the noise that the mesh network has, and no frame may shimmer against the one before.
func TestClosesOpenMouth(t *testing.T) {
	if testing.Short() {
		t.Skip("draws many frames")
	}
	k := newHead(t, 320, 170)
	look := func(i int, gap float64) talker.Look {
		return talker.Look{Gap: gap, Pucker: talker.Talk(i, 0).Pucker, View: k.View(0, k.side, k.side, k.wide)}
	}
	e := New(25, 25, always(audio.Mouth{}))
	random := rand.New(rand.NewPCG(1, 2))
	_, still := k.frame(look(0, 0))
	mouth := image.Rect(int(still[61].X), int(still[2].Y), int(still[291].X), int(still[18].Y)+4)
	var last, lastSource *frame.Frame
	var worst, shimmer, moved float64
	take := func(done []lip.Item, err error) {
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range done {
			if i := int(it.Frame.Index); i >= 20 {
				closed, _ := k.frame(look(i, 0))
				worst = max(worst, liptest.Difference(it.Frame, closed, mouth))
				shimmer = max(shimmer, liptest.Difference(it.Frame, last, mouth))
			}
			last = it.Frame
		}
	}
	for i := range 40 {
		l := look(i, talker.Talk(i, 0.25).Gap)
		f, points := k.frame(l)
		source := frame.New(f.Format)
		copy(source.Data, f.Data)
		if i >= 20 {
			moved = max(moved, liptest.Difference(source, lastSource, mouth))
		}
		lastSource = source
		f.Index = int64(i)
		fc := &face.Face{Points: points, Align: face.TemplateAffine(face.AlignPoints468(points))}
		for p := range fc.Points {
			fc.Points[p].X += 0.2 * random.NormFloat64()
			fc.Points[p].Y += 0.2 * random.NormFloat64()
		}
		take(e.Push(t.Context(), lip.Item{Frame: f, Face: fc, Cut: i == 0}))
	}
	take(e.Flush(t.Context()))
	t.Logf("differs from a closed mouth by up to %.2f, from the frame before by up to %.2f (source %.2f)", worst, shimmer, moved)
	if worst > 7 {
		t.Errorf("the mouth differs from a closed one by %.1f", worst)
	}
	if shimmer > moved/4 {
		t.Errorf("frames differ by %.1f from those before; those of the source, which talks, by %.1f", shimmer, moved)
	}
}

// TestTalkingSource speaks over heads that talk with a wide open mouth and measures the
// result as lipstream bench sync does.
func TestTalkingSource(t *testing.T) {
	if testing.Short() {
		t.Skip("draws many frames")
	}
	nets, err := runtimes.Open(t.Context(), runtimes.Choice{Device: "cpu"})
	if err != nil {
		t.Skip("no runtime: ", err)
	}
	t.Cleanup(func() { _ = nets.Close() })
	mesh, err := face.NewMesh(t.Context(), nets, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mesh.Close() })
	for _, c := range []struct {
		name                 string
		turn, gap            float64
		maxSilence, maxMoved float64 // % of the speaking range
	}{
		{"frontal", 0, 0.34, 6, 2},
		// The mesh sees an aperture of 6 % even if the mouth of this head is really closed.
		{"turned by up to 45 degrees", 0.635, 0.2, 8, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newHead(t, 320, 170)
			tracker, err := face.NewTracker(t.Context(), nets, face.Options{Threads: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tracker.Close() }()
			silent := func(i int64) bool { return i < 28 }
			e := New(25, 25, func(i int64) audio.Mouth {
				if silent(i) {
					return audio.Mouth{}
				}
				return audio.Mouth{Open: float32(0.5 + 0.5*math.Sin(float64(i))), Speech: 1}
			})
			var quiet, upper, lower, speaking []float64
			measure := func(done []lip.Item, err error) {
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range done {
					m := liptest.Measure(t, mesh, d.Frame, d.Face)
					if silent(d.Frame.Index) {
						quiet, upper, lower = append(quiet, m.Gap), append(upper, m.Upper), append(lower, m.Lower)
					} else {
						speaking = append(speaking, m.Gap)
					}
				}
			}
			take := func(done []face.Tracked, err error) {
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range done {
					if d.Face == nil {
						t.Fatalf("frame %d has no face", d.Frame.Index)
					}
					measure(e.Push(t.Context(), lip.Item{Frame: d.Frame, Face: d.Face, Cut: d.Cut || d.Frame.Index == 0}))
				}
			}
			for i := range 46 {
				l := talker.Talk(i, c.gap)
				l.Yaw += c.turn
				l.View = k.View(i, k.side, k.side, k.wide)
				f, _ := k.frame(l)
				f.Index = int64(i)
				take(tracker.Push(t.Context(), f))
			}
			take(tracker.Flush(t.Context()))
			measure(e.Flush(t.Context()))
			for _, v := range [][]float64{quiet, upper, lower, speaking} {
				slices.Sort(v)
			}
			span := 0.01 * (speaking[len(speaking)*95/100] - min(quiet[0], speaking[0]))
			silence, moved := quiet[len(quiet)*95/100]/span, deviation(quiet)/span
			t.Logf("aperture in silence %.1f %%, movement %.1f %%; lips %.3f to %.3f and %.3f to %.3f high",
				silence, moved, upper[2], upper[len(upper)-3], lower[2], lower[len(lower)-3])
			if silence > c.maxSilence || moved > c.maxMoved {
				t.Errorf("aperture in silence %.1f %%, movement %.1f %%, want at most %v and %v", silence, moved, c.maxSilence, c.maxMoved)
			}
			for name, v := range map[string][]float64{"upper": upper, "lower": lower} {
				middle := v[len(v)/2]
				if lo, hi := v[2], v[len(v)-3]; lo < 0.75*middle || hi > 1.25*middle {
					t.Errorf("the %s lip is between %.3f and %.3f high, usually %.3f", name, lo, hi, middle)
				}
			}
		})
	}
}

// TestLearnsFromLaterFrames lets a still head open its mouth only after a while. The teeth that
// the engine shows before must be those that it shows after, and not painted ones; but not
// after a cut, nor if it holds nothing back.
func TestLearnsFromLaterFrames(t *testing.T) {
	k := newHead(t, 320, 170)
	var frames [2]*frame.Frame
	var faces [2]*face.Face
	for n, gap := range []float64{0, 0.25} {
		var points []face.Point
		frames[n], points = k.frame(talker.Look{Gap: gap, View: k.View(0, k.side, k.side, k.wide)})
		faces[n] = &face.Face{Points: points, Align: face.TemplateAffine(face.AlignPoints468(points))}
	}
	p := faces[0].Points
	mouth := image.Rect(int(p[61].X), int(p[2].Y), int(p[291].X), int(p[18].Y)+12)
	// differ returns how far the mouth before the opening differs from that after it.
	differ := func(hold, cut int) float64 {
		e := New(25, hold, always(audio.Mouth{Open: 0.8, Speech: 1}))
		var out []lip.Item
		take := func(done []lip.Item, err error) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, done...)
		}
		for i := range 20 {
			n := 0
			if i >= 6 && i < 12 {
				n = 1
			}
			f := frame.New(frames[n].Format)
			copy(f.Data, frames[n].Data)
			f.Index = int64(i)
			take(e.Push(t.Context(), lip.Item{Frame: f, Face: faces[n], Cut: i == 0 || i == cut}))
		}
		take(e.Flush(t.Context()))
		if len(out) != 20 {
			t.Fatalf("%d of 20 frames come out", len(out))
		}
		return liptest.Difference(out[2].Frame, out[18].Frame, mouth)
	}
	with, without, cut := differ(12, -1), differ(0, -1), differ(12, 6)
	t.Logf("the mouth before the opening differs by %.2f from that after it; without look-ahead %.2f, with a cut between %.2f", with, without, cut)
	if with > without/3 {
		t.Errorf("with look-ahead, the mouth before the opening differs by %.1f from that after it, without by %.1f", with, without)
	}
	if cut < 0.8*without {
		t.Errorf("the frames after a cut are used: the mouth differs by %.1f, without look-ahead by %.1f", cut, without)
	}
}

func deviation(v []float64) float64 {
	var mean, sum float64
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		sum += (x - mean) * (x - mean) / float64(len(v))
	}
	return math.Sqrt(sum)
}

// TestAhead checks how many frames are held back: those of a second, or as many as fit into the
// memory for them.
func TestAhead(t *testing.T) {
	for _, c := range []struct{ w, h, depth, rate, speakers, want int }{
		{1920, 1080, 8, 25, 1, 25}, {1920, 1080, 8, 60, 1, 32}, {1920, 1080, 8, 25, 2, 16}, {3840, 2160, 8, 25, 0, 8},
		{3840, 2160, 10, 25, 1, 4}, {16384, 16384, 8, 25, 1, 0},
	} {
		h := lip.Host{
			Rate: media.Rational{Num: int64(c.rate), Den: 1}, Speakers: c.speakers,
			Format: frame.Format{Width: c.w, Height: c.h, ShiftX: 1, ShiftY: 1, Depth: c.depth},
		}
		if got := ahead(h); got != c.want {
			t.Errorf("%+v: %d frames are held", c, got)
		}
	}
}
