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

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/settings"
)

// The mask in template coordinates at this many pixels a template unit, and
// the width of its soft edge in template units.
const (
	maskW, maskH = face.TemplateW, face.TemplateH
	maskFeather  = 14
)

// Engine implements lip.Engine. It is not safe for concurrent use.
type Engine struct {
	mask  []float32
	mem   *membrane
	field field
	src   [3]patch // the region as it was, one patch a plane
	paint layer
	out   [1]lip.Item

	// State of the current track.
	track   int
	known   bool
	neutral lips
	chin    float64 // smallest distance from nose to chin seen: the closed jaw
	plate   *plate
	rate    float64 // share by which the neutral shape follows, per frame

	mouth func(frame int64) audio.Mouth
}

// neutralSeconds is the time constant with which the neutral shape follows the
// face: slow enough to average syllables away, fast enough to follow pose and
// expression.
const neutralSeconds = 0.4

// New returns an engine for video of the given frame rate. mouth returns the mouth
// to draw in a frame, by the frame's number in the output.
func New(fps float64, mouth func(frame int64) audio.Mouth) *Engine {
	return &Engine{
		mouth: mouth,
		mask:  face.MaskAlpha(maskW, maskH, maskFeather),
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
		e.known = false
	}
	if it.Face == nil {
		return
	}
	ps, ok := newPose(it.Face.Points)
	region := e.region(it.Frame, it.Face.Align)
	if !ok || region.Empty() {
		it.Face, e.known = nil, false
		return
	}
	points := make([]vec, meshPoints)
	for i := range points {
		points[i] = ps.toFace(vec{it.Face.Points[i].X, it.Face.Points[i].Y})
	}
	points = surround(points)
	for i := range e.src {
		e.src[i].load(it.Frame, i, chromaRegion(it.Frame, i, region.Inset(-4)))
	}

	source := readLips(points)
	e.learn(it, &source, points, &ps)
	mouth := e.mouth(it.Frame.Index)
	// Drawn-in corners would fold the cheek that a turned head half hides.
	mouth.Round *= float32(0.2 + 0.8*smoothstep(0.82, 0.95, ps.frontal()))
	target := e.neutral.speak(mouth)
	e.mem.move(&source, &target)
	e.warp(points, &ps, region, source.gap())
	e.attenuate(it.Face.Align)

	in := newInterior(&target, &e.neutral, float64(mouth.Tongue), ps.unit)
	e.palette(&in, it.Frame, &ps, points)
	e.paint.render(&e.field, &in, &ps, e.plate)
	e.compose(it.Frame)
}

// learn updates what the engine knows of this speaker: the closed mouth at
// rest and the inside of the mouth.
func (e *Engine) learn(it *lip.Item, source *lips, points []vec, ps *pose) {
	if e.track != it.Face.Track {
		e.known = false
	}
	nose := points[2].y
	reach := source.chin.y - nose
	if !e.known {
		e.plate = new(plate)
		// Nothing is known of the jaw yet: a gap wider than a smile's is
		// taken to come from it.
		e.chin = reach - 0.7*math.Max(0, source.gap()-0.08)
	}
	e.chin = math.Min(e.chin+0.002*e.rate, reach)
	closed := source.closed(clamp(reach-e.chin, 0, 0.8*source.gap()))
	if !e.known {
		e.neutral, e.known, e.track = closed, true, it.Face.Track
	}
	e.neutral.blend(&closed, e.rate)
	e.plate.learn(source, func(p vec) colour { return colourAt(&e.src, it.Frame, ps.toPixels(p)) })
}

// region returns the part of the frame that the mask can touch.
func (e *Engine) region(f *frame.Frame, align frame.Affine) image.Rectangle {
	inv, ok := align.Invert()
	if !ok {
		return image.Rectangle{}
	}
	// The mask fills the template below its upper third.
	x0, y0, x1, y1 := inv.Bounds(0, 0.36*maskH, maskW, 0.96*maskH)
	r := image.Rect(int(math.Floor(x0)), int(math.Floor(y0)), int(math.Ceil(x1))+1, int(math.Ceil(y1))+1)
	return r.Intersect(image.Rect(0, 0, f.Width, f.Height))
}

// chromaRegion returns region r of the frame in samples of plane i.
func chromaRegion(f *frame.Frame, i int, r image.Rectangle) image.Rectangle {
	if i == 0 {
		return r
	}
	return image.Rect(r.Min.X>>f.ShiftX-2, r.Min.Y>>f.ShiftY-2, r.Max.X>>f.ShiftX+3, r.Max.Y>>f.ShiftY+3)
}

