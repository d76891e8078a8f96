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
	"time"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/settings"
)

// Engine implements lip.Engine. It is not safe for concurrent use.
type Engine struct {
	mask   *mask
	mem    *membrane
	field  field
	src    [3]patch // the region as it was, one patch a plane
	paint  layer
	search search
	row    row
	spans  []span // of the rows of the field
	out    []lip.Item

	speaker speaker
	rate    float64 // share by which the neutral shape follows, per frame

	hold    int
	held    []*view // of the speaker, oldest first
	learned int     // of held: those whose lips the speaker has been learned from
	free    []*view

	mouth func(frame int64) audio.Mouth
}

// view is an item with its face, as far as it has been looked at. It has 50 KB.
type view struct {
	item         lip.Item
	pose         pose
	region       image.Rectangle // that may change
	from, points []vec           // the mesh in pixels and in face coordinates
	rim          rim
	source       lips
}

// New returns an engine for video of the given frame rate, which holds so many items back to
// learn the speaker's mouth from them. mouth returns the mouth to draw in a frame, by the
// frame's number in the output.
func New(fps float64, hold int, mouth func(frame int64) audio.Mouth) *Engine {
	return &Engine{
		mouth: mouth,
		mask:  newMask(),
		mem:   newMembrane(newTopology()),
		rate:  1 - math.Exp(-1/(neutralSeconds*max(fps, 1))),
		hold:  hold,
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

// Hold implements lip.Engine.
func (e *Engine) Hold() int { return e.hold }

// Close does nothing: the engine holds only memory.
func (e *Engine) Close() error { return nil }

// Push takes an item, learns from it, and draws the mouth on the oldest item if more than
// Hold are held.
func (e *Engine) Push(ctx context.Context, it lip.Item) ([]lip.Item, error) {
	e.out = e.out[:0]
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v := e.open(it)
	if it.Cut || v == nil || e.speaker.known && e.speaker.track != it.Face.Track {
		e.advance(0)
		e.speaker = speaker{}
	}
	if v == nil {
		it.Face = nil
		e.out = append(e.out, it)
		return e.out, nil
	}
	e.speaker.meet(it.Face.Track)
	e.study(v)
	e.held = append(e.held, v)
	e.advance(e.hold)
	return e.out, nil
}

// Flush draws the mouths on the items that are held.
func (e *Engine) Flush(ctx context.Context) ([]lip.Item, error) {
	e.out = e.out[:0]
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e.advance(0)
	return e.out, nil
}

// advance draws mouths until no more than keep items are held. The neutral shape is learned
// from frames to both sides of the one that is drawn.
func (e *Engine) advance(keep int) {
	for len(e.held) > keep {
		for e.learned < min(e.hold/4+1, len(e.held)) {
			v := e.held[e.learned]
			e.look(v)
			e.speaker.learn(&v.source, e.rate)
			e.learned++
		}
		v := e.held[0]
		e.draw(v)
		e.out = append(e.out, v.item)
		v.item = lip.Item{}
		e.free = append(e.free, v)
		e.held = append(e.held[:0], e.held[1:]...)
		e.learned--
	}
}

// open returns a view of an item, or nil if it has no face that can be used.
func (e *Engine) open(it lip.Item) *view {
	if it.Face == nil {
		return nil
	}
	ps, ok := newPose(it.Face.Points)
	region := maskRegion(it.Frame, it.Face.Align)
	if !ok || region.Empty() {
		return nil
	}
	v := new(view)
	if n := len(e.free); n > 0 {
		v, e.free = e.free[n-1], e.free[:n-1]
	}
	v.item, v.pose, v.region = it, ps, region
	v.reset()
	return v
}

// reset takes the mesh from the item.
func (v *view) reset() {
	v.from, v.points = resize(v.from, meshPoints), resize(v.points, meshPoints)
	for i := range v.points {
		p := v.item.Face.Points[i]
		v.from[i], v.points[i] = vec{p.X, p.Y}, v.pose.point(p)
	}
}

// study learns the inside of the mouth from an item that has just arrived, if it shows more
// than others, and so for items that are drawn before it.
func (e *Engine) study(v *view) {
	source := readLips(v.points)
	if !e.speaker.interested(source.gap()) {
		return
	}
	read := e.find(v)
	e.speaker.glance(&e.search, &v.pose, read)
	v.fit(&e.search)
	in := interior{skin: e.speaker.skin}
	in.behind = v.pose.toFace(v.pose.behind())
	e.speaker.plate.learn(v.from, &v.pose, &in, read)
	v.reset()
}

// look finds the rim of the mouth and moves the lips of the mesh there.
func (e *Engine) look(v *view) {
	e.find(v)
	v.fit(&e.search)
	v.source = readLips(v.points)
}

// find looks for the rim of the mouth. It returns a function that reads colours around it.
func (e *Engine) find(v *view) (read func(vec) colour) {
	read = e.load(v.item.Frame, v.face())
	e.speaker.skin = meanColour(v.from, read, skinPoints)
	e.search.find(v.from, &v.pose, e.speaker.inside(), read)
	return read
}

// face returns the part of the frame around the mouth in which colours are looked at.
func (v *view) face() image.Rectangle {
	var box image.Rectangle
	for _, points := range [][]uint16{skinPoints, skinAround[0], skinAround[1], lowerLip[0][:]} {
		for _, i := range points {
			box = box.Union(around(int(0.05*v.pose.unit), v.from[i], v.from[i]))
		}
	}
	if box = box.Intersect(image.Rect(0, 0, v.item.Frame.Width, v.item.Frame.Height)); box.Empty() {
		return v.region // the mouth is outside of the frame
	}
	return box
}

// load copies a region out of a frame and returns a function that reads colours there.
func (e *Engine) load(f *frame.Frame, region image.Rectangle) (read func(vec) colour) {
	for i := range e.src {
		e.src[i].load(f, i, chromaRegion(f, i, region.Inset(-4)))
	}
	return func(p vec) colour { return colourAt(&e.src, f, p) }
}

// fit moves the lips of the mesh to the rim that was found.
func (v *view) fit(s *search) {
	mesh := v.rim.mesh
	v.rim = s.rim
	v.rim.mesh = mesh
	before := slices.Clone(v.from)
	v.rim.fit(v.from, &v.pose)
	for i := range v.points {
		if v.from[i] != before[i] {
			v.points[i] = v.points[i].add(v.pose.toFace(v.from[i]).sub(v.pose.toFace(before[i])))
		}
	}
}

// draw draws the mouth.
func (e *Engine) draw(v *view) {
	it, ps, from := &v.item, &v.pose, v.from
	read := e.load(it.Frame, v.region)
	mouth := e.mouth(it.Frame.Index)
	// Drawn-in corners would fold the cheek that a turned head half hides.
	mouth.Round *= float32(0.2 + 0.8*smoothstep(0.82, 0.95, ps.frontal()))
	target := e.speaker.neutral.speak(mouth)
	e.mem.move(&v.source, &target, e.freeJaw(it.Face, jawShare*opening(mouth)-v.source.jaw(), ps.unit))
	e.mem.unfold(from)
	from = surround(from)
	to := make([]vec, len(from))
	for i, p := range from {
		to[i] = p.add(ps.shift(e.mem.d[i]))
	}
	in := newInterior(to, ps, &e.speaker.neutral, float64(mouth.Tongue))
	in.skin, in.lip = meanColour(from, read, skinPoints), meanColour(from, read, lipPoints)
	if !it.Frame.FullRange {
		in.black = 16
	}
	e.field.reset(v.region)
	e.mask.cover(&e.field, it.Face.Align)
	e.paint.render(&e.field, &in, ps, e.speaker.plate)
	e.warp(from, to, v)
	e.mask.attenuate(&e.field, it.Face.Align)
	e.compose(it.Frame)
	it.Regions = append(it.Regions, lip.Region{Face: it.Face, W: maskW, H: maskH, Alpha: e.mask.alpha, Matrix: it.Face.Align})
}

// chromaRegion returns region r of the frame in samples of plane i.
func chromaRegion(f *frame.Frame, i int, r image.Rectangle) image.Rectangle {
	if i == 0 {
		return r
	}
	return image.Rect(r.Min.X>>f.ShiftX-2, r.Min.Y>>f.ShiftY-2, r.Max.X>>f.ShiftX+3, r.Max.Y>>f.ShiftY+3)
}

// warp fills the field from the displaced mesh.
func (e *Engine) warp(from, to []vec, v *view) {
	upper, lower := edges(from, to, &v.pose, v.source.gap(), &v.rim)
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

// The engine holds as many frames back as this time has, but no more than fit into so many
// bytes: at 25 frames per second a second in full HD, 8 frames in 4K.
const (
	aheadTime  = time.Second
	aheadBytes = 96 << 20
)

// ahead returns how many items an engine holds back.
func ahead(h lip.Host) int {
	fit := aheadBytes / (max(h.Format.Bytes(), 1) * max(h.Speakers, 1))
	return max(0, min(int(h.Rate.Frame(aheadTime)), fit))
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
		Ahead: aheadTime, AheadBytes: aheadBytes,
		Open: func(_ context.Context, h lip.Host) (lip.Engine, error) {
			return New(h.Rate.Float(), ahead(h), func(frame int64) audio.Mouth {
				return h.Voice.Mouth(audio.FrameTime(frame, int(h.Rate.Num), int(h.Rate.Den)))
			}), nil
		},
	}, nil
}
