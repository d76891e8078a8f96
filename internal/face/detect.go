package face

import (
	"cmp"
	"context"
	_ "embed" // the model file
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/tensor"
)

//go:embed models/face_detector.onnx
var detectorModel []byte

const (
	detectorSide = 128
	anchorCount  = 896
	minScore     = 0.5 // of a detection, and of the mesh's presence
	nmsOverlap   = 0.3
)

// Detection is a face as the detector sees it, in picture pixels.
type Detection struct {
	Score          float64
	X0, Y0, X1, Y1 float64
	// Keys are the image-left eye, image-right eye, nose tip, mouth centre,
	// image-left ear and image-right ear: x, y.
	Keys [6][2]float64
}

// Detector is MediaPipe's short-range face detector (BlazeFace). It is not
// for concurrent use.
type Detector struct {
	session backend.Session
	crop    *frame.RGB
	input   *tensor.Tensor // [1,128,128,3]
}

// NewDetector loads the embedded network. threads is as in backend.Options.
func NewDetector(ctx context.Context, b backend.Backend, threads int) (*Detector, error) {
	s, err := b.Load(ctx, backend.Model{Name: "face detector", Bytes: detectorModel},
		backend.Options{Device: "cpu", Precision: backend.F32, Threads: threads})
	if err != nil {
		return nil, fault.Internal.Wrap("load the face detector", err)
	}
	return &Detector{
		session: s,
		crop:    frame.NewRGB(detectorSide, detectorSide),
		input:   tensor.New(tensor.F32, 1, detectorSide, detectorSide, 3),
	}, nil
}

// Close frees the network.
func (d *Detector) Close() error { return d.session.Close() }

// Levels is the number of passes, from coarse to fine.
const Levels = 4

// Detect finds faces in the whole picture, best first: Level 0. Faces smaller
// than about a seventh of the picture's longer side may be missed.
func (d *Detector) Detect(ctx context.Context, src frame.Source) ([]Detection, error) {
	w, h := src.Size()
	return d.square(ctx, src, float64(w)/2, float64(h)/2, float64(max(w, h)))
}

// Level finds faces with one pass. Level 0 is Detect. Levels 1 to 3 search
// overlapping squares whose side is the whole, a half or a third of the picture's
// shorter side: for 16:9 that is 3, 15 and 28 runs of the network. In a
// picture of 1920 x 1080 the last level finds faces down to 50 pixels.
func (d *Detector) Level(ctx context.Context, src frame.Source, level int) ([]Detection, error) {
	if level == 0 {
		return d.Detect(ctx, src)
	}
	w, h := src.Size()
	side := float64(min(w, h)) / float64(level)
	// A square at or above the network's own resolution shows nothing new.
	if side < detectorSide || (w == h && level == 1) {
		return nil, nil
	}
	var found []Detection
	for _, cy := range tiles(float64(h), side) {
		for _, cx := range tiles(float64(w), side) {
			part, err := d.square(ctx, src, cx, cy, side)
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
	centres := make([]float64, 0, n+1)
	for i := range n + 1 {
		at := (length - side) / 2
		if n > 0 {
			at = (length - side) * float64(i) / float64(n)
		}
		centres = append(centres, at+side/2)
	}
	return centres
}

// square runs the network on the square of side l around (cx, cy).
func (d *Detector) square(ctx context.Context, src frame.Source, cx, cy, l float64) ([]Detection, error) {
	// MediaPipe's convention: position u/128 of the side, no half-pixel shift.
	s := l / detectorSide
	src.Warp(d.crop, frame.Affine{A: s, C: cx - l/2, E: s, F: cy - l/2}, frame.Constant, 0)
	in := d.input.F32()
	for i, v := range d.crop.Pix {
		in[i] = float32(v)*(2.0/255) - 1
	}
	out, err := d.session.Run(ctx, map[string]*tensor.Tensor{"input": d.input})
	if err != nil {
		return nil, fault.Internal.Wrap("run the face detector", err)
	}
	found := decode(out["regressors"].F32(), out["scores"].F32())
	for i := range found {
		f := &found[i]
		f.X0, f.Y0 = cx+l*(f.X0-0.5), cy+l*(f.Y0-0.5)
		f.X1, f.Y1 = cx+l*(f.X1-0.5), cy+l*(f.Y1-0.5)
		for k, p := range f.Keys {
			f.Keys[k] = [2]float64{cx + l*(p[0]-0.5), cy + l*(p[1]-0.5)}
		}
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
		d := Detection{Score: score, X0: cx - w/2, Y0: cy - h/2, X1: cx + w/2, Y1: cy + h/2}
		for k := range d.Keys {
			d.Keys[k] = [2]float64{at(4+2*k) + ax, at(5+2*k) + ay}
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
			mean.X0 += d.Score * d.X0
			mean.Y0 += d.Score * d.Y0
			mean.X1 += d.Score * d.X1
			mean.Y1 += d.Score * d.Y1
			for k, p := range d.Keys {
				mean.Keys[k][0] += d.Score * p[0]
				mean.Keys[k][1] += d.Score * p[1]
			}
		}
		mean.X0, mean.Y0, mean.X1, mean.Y1 = mean.X0/sum, mean.Y0/sum, mean.X1/sum, mean.Y1/sum
		for k := range mean.Keys {
			mean.Keys[k][0] /= sum
			mean.Keys[k][1] /= sum
		}
		out, all = append(out, mean), rest
	}
	return out
}

// overlap returns the intersection over union of the boxes.
func overlap(a, b Detection) float64 {
	w := math.Min(a.X1, b.X1) - math.Max(a.X0, b.X0)
	h := math.Min(a.Y1, b.Y1) - math.Max(a.Y0, b.Y0)
	if w <= 0 || h <= 0 {
		return 0
	}
	return w * h / ((a.X1-a.X0)*(a.Y1-a.Y0) + (b.X1-b.X0)*(b.Y1-b.Y0) - w*h)
}
