package preview

import (
	"fmt"
	"image"
	"math"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/face/facetest"
	"github.com/lipstream/lipstream/internal/face/talker"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/lip/liptest"
)

// always is a mouth that does not move.
func always(m audio.Mouth) func(int64) audio.Mouth { return func(int64) audio.Mouth { return m } }

var yuv420 = frame.Format{ShiftX: 1, ShiftY: 1, Depth: 8, Matrix: frame.BT709}

func TestConformance(t *testing.T) {
	for _, f := range []frame.Format{
		yuv420,
		{Depth: 8, FullRange: true},
		{ShiftX: 1, Depth: 8},
	} {
		t.Run(f.PixFmt(), func(t *testing.T) {
			picture, fc := facetest.Frame(t, f)
			liptest.Run(t, liptest.Subject{Open: func(*testing.T) lip.Engine { return New(25, 4, liptest.Mouth) }, Picture: picture, Face: fc})
		})
	}
}

// TestTenBit checks that ten bits give the same picture as eight. The rim of the mouth may be
// found a fraction of a pixel elsewhere.
func TestTenBit(t *testing.T) {
	eight, fc := facetest.Frame(t, yuv420)
	deep := yuv420
	deep.Depth = 10
	ten, _ := facetest.Frame(t, deep)
	for _, f := range []*frame.Frame{eight, ten} {
		if _, err := New(25, 0, always(audio.Mouth{Open: 0.7, Speech: 1})).Push(t.Context(), lip.Item{Frame: f, Face: fc, Cut: true}); err != nil {
			t.Fatal(err)
		}
	}
	w, h := eight.Size()
	far := 0
	for i := range w * h {
		a := float64(eight.Planes[0][i])
		b := (float64(ten.Planes[0][2*i]) + 256*float64(ten.Planes[0][2*i+1])) / 4
		if math.Abs(a-b) > 1.5 {
			if far++; math.Abs(a-b) > 30 {
				t.Fatalf("pixel %d,%d: %v at 8 bits, %v at 10", i%w, i/w, a, b)
			}
		}
	}
	if far > w*h/500 {
		t.Errorf("%d pixels differ", far)
	}
}

// TestShapes checks the lips' geometry, in units of the eye distance.
func TestShapes(t *testing.T) {
	fc := facetest.Portrait(t, 1)
	ps, ok := newPose(fc.Points)
	if !ok {
		t.Fatal("no pose")
	}
	points := make([]vec, meshPoints)
	for i := range points {
		points[i] = ps.toFace(vec{fc.Points[i].X, fc.Points[i].Y})
	}
	source := readLips(points)
	if g := source.gap(); g < 0.05 {
		t.Fatalf("the portrait smiles with parted lips, but the gap is %.3f", g)
	}
	closed := source.closed()
	if g := closed.gap(); g > 1e-9 {
		t.Errorf("closed lips are %.4f apart", g)
	}
	width := func(l lips) float64 { return l.lower[0][columns-1].x - l.lower[0][0].x }
	gap := func(m audio.Mouth) float64 { l := closed.speak(m); return l.gap() }

	rest := closed.speak(audio.Mouth{})
	if rest != closed {
		t.Error("silence changes the closed lips")
	}
	for _, m := range []audio.Mouth{{Open: 0.25}, {Open: 0.5}, {Open: 1}} {
		// The mean over the middle columns is a little below the middle.
		if want, got := maxOpening*float64(m.Open), gap(m); math.Abs(got-want) > 0.06*want {
			t.Errorf("Open %.2f: lips %.4f apart, want about %.4f", m.Open, got, want)
		}
	}
	if g := gap(audio.Mouth{Open: 0.8, Close: 1}); g > minOpening {
		t.Errorf("pressed lips are %.4f apart", g)
	}
	if w := width(closed.speak(audio.Mouth{Round: 1})); w > 0.85*width(closed) {
		t.Errorf("rounded lips are %.3f wide, closed ones %.3f", w, width(closed))
	}
	if w := width(closed.speak(audio.Mouth{Wide: 1})); w < 1.05*width(closed) {
		t.Errorf("spread lips are %.3f wide, closed ones %.3f", w, width(closed))
	}
}

