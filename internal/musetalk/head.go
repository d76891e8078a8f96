package musetalk

import (
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

const (
	// margin is the part of the box below the chin, of its height. The original's 10 pixels
	// are as much of a face of 220 pixels.
	margin = 0.045
	// chinDrop is how far the real chin lies below the mesh's, as a part of the height from
	// the brows to the chin (docs/spec/musetalk.md, section 4.3).
	chinDrop = 0.04
	// memory is the number of frames over which the proportions of the head are averaged. A
	// part of a job begins 24 frames early, and face.Tracker looks at 3 of them.
	memory = 16
	// proportionNoise is how far the proportions of a still head change from frame to frame.
	// Much larger changes are turns of the head.
	proportionNoise = 0.02
)

// proportions are distances from the bridge of the nose to the left and right edges of the
// face and to the chin of a closed mouth, along the head's own axes. The unit is the head's
// size.
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

// matrix returns the map from the frame to the crop of side×side pixels. The box may
// extend beyond the frame. The matrix has no inverse if the face is not usable.
func (h *head) matrix(f *face.Face) frame.Affine {
	if f.Track != h.track {
		h.reset()
	}
	h.track = f.Track
	p := f.Points
	nose := middle(p[195], p[5])
	eyes := face.Point{X: p[263].X - p[33].X, Y: p[263].Y - p[33].Y}
	apart := math.Hypot(eyes.X, eyes.Y)
	if !(apart > 0) {
		return frame.Affine{}
	}
	cos, sin := eyes.X/apart, eyes.Y/apart
	upright := frame.Affine{A: cos, B: sin, D: -sin, E: cos}
	upright.C, upright.F = upright.Apply(-nose.X, -nose.Y)
	at := func(q face.Point) (x, y float64) { return upright.Apply(q.X, q.Y) }

	_, between := at(middle(p[33], p[263]))
	size := math.Hypot(apart, 2*between)
	_, brows := at(middle(p[105], p[334]))
	_, upper := at(p[13])
	_, lower := at(p[14])
	_, chin := at(p[152])
	chin += chinDrop * (chin - brows)
	var now proportions
	for _, i := range face.FaceOval {
		x, _ := at(p[i])
		now[0], now[1] = min(now[0], x/size), max(now[1], x/size)
	}
	now[2] = (chin - max(lower-upper, 0)) / size // the chin and the lower lip move together
	shape := h.smooth(now)

	// A jaw that opens wide moves the chin out of the box, which then grows.
	half := max(shape[2]*size, chin/(1+2*margin))
	x, y := side/(size*(shape[1]-shape[0])), side/(half*(2+2*margin))
	if !(x > 0 && y > 0) || math.IsInf(x, 0) || math.IsInf(y, 0) {
		return frame.Affine{}
	}
	return frame.Affine{
		A: upright.A * x, B: upright.B * x, C: (upright.C-shape[0]*size)*x - 0.5,
		D: upright.D * y, E: upright.E * y, F: (upright.F+half)*y - 0.5,
	}
}

// smooth adds the proportions of a frame and returns the smoothed ones: the mean of the last
// frames, or what was seen if the difference is more than noise.
func (h *head) smooth(now proportions) proportions {
	h.recent = append(slices.Delete(h.recent, 0, max(0, len(h.recent)-memory+1)), now)
	var out proportions
	for i, v := range now {
		for _, p := range h.recent {
			out[i] += p[i] / float64(len(h.recent))
		}
		out[i] += (v - out[i]) * face.Gain(v-out[i], proportionNoise)
	}
	return out
}

func middle(a, b face.Point) face.Point { return face.Point{X: (a.X + b.X) / 2, Y: (a.Y + b.Y) / 2} }