// warp fills the field from the displaced mesh.
func (e *Engine) warp(points []vec, ps *pose, region image.Rectangle, gap float64) {
	e.field.reset(region)
	from := make([]vec, len(points))
	to := make([]vec, len(points))
	for i, p := range points {
		from[i], to[i] = ps.toPixels(p), ps.toPixels(p.add(e.mem.d[i]))
	}
	e.inset(from, ps, gap)
	for _, t := range e.mem.triangles {
		d := [3]vec{to[t[0]], to[t[1]], to[t[2]]}
		s := [3]vec{from[t[0]], from[t[1]], from[t[2]]}
		// What is turned away, or lies in a fold such as the corner of a
		// smile, has no pixels of its own to show.
		if facing(d) && facing(s) {
			e.field.triangle(d, s)
		}
	}
	lipBox := image.Rectangle{}
	for k := range columns {
		lipBox = lipBox.Union(around(8, to[upperLip[0][k]], to[lowerLip[0][k]]))
	}
	// Unfolded creases and the border of the mouth's opening.
	for range 3 {
		e.field.grow(lipBox)
	}
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

// inset moves the places where the lips are read from, by mesh point in
// pixels, a little into the flesh. The mesh finds the lips' inner edges to
// about a pixel; where the source mouth is open, a sliver of teeth would
// otherwise be dragged along the seam.
func (e *Engine) inset(from []vec, ps *pose, gap float64) {
	want := (math.Min(0.014, 0.3*gap) + math.Min(gap, 1/ps.unit)) * ps.unit
	shift := func(lip *[rings][columns]uint16, k int) {
		in, out := from[lip[rings-1][k]], from[lip[0][k]]
		height := math.Hypot(out.x-in.x, out.y-in.y)
		if height < 1e-6 {
			return
		}
		// At most half of the lip, evenly shared by its rings, so that no
		// ring passes another. In the corners, where the dark between the lips
		// reaches farther than the mesh, more.
		want, most := want, 0.5
		if k <= 2 || k >= columns-3 {
			want, most = 1.6*want, 0.8
		}
		d := out.sub(in).mul(math.Min(want/height, most))
		for r := range rings {
			p := &from[lip[r][k]]
			*p = p.add(d.mul(float64(r) / (rings - 1)))
		}
	}
	for k := range columns {
		shift(&lowerLip, k)
		if k > 0 && k < columns-1 { // the corners are the lower lip's
			shift(&upperLip, k)
		}
	}
}

// attenuate fades the displacement out towards the edge of the mask. Fading
// the movement instead of blending two pictures leaves no double contours.
func (e *Engine) attenuate(align frame.Affine) {
	i := 0
	for y := e.field.Min.Y; y < e.field.Max.Y; y++ {
		tx, ty := align.Apply(float64(e.field.Min.X), float64(y))
		for x := e.field.Min.X; x < e.field.Max.X; x++ {
			if e.field.dx[i] != 0 || e.field.dy[i] != 0 {
				a := e.maskAt(tx, ty)
				e.field.dx[i] *= a
				e.field.dy[i] *= a
			}
			tx += align.A
			ty += align.D
			i++
		}
	}
}

func (e *Engine) maskAt(x, y float64) float32 {
	x0, y0 := int(math.Floor(x)), int(math.Floor(y))
	if x0 < 0 || y0 < 0 || x0 >= maskW-1 || y0 >= maskH-1 {
		return 0
	}
	fx, fy := float32(x-float64(x0)), float32(y-float64(y0))
	m := e.mask[y0*maskW+x0:]
	return (m[0]*(1-fx)+m[1]*fx)*(1-fy) + (m[maskW]*(1-fx)+m[maskW+1]*fx)*fy
}

// palette takes the interior's colours from the speaker's skin and lips, so
// that they share the scene's light and white balance.
func (e *Engine) palette(in *interior, f *frame.Frame, ps *pose, points []vec) {
	mean := func(indices ...uint16) (c colour) {
		for _, i := range indices {
			s := colourAt(&e.src, f, ps.toPixels(points[i]))
			for n := range 3 {
				c[n] += s[n] / float32(len(indices))
			}
		}
		return c
	}
	in.skin = mean(205, 425, 206, 426, 207, 427)
	in.lip = mean(85, 16, 315, 84, 314, 17)
	if !f.FullRange {
		in.black = 16
	}
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
		Needs: audio.Needs{Mouths: true},
		Open: func(_ context.Context, h lip.Host) (lip.Engine, error) {
			return New(h.Rate.Float(), func(frame int64) audio.Mouth {
				return h.Voice.Mouth(audio.FrameTime(frame, int(h.Rate.Num), int(h.Rate.Den)))
			}), nil
		},
	}, nil
}
