// Package preview implements a lip engine that needs no checkpoint: it moves the
// speaker's own pixels. A mesh warp of lips, jaw and cheeks closes the mouth of
// each frame (neutralises it), then opens it to the shape of the voice. The inside
// of the mouth is painted, with the speaker's own teeth if the video has shown
// them. The engine works on the frame's own planes, so that pixels outside the
// face mask stay bit-identical.
package preview

import (
	"context"
	"image"
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/settings"
)

// Engine implements lip.Engine. It is not safe for concurrent use.
type Engine struct {
	mask  *mask
	mem   *membrane
	field field
	src   [3]patch // the region as it was, one patch a plane
	paint layer
	rim   rim
	row   row
	spans []span // of the rows of the field
	out   [1]lip.Item

	speaker speaker
	rate    float64 // share by which the neutral shape follows, per frame

	mouth func(frame int64) audio.Mouth
}

// New returns an engine for video of the given frame rate. mouth returns the mouth
// to draw in a frame, by the frame's number in the output.
func New(fps float64, mouth func(frame int64) audio.Mouth) *Engine {
	return &Engine{
		mouth: mouth,
		mask:  newMask(),
		mem:   newMembrane(newTopology()),
		rate:  1 - math.Exp(-1/(neutralSeconds*max(fps, 1))),
	}
}

// Name returns "preview".
func (e *Engine) Name() string { return settings.EnginePreview }

// Report returns an empty report: decoding and encoding take longer than this
// engine.
func (e *Engine) Report() lip.Report { return lip.Report{} }

// Estimate returns an empty estimate, for the same reason.
func (e *Engine) Estimate(context.Context, int64, float64) (lip.Estimate, error) {
	return lip.Estimate{}, nil
}

// Hold returns 0: a frame is finished as soon as it is seen.
func (e *Engine) Hold() int { return 0 }

// Close does nothing: the engine holds only memory.
func (e *Engine) Close() error { return nil }

// Push draws the mouth on the item's face.
func (e *Engine) Push(ctx context.Context, it lip.Item) ([]lip.Item, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e.out[0] = it
	e.frame(&e.out[0])
	return e.out[:], nil
}

// Flush does nothing: no items are held.
func (e *Engine) Flush(context.Context) ([]lip.Item, error) { return nil, nil }

func (e *Engine) frame(it *lip.Item) {
	if it.Cut || it.Face == nil {
		e.speaker = speaker{}
	}
	if it.Face == nil {
		return
	}
	ps, ok := newPose(it.Face.Points)
	region := maskRegion(it.Frame, it.Face.Align)
	if !ok || region.Empty() {
		it.Face, e.speaker = nil, speaker{}
		return
	}
	from, points := make([]vec, meshPoints), make([]vec, meshPoints)
	for i := range points {
		p := it.Face.Points[i]
		from[i], points[i] = vec{p.X, p.Y}, ps.point(p)
	}
	for i := range e.src {
		e.src[i].load(it.Frame, i, chromaRegion(it.Frame, i, region.Inset(-4)))
	}

	read := func(p vec) colour { return colourAt(&e.src, it.Frame, p) }
	e.speaker.meet(it.Face.Track)
	e.look(from, points, &ps, read)
	source := readLips(points)
	e.speaker.learn(&source, e.rate)
	mouth := e.mouth(it.Frame.Index)
	// Drawn-in corners would fold the cheek that a turned head half hides.
	mouth.Round *= float32(0.2 + 0.8*smoothstep(0.82, 0.95, ps.frontal()))
	target := e.speaker.neutral.speak(mouth)
	e.mem.move(&source, &target, e.freeJaw(it.Face, jawShare*opening(mouth)-source.jaw(), ps.unit))
	e.mem.unfold(from)
	from = surround(from)
	to := make([]vec, len(from))
	for i, p := range from {
		to[i] = p.add(ps.shift(e.mem.d[i]))
	}
	in := newInterior(to, &ps, &e.speaker.neutral, float64(mouth.Tongue))
	in.skin, in.lip = e.speaker.skin, meanColour(from, read, lipPoints)
	if !it.Frame.FullRange {
		in.black = 16
	}
	e.speaker.plate.learn(from, &ps, &in, read)
	e.field.reset(region)
	e.mask.cover(&e.field, it.Face.Align)
	e.paint.render(&e.field, &in, &ps, e.speaker.plate)
	e.warp(from, to, &ps, source.gap())
	e.mask.attenuate(&e.field, it.Face.Align)
	e.compose(it.Frame)
	it.Regions = append(it.Regions, lip.Region{Face: it.Face, W: maskW, H: maskH, Alpha: e.mask.alpha, Matrix: it.Face.Align})
}