// TestWarpDoesNotTear turns the head up to 30 degrees and checks that the
// warp stays one piece outside of the mouth's opening: neighbouring pixels
// never come from places more than 4 pixels further apart, and hardly any are
// turned inside out (the creases of the smile, which unfold, are).
func TestWarpDoesNotTear(t *testing.T) {
	if testing.Short() {
		t.Skip("many poses")
	}
	k := newHead(t, 512, 200)
	for _, pose := range [][3]float64{{}, {30, 0, 0}, {-30, 0, 0}, {0, 20, 0}, {0, -20, 0}, {0, 0, 30}, {0, 0, -30}, {20, 15, 25}, {-25, -10, -20}} {
		const degree = math.Pi / 180
		l := talker.Look{Gap: 0.08, Yaw: pose[0] * degree, Pitch: pose[1] * degree, View: k.View(0, k.side, k.side, k.wide)}
		l.View = rolled(l.View, pose[2]*degree, float64(k.side)/2)
		f, points := k.frame(l)
		for _, m := range []audio.Mouth{{}, {Open: 1}, {Open: 0.5, Round: 1}, {Open: 0.4, Wide: 1}, {Close: 1}} {
			t.Run(fmt.Sprintf("%v %+v", pose, m), func(t *testing.T) {
				e := New(25, 0, always(m))
				work := frame.New(f.Format)
				copy(work.Data, f.Data)
				fc := &face.Face{Points: points, Align: face.TemplateAffine(face.AlignPoints468(points))}
				if _, err := e.Push(t.Context(), lip.Item{Frame: work, Face: fc, Cut: true}); err != nil {
					t.Fatal(err)
				}
				if !e.speaker.known {
					t.Fatal("the pose was given up")
				}
				checkField(t, e)
			})
		}
	}
}

// rolled turns a view by an angle in radians around the middle of the frame, at (c, c).
func rolled(v frame.Affine, angle, c float64) frame.Affine {
	sin, cos := math.Sincos(angle)
	v.C, v.F = v.C-c, v.F-c
	return frame.Affine{
		A: cos*v.A - sin*v.D, B: cos*v.B - sin*v.E, C: cos*v.C - sin*v.F + c,
		D: sin*v.A + cos*v.D, E: sin*v.B + cos*v.E, F: sin*v.C + cos*v.F + c,
	}
}

// TestMouthOutside shows faces whose mouths are partly or wholly outside of the frame.
func TestMouthOutside(t *testing.T) {
	picture, fc := facetest.Frame(t, yuv420)
	for _, by := range [][2]float64{{0, 150}, {0, 215}, {0, 240}, {0, 262}, {150, 0}, {220, 0}, {262, 0}, {-262, 0}, {0, 285}, {0, 300}, {0, 320}, {310, 0}, {-310, 0}, {330, 0}, {-330, 0}} {
		moved := *fc
		moved.Points = slices.Clone(fc.Points)
		for i := range moved.Points {
			moved.Points[i].X += by[0]
			moved.Points[i].Y += by[1]
		}
		moved.Align = face.TemplateAffine(face.AlignPoints468(moved.Points))
		f := frame.New(picture.Format)
		copy(f.Data, picture.Data)
		e := New(25, 2, always(audio.Mouth{Open: 0.7, Speech: 1}))
		out, err := e.Push(t.Context(), lip.Item{Frame: f, Face: &moved, Cut: true})
		if err != nil {
			t.Fatal(err)
		}
		rest, err := e.Flush(t.Context())
		if err != nil || len(out)+len(rest) != 1 {
			t.Errorf("moved by %v: %d frames, %v", by, len(out)+len(rest), err)
		}
	}
}

// checkField looks at the warp away from the mouth's opening, where a jump is
// what a mouth is.
func checkField(t *testing.T, e *Engine) {
	t.Helper()
	f := &e.field
	mouth := e.paint.Rectangle
	folded := 0
	for y := f.Min.Y; y < f.Max.Y-1; y++ {
		for x := f.Min.X; x < f.Max.X-1; x++ {
			if (image.Point{x, y}).In(mouth.Inset(-2)) {
				continue
			}
			i := f.at(x, y)
			xx, xy := 1+f.dx[i+1]-f.dx[i], f.dy[i+1]-f.dy[i]
			yx, yy := f.dx[i+f.Dx()]-f.dx[i], 1+f.dy[i+f.Dx()]-f.dy[i]
			if jump := max(abs(xx-1), abs(xy), abs(yx), abs(yy-1)); jump > 4 {
				t.Fatalf("at %d,%d the warp has the Jacobian [%.2f %.2f; %.2f %.2f]", x, y, xx, xy, yx, yy)
			}
			if xx*yy-xy*yx <= 0 {
				folded++
			}
		}
	}
	if folded > f.Dx()*f.Dy()/500 {
		t.Errorf("%d of %d pixels are turned inside out", folded, f.Dx()*f.Dy())
	}
}

func abs(x float32) float32 { return max(x, -x) }

func BenchmarkFrame(b *testing.B) {
	f, fc := facetest.Frame(b, yuv420)
	e := New(25, 0, func(frame int64) audio.Mouth { return audio.Mouth{Open: float32(frame%10) / 10, Speech: 1} })
	work := frame.New(f.Format)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		copy(work.Data, f.Data)
		work.Index = int64(i)
		if _, err := e.Push(b.Context(), lip.Item{Frame: work, Face: fc, Cut: i == 0}); err != nil {
			b.Fatal(err)
		}
	}
}
