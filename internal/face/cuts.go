package face

import (
	"math"

	"github.com/lipstream/lipstream/internal/frame"
)

// Scene cuts are found from a thumbnail of the frame. What counts is its
// structure, compared by correlation after small shifts: a flash or a fade
// changes brightness but not structure, a pan moves it, a cut replaces it.
const (
	thumbW, thumbH = 32, 18
	thumbShift     = 3    // cells that a pan may move between two frames
	flatDeviation  = 2.5  // in 8-bit levels: a thumbnail with less has no structure
	cutStructure   = 0.25 // least loss of correlation of a cut
	cutScore       = 0.4  // least score of a cut
	cutRatio       = 4    // least score of a cut as a multiple of the recent mean
	cutCeiling     = 0.8  // a higher score is a cut whatever the recent mean
)

type thumb struct {
	luma, cb, cr [thumbW * thumbH]float32
	flat         bool
}

// newThumb averages up to 6x6 samples of each cell.
func newThumb(f *frame.Frame) *thumb {
	t := &thumb{}
	shift := uint(f.Depth - 8)
	fill := func(dst *[thumbW * thumbH]float32, p int) {
		w, h := f.PlaneSize(p)
		plane, two := f.Planes[p], f.SampleBytes() == 2
		for j := range thumbH {
			y0, y1 := j*h/thumbH, max((j+1)*h/thumbH, j*h/thumbH+1)
			dy := max((y1-y0)/6, 1)
			for i := range thumbW {
				x0, x1 := i*w/thumbW, max((i+1)*w/thumbW, i*w/thumbW+1)
				dx := max((x1-x0)/6, 1)
				sum, n := 0, 0
				for y := y0; y < min(y1, h); y += dy {
					for x := x0; x < min(x1, w); x += dx {
						at := y*w + x
						if two {
							sum += (int(plane[2*at]) | int(plane[2*at+1])<<8) >> shift
						} else {
							sum += int(plane[at])
						}
						n++
					}
				}
				dst[j*thumbW+i] = float32(sum) / float32(max(n, 1))
			}
		}
	}
	fill(&t.luma, 0)
	fill(&t.cb, 1)
	fill(&t.cr, 2)
	var sum, sq float64
	for _, v := range t.luma {
		sum += float64(v)
		sq += float64(v) * float64(v)
	}
	n := float64(len(t.luma))
	t.flat = sq/n-(sum/n)*(sum/n) < flatDeviation*flatDeviation
	return t
}

// correlation returns the largest normalised correlation of the luma over shifts.
func (t *thumb) correlation(o *thumb) float64 {
	best := -1.0
	for dy := -thumbShift; dy <= thumbShift; dy++ {
		for dx := -thumbShift; dx <= thumbShift; dx++ {
			best = math.Max(best, t.shifted(o, dx, dy))
			if best > 0.97 {
				return best
			}
		}
	}
	return best
}

func (t *thumb) shifted(o *thumb, dx, dy int) float64 {
	var a, b, aa, bb, ab, n float32
	for y := max(0, -dy); y < min(thumbH, thumbH-dy); y++ {
		for x := max(0, -dx); x < min(thumbW, thumbW-dx); x++ {
			p, q := t.luma[y*thumbW+x]-128, o.luma[(y+dy)*thumbW+x+dx]-128
			a, b, aa, bb, ab, n = a+p, b+q, aa+p*p, bb+q*q, ab+p*q, n+1
		}
	}
	va, vb := float64(aa-a*a/n), float64(bb-b*b/n)
	if va < 1e-3 || vb < 1e-3 {
		return 0
	}
	return float64(ab-a*b/n) / math.Sqrt(va*vb)
}

// chroma returns the mean difference of colour in 8-bit levels.
func (t *thumb) chroma(o *thumb) float64 {
	var sum float64
	for i := range t.cb {
		sum += math.Abs(float64(t.cb[i]-o.cb[i])) + math.Abs(float64(t.cr[i]-o.cr[i]))
	}
	return sum / (2 * thumbW * thumbH)
}

// cutFinder finds cuts frame by frame.
type cutFinder struct {
	last   *thumb  // the last frame that had structure
	recent float64 // running mean of the scores
}

// Cuts finds the scene cuts of a video as a Tracker does, but without faces. The
// zero value is ready to use.
type Cuts struct {
	finder cutFinder
	last   *frame.Frame
}

// Next reports whether f, which may be reused afterwards, begins a new shot.
func (c *Cuts) Next(f *frame.Frame) bool {
	if c.last == nil || c.last.Format != f.Format {
		c.last = frame.New(f.Format)
	} else if same(c.last, f) {
		return false
	}
	copy(c.last.Data, f.Data)
	return c.finder.next(f)
}

// next reports whether f begins a new shot. Frames without structure (black,
// white) never do: the first frame after them is compared with the last one
// before, so that a flash or a dip to black within a shot is not a cut.
func (c *cutFinder) next(f *frame.Frame) bool {
	t := newThumb(f)
	if t.flat {
		return false
	}
	last := c.last
	c.last = t
	if last == nil {
		return false
	}
	loss := 1 - t.correlation(last)
	score := loss + t.chroma(last)/40
	limit := math.Min(math.Max(cutScore, cutRatio*c.recent), cutCeiling)
	if loss > cutStructure && score > limit {
		c.recent = 0
		return true
	}
	c.recent += (score - c.recent) / 8
	return false
}