// look finds the rim of the mouth of a mesh, which is given in pixels and in face
// coordinates, and moves its lips there.
func (e *Engine) look(from, points []vec, ps *pose, read func(vec) colour) {
	e.speaker.skin = meanColour(from, read, skinPoints)
	e.rim.find(from, ps, e.speaker.inside(), read)
	e.speaker.glance(&e.rim, ps, read)
	before := slices.Clone(from)
	e.rim.fit(from, ps)
	for i := range points {
		if from[i] != before[i] {
			points[i] = points[i].add(ps.toFace(from[i]).sub(ps.toFace(before[i])))
		}
	}
}

// chromaRegion returns region r of the frame in samples of plane i.
func chromaRegion(f *frame.Frame, i int, r image.Rectangle) image.Rectangle {
	if i == 0 {
		return r
	}
	return image.Rect(r.Min.X>>f.ShiftX-2, r.Min.Y>>f.ShiftY-2, r.Max.X>>f.ShiftX+3, r.Max.Y>>f.ShiftY+3)
}

// warp fills the field from the displaced mesh.
func (e *Engine) warp(from, to []vec, ps *pose, gap float64) {
	upper, lower := edges(from, to, ps, gap, &e.rim)
	box := around(8, to[200], to[200])
	for k := range columns {
		box = box.Union(around(8, to[upperLip[0][k]], to[lowerLip[0][k]])).Union(around(8, from[upperLip[0][k]], from[lowerLip[0][k]]))
	}
	box = box.Intersect(e.field.Inset(1))
	e.field.open(box)
	for _, t := range e.mem.triangles {
		d := [3]vec{to[t[0]], to[t[1]], to[t[2]]}
		s := [3]vec{from[t[0]], from[t[1]], from[t[2]]}
		// What is turned away, or lies in a fold such as the corner of a
		// smile, has no pixels of its own to show.
		if facing(d) && facing(s) {
			e.field.triangle(d, s)
		}
	}
	e.field.lip(&upper, -1)
	e.field.lip(&lower, 1)
	// The border of the mouth's opening, unfolded creases, and what the mesh, which does
	// not follow a wide open mouth everywhere, has turned inside out.
	e.field.grow(box, &e.paint)
}

// facing reports whether a triangle of the mesh is seen from its front.
func facing(t [3]vec) bool {
	return (t[1].x-t[0].x)*(t[2].y-t[0].y)-(t[1].y-t[0].y)*(t[2].x-t[0].x) < 0
}

// around returns the box of the pixels up to r from two points.
func around(r int, p, q vec) image.Rectangle {
	a, b := image.Pt(int(p.x), int(p.y)), image.Pt(int(q.x), int(q.y))
	one := image.Rect(0, 0, 1, 1)
	return one.Add(a).Union(one.Add(b)).Inset(-r)
}

// freeJaw returns how far the chin may move if it should move by dy, in face units. A
// jaw that closes uncovers the neck. What is below the mask cannot move, so the skin
// between chin and mask is stretched, but not by more than maxStretch.
func (e *Engine) freeJaw(f *face.Face, dy, unit float64) float64 {
	const maxStretch = 2.5
	_, chin := f.Align.Apply(f.Points[152].X, f.Points[152].Y)
	neck := max(0, float64(e.mask.floor[maskW/2])-chin)
	scale := math.Sqrt(math.Abs(f.Align.A*f.Align.E-f.Align.B*f.Align.D)) * unit
	return max(dy, -(maxStretch-1)*neck/scale)
}

// Kind implements lip.Kind. The preview can always run.
type Kind struct{}

// Name returns the value of the setting `engine`.
func (Kind) Name() string { return settings.EnginePreview }

// Describe returns one sentence for people.
func (Kind) Describe() string { return "Fast, on any machine; moves the mouth that is there" }

// Install returns "": the preview needs nothing.
func (Kind) Install() string { return "" }

// Check returns nil: the preview has no settings of its own.
func (Kind) Check(settings.Settings) error { return nil }

// Ready reports that the preview can run.
func (Kind) Ready(settings.Settings) (string, bool) { return "", true }

// Find returns the model.
func (Kind) Find(context.Context, settings.Settings) (lip.Model, error) {
	return lip.Model{
		Name:  settings.EnginePreview,
		Needs: audio.Needs{Mouths: true}, InPlace: true,
		Open: func(_ context.Context, h lip.Host) (lip.Engine, error) {
			return New(h.Rate.Float(), func(frame int64) audio.Mouth {
				return h.Voice.Mouth(audio.FrameTime(frame, int(h.Rate.Num), int(h.Rate.Den)))
			}), nil
		},
	}, nil
}
