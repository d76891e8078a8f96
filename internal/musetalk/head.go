package musetalk

import (
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

const (
	// margin is the part of the box below the chin, of its height. The original's 10 pixels
	// are as much of a box of 200 pixels.
	margin = 0.05
	// chinDrop is how far the real chin lies below the mesh's, as a part of the height from
	// the brows to the chin (docs/spec/musetalk.md, section 4.3).
	chinDrop = 0.04
	// memory is the number of frames over which the proportions of the head are averaged. A
	// part of a job begins 24 frames early, and face.Tracker looks at 3 of them.
	memory = 16
	// proportionNoise is how far the edges of a still face seem to move, in units of the
	// head's size. Much larger movements are turns of the head.
	proportionNoise = 0.02
)

// Points of the mesh that show where the head is. Several of each kind suppress noise, and none
// moves with the mouth.
var (
	bridge   = []int{195, 5} // of the nose, where the middle of the box is
	ridge    = []int{168, 6, 197, 195, 5, 4}
	forehead = []int{109, 67, 10, 297, 338}
	brows    = []int{70, 63, 105, 66, 107, 300, 293, 334, 296, 336}
	sides    = [][2]int{{33, 263}, {133, 362}, {127, 356}, {234, 454}, {162, 389}, {21, 251}, {54, 284}} // left, right
)

// proportions are distances from the bridge of the nose to the left and right edges of the
// face and to the chin, along the head's own axes. The unit is the head's size.
type proportions [3]float64

// head follows the box of a face through the frames of a shot. The box is upright with the
// head, and its middle lies on the bridge of the nose (docs/spec/musetalk.md, section 4.3).
// face.Tracker has smoothed place, turn and size already; head smooths the proportions. The
// zero value is ready to use.
type head struct {
	track  int
	recent []proportions
}

// reset forgets the frames so far, as at a cut.
func (h *head) reset() { h.recent = h.recent[:0] }

// matrix returns the map from the frame to the crop of Side×Side pixels. The box may
// extend beyond the frame. The matrix has no inverse if the face is not usable.
func (h *head) matrix(f *face.Face) frame.Affine {
	if f.Track != h.track {
		h.reset()
	}
	h.track = f.Track
	p := f.Points
	nose := mean(p, bridge)
	var across, up face.Point
	for _, pair := range sides {
		across.X += (p[pair[1]].X - p[pair[0]].X) / float64(len(sides))
		across.Y += (p[pair[1]].Y - p[pair[0]].Y) / float64(len(sides))
	}
	low, top := mean(p, ridge), mean(p, forehead)
	up.X, up.Y = top.X-low.X, top.Y-low.Y
	width := math.Hypot(across.X, across.Y)
	size := math.Hypot(width, math.Hypot(up.X, up.Y))
	if !(width > 0) {
		return frame.Affine{}
	}
	cos, sin := across.X/width, across.Y/width
	upright := frame.Affine{A: cos, B: sin, D: -sin, E: cos}
	upright.C, upright.F = upright.Apply(-nose.X, -nose.Y)
	at := func(q face.Point) (x, y float64) { return upright.Apply(q.X, q.Y) }

	_, brow := at(mean(p, brows))
	_, chin := at(p[152])
	chin += chinDrop * (chin - brow)
	var now proportions
	for _, q := range p { // of a head turned far, the nose is the edge
		x, _ := at(q)
		now[0], now[1] = min(now[0], x/size), max(now[1], x/size)
	}
	now[2] = chin / size
	shape := h.smooth(now)

	// A jaw that opens wide may move the chin out of the box, which then grows.
	half := max(shape[2]*size, chin/(1+2*margin))
	x, y := Side/(size*(shape[1]-shape[0])), Side/(half*(2+2*margin))
	if !(x > 0 && y > 0) || math.IsInf(x, 0) || math.IsInf(y, 0) {
		return frame.Affine{}
	}
	return frame.Affine{
		A: upright.A * x, B: upright.B * x, C: (upright.C-shape[0]*size)*x - 0.5,
		D: upright.D * y, E: upright.E * y, F: (upright.F+half)*y - 0.5,
	}
}

// smooth adds the proportions of a frame and returns the smoothed ones. They are the means of
// the last frames, so that the box does not follow a jaw that speaks. Where the edges of the face
// differ more than noise can explain, as when the head turns, they are the frame's own.
func (h *head) smooth(now proportions) proportions {
	h.recent = append(slices.Delete(h.recent, 0, max(0, len(h.recent)-memory+1)), now)
	var out proportions
	for i, v := range now {
		for _, p := range h.recent {
			out[i] += p[i] / float64(len(h.recent))
		}
		if i < 2 {
			out[i] += (v - out[i]) * face.Gain(v-out[i], proportionNoise)
		}
	}
	return out
}

// mean returns the mean of some of the points.
func mean(points []face.Point, indices []int) (m face.Point) {
	for _, i := range indices {
		m.X += points[i].X / float64(len(indices))
		m.Y += points[i].Y / float64(len(indices))
	}
	return m
}
