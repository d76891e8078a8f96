package face

import (
	"cmp"
	"context"
	_ "embed" // the model file
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/frame"
)

//go:embed models/face_detector.onnx
var detectorModel []byte

const (
	detectorSide = 128
	anchorCount  = 896
	minScore     = 0.5 // of a detection, and of the mesh's presence
	nmsOverlap   = 0.3
)

// Detection is a face as the detector sees it.
type Detection struct {
	Score float64
	// Points are the box's upper left and lower right corner, then the image-left
	// eye, image-right eye, nose tip, mouth centre, image-left ear and image-right
	// ear: x, y in image pixels. "Left" and "right" are as seen by the network, whose
	// view may be turned. The box is level with the image nevertheless; only its centre
	// and size are turned.
	Points [8][2]float64
}

// Detector is MediaPipe's short-range face detector (BlazeFace). It is not safe
// for concurrent use.
type Detector struct{ network }

// NewDetector loads the embedded network. threads is as in backend.Options.
func NewDetector(ctx context.Context, b backend.Backend, threads int) (*Detector, error) {
	n, err := loadNetwork(ctx, b, "face detector", detectorModel, detectorSide, threads, 1)
	return &Detector{n}, err
}

// Levels is the number of passes, from coarse to fine.
const Levels = 4

// Level finds faces with one pass, best first. Level 0 searches the whole image and
// may miss faces smaller than about a seventh of its longer side. Levels 1 to 3 search
// overlapping squares whose side is the whole, a half or a third of the image's
// shorter side: for 16:9 that is 3, 15 and 28 runs of the network. In an image of
// 1920 x 1080 the last level finds faces down to 50 pixels.
//
// The network looks at the image as if it were turned by turn radians, clockwise; it
// finds faces that are upright then, or up to about 60 degrees away from that.
func (d *Detector) Level(ctx context.Context, src frame.Source, level int, turn float64) ([]Detection, error) {
	w, h := src.Size()
	if level == 0 {
		return d.square(ctx, src, ROI{float64(w) / 2, float64(h) / 2, float64(max(w, h)), turn})
	}
	side := float64(min(w, h)) / float64(level)
	// A square at or above the network's own resolution shows nothing new.
	if side < detectorSide || (w == h && level == 1) {
		return nil, nil
	}
	var found []Detection
	for _, cy := range tiles(float64(h), side) {
		for _, cx := range tiles(float64(w), side) {
			part, err := d.square(ctx, src, ROI{cx, cy, side, turn})
			if err != nil {
				return nil, err
			}
			found = append(found, part...)
		}
	}
	return suppress(found), nil
}

// tiles returns the centres of equally spaced squares that cover length and
// overlap by at least a quarter.
func tiles(length, side float64) []float64 {
	n := int(math.Ceil((length-side)/(0.75*side) - 1e-9))
	if n == 0 {
		return []float64{(length-side)/2 + side/2}
	}
	centres := make([]float64, n+1)
	for i := range centres {
		centres[i] = (length-side)*float64(i)/float64(n) + side/2
	}
	return centres
}

// square runs the network on a square.
func (d *Detector) square(ctx context.Context, src frame.Source, at ROI) ([]Detection, error) {
	// MediaPipe's convention: position u/128 of the side, no half-pixel shift.
	to := at.Affine(detectorSide)
	out, _, err := d.run(ctx, src, to, frame.Constant, 2.0/255, -1)
	if err != nil {
		return nil, err
	}
	found := decode(out["regressors"].F32(), out["scores"].F32())
	for i := range found {
		p := &found[i].Points
		w, h := at.Size*(p[1][0]-p[0][0]), at.Size*(p[1][1]-p[0][1])
		centre := [2]float64{(p[0][0] + p[1][0]) / 2, (p[0][1] + p[1][1]) / 2}
		for _, q := range []*[2]float64{&centre, &p[2], &p[3], &p[4], &p[5], &p[6], &p[7]} {
			q[0], q[1] = to.Apply(detectorSide*q[0], detectorSide*q[1])
		}
		p[0], p[1] = [2]float64{centre[0] - w/2, centre[1] - h/2}, [2]float64{centre[0] + w/2, centre[1] + h/2}
	}
	return found, nil
}

// anchor returns the centre of anchor i in units of the square.
func anchor(i int) (x, y float64) {
	n, c := 16, i/2
	if i >= 512 {
		n, c = 8, (i-512)/6
	}
	return (float64(c%n) + 0.5) / float64(n), (float64(c/n) + 0.5) / float64(n)
}

// decode turns the outputs, [896,16] and [896] logits, into detections in
// units of the square, overlapping ones merged.
func decode(regressors, scores []float32) []Detection {
	var all []Detection
	for i, logit := range scores[:anchorCount] {
		score := sigmoid(float64(logit))
		if !(score >= minScore) {
			continue
		}
		ax, ay := anchor(i)
		r := regressors[16*i : 16*i+16]
		at := func(k int) float64 { return float64(r[k]) / detectorSide }
		cx, cy, w, h := at(0)+ax, at(1)+ay, at(2), at(3)
		d := Detection{Score: score, Points: [8][2]float64{{cx - w/2, cy - h/2}, {cx + w/2, cy + h/2}}}
		for k := 2; k < len(d.Points); k++ {
			d.Points[k] = [2]float64{at(2*k) + ax, at(2*k+1) + ay}
		}
		all = append(all, d)
	}
	return suppress(all)
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-min(max(x, -100), 100))) }

// suppress does MediaPipe's weighted non-maximum suppression: it replaces every
// cluster of overlapping detections by its score-weighted mean, with the best
// score.
func suppress(all []Detection) []Detection {
	slices.SortStableFunc(all, func(a, b Detection) int { return cmp.Compare(b.Score, a.Score) })
	var out []Detection
	for len(all) > 0 {
		best := all[0]
		var rest []Detection
		var sum float64
		mean := Detection{Score: best.Score}
		for _, d := range all {
			if d != best && overlap(best, d) <= nmsOverlap {
				rest = append(rest, d)
				continue
			}
			sum += d.Score
			for k, p := range d.Points {
				mean.Points[k][0] += d.Score * p[0]
				mean.Points[k][1] += d.Score * p[1]
			}
		}
		for k := range mean.Points {
			mean.Points[k][0] /= sum
			mean.Points[k][1] /= sum
		}
		out, all = append(out, mean), rest
	}
	return out
}

// overlap returns the intersection over union of the boxes.
func overlap(a, b Detection) float64 {
	a0, a1, b0, b1 := a.Points[0], a.Points[1], b.Points[0], b.Points[1]
	w, h := min(a1[0], b1[0])-max(a0[0], b0[0]), min(a1[1], b1[1])-max(a0[1], b0[1])
	if w <= 0 || h <= 0 {
		return 0
	}
	return w * h / ((a1[0]-a0[0])*(a1[1]-a0[1]) + (b1[0]-b0[0])*(b1[1]-b0[1]) - w*h)
}
