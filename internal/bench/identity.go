package bench

import (
	"context"
	"math"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

// identity measures whether a video shows the same person as its source, frame by frame,
// without a network for it: by the shape of the face, and by its pixels outside of the mouth.
type identity struct {
	moved  [face.MeshPoints][2]float64 // sum of how far a point lies from the source's, in eye distances
	shapes float64                     // number of frames in moved
	// One value per frame, NaN without a face in both videos.
	likeness []float64    // SSIM
	tint     [2][]float64 // colour difference at the border and on the skin
	cosine   []float64    // of the embeddings, in one of embedEvery frames

	embedder *embedder // may be nil
}

// embedEvery is how many frames there are to each whose embeddings are compared: the networks
// are slow, and who somebody is does not change from frame to frame.
const embedEvery = 5

// skip adds a frame that cannot be compared.
func (d *identity) skip() {
	for _, series := range []*[]float64{&d.likeness, &d.tint[atBorder], &d.tint[onSkin], &d.cosine} {
		*series = append(*series, math.NaN())
	}
}

// add adds a frame of the source and the same frame of the video. Both have a face, and are
// aligned by the source's, so that the same pixels are compared. parts is from partsOf.
func (d *identity) add(ctx context.Context, source, out face.Tracked, a, b *aligned, parts []int) error {
	number := len(d.likeness)
	d.skip()
	d.shape(source.Face, out.Face)
	d.likeness[number] = ssim(a.luma, b.luma, width, parts)
	for part := range d.tint {
		d.tint[part][number] = colourDistance(meanColour(a.rgb, parts, part), meanColour(b.rgb, parts, part))
	}
	if d.embedder == nil || number%embedEvery != 0 {
		return nil
	}
	var err error
	d.cosine[number], err = d.embedder.resemblance(ctx, source, out)
	return err
}

// figures returns the results.
func (d *identity) figures() []Figure {
	figures := []Figure{
		{Key: "identity_shape", Name: "identity: difference of the face's shape", Value: d.shapeError(), Unit: Percent, Max: new(2.0),
			Note: "mean mesh above the mouth, relative to the distance between the eyes"},
		{Key: "identity_ssim", Name: "identity: SSIM of the face without the mouth", Value: average(d.likeness), Min: new(0.8),
			Note: "least: " + Format(percentile(d.likeness, 0), None)},
		{Key: "identity_skin", Name: "identity: difference of the skin's colour", Value: average(d.tint[onSkin]), Unit: DeltaE, Max: new(5.0),
			Note: "around the mouth, in CIELAB; 2.3 is just noticeable"},
		{Key: "identity_border", Name: "identity: the same at the border of the mask", Value: average(d.tint[atBorder]), Unit: DeltaE, Max: new(2.3)},
	}
	if d.embedder != nil {
		figures = append(figures, Figure{Key: "identity_cosine", Name: "identity: similarity of the embeddings", Value: average(d.cosine),
			Note: "cosine, by your network; least: " + Format(percentile(d.cosine, 0), None)})
	}
	return figures
}

// shape compares the points above the mouth, which move little with speech, after a
// similarity has taken them onto those of the source.
func (d *identity) shape(source, out *face.Face) {
	var from, to [][2]float64
	var points []int
	for i := range face.MeshPoints {
		if face.Canonical[i].Y > face.Canonical[2].Y { // the base of the nose; y is up
			points = append(points, i)
			from = append(from, [2]float64{out.Points[i].X, out.Points[i].Y})
			to = append(to, [2]float64{source.Points[i].X, source.Points[i].Y})
		}
	}
	fit, ok := face.FitSimilarity(from, to)
	if !ok {
		return
	}
	// The axes of the template, so that turning the head does not change them.
	a := source.Align
	eyes := math.Hypot(a.A, a.D) * eyeDistance(source.Points)
	for k, i := range points {
		x, y := fit.Apply(from[k][0], from[k][1])
		x, y = x-to[k][0], y-to[k][1]
		d.moved[i][0] += (a.A*x + a.B*y) / eyes
		d.moved[i][1] += (a.D*x + a.E*y) / eyes
	}
	d.shapes++
}

// eyeDistance returns the distance between the outer corners of the eyes, with depth.
func eyeDistance(p []face.Point) float64 {
	return math.Hypot(math.Hypot(p[33].X-p[263].X, p[33].Y-p[263].Y), p[33].Z-p[263].Z)
}

// shapeError returns how far the mean face is from the source's, as the root mean square over
// the points, in percent of the eye distance. The mean of many frames takes the noise of the
// mesh out.
func (d *identity) shapeError() float64 {
	var sum, n float64
	for _, p := range d.moved {
		if p != [2]float64{} {
			sum, n = sum+p[0]*p[0]+p[1]*p[1], n+1
		}
	}
	if d.shapes == 0 {
		return math.NaN()
	}
	return 100 * math.Sqrt(sum/max(n, 1)) / d.shapes
}

// ssim returns the mean structural similarity of two images of levels 0..255 over the face
// without the mouth, as scikit-image computes it by default: windows of 7 x 7 of equal
// weight, sample covariance (Wang et al., Image quality assessment: from error visibility to
// structural similarity, 2004).
func ssim(a, b []float64, w int, parts []int) float64 {
	const (
		side   = 7
		reach  = side / 2
		n      = side * side
		c1, c2 = (0.01 * 255) * (0.01 * 255), (0.03 * 255) * (0.03 * 255)
	)
	h := len(a) / w
	// Sums over columns of the window, moved down row by row.
	columns := make([][5]float64, w)
	add := func(y int, sign float64) {
		for x := range w {
			p, q := a[y*w+x], b[y*w+x]
			for k, v := range [5]float64{p, q, p * p, q * q, p * q} {
				columns[x][k] += sign * v
			}
		}
	}
	var total, count float64
	for y := range h {
		add(y, 1)
		if y >= side {
			add(y-side, -1)
		}
		if y < side-1 {
			continue
		}
		for x := reach; x < w-reach; x++ {
			if part := parts[(y-reach)*w+x]; part == onMouth || part == outside {
				continue
			}
			var s [5]float64
			for _, column := range columns[x-reach : x+reach+1] {
				for k, v := range column {
					s[k] += v / n
				}
			}
			const sample = n / (n - 1.0)
			va, vb, ab := sample*(s[2]-s[0]*s[0]), sample*(s[3]-s[1]*s[1]), sample*(s[4]-s[0]*s[1])
			total += (2*s[0]*s[1] + c1) * (2*ab + c2) / ((s[0]*s[0] + s[1]*s[1] + c1) * (va + vb + c2))
			count++
		}
	}
	return total / count
}

// meanColour returns the mean colour of a part, in 0..255.
func meanColour(p *frame.RGB, parts []int, part int) (mean [3]float64) {
	n := 0.0
	for i, at := range parts {
		if at == part {
			for c := range mean {
				mean[c] += float64(p.Pix[3*i+c])
			}
			n++
		}
	}
	for c := range mean {
		mean[c] /= n
	}
	return mean
}

// colourDistance returns the distance of two sRGB colours in CIELAB (CIE 1976). About 2.3 is
// just noticeable.
func colourDistance(a, b [3]float64) float64 {
	p, q := lab(a), lab(b)
	return math.Sqrt((p[0]-q[0])*(p[0]-q[0]) + (p[1]-q[1])*(p[1]-q[1]) + (p[2]-q[2])*(p[2]-q[2]))
}

// lab converts sRGB in 0..255 to CIELAB under D65.
func lab(rgb [3]float64) [3]float64 {
	var linear [3]float64
	for i, v := range rgb {
		if v /= 255; v > 0.04045 {
			linear[i] = math.Pow((v+0.055)/1.055, 2.4)
		} else {
			linear[i] = v / 12.92
		}
	}
	var f [3]float64
	for i, row := range [3][3]float64{
		{0.412453, 0.357580, 0.180423}, {0.212671, 0.715160, 0.072169}, {0.019334, 0.119193, 0.950227},
	} {
		v := (row[0]*linear[0] + row[1]*linear[1] + row[2]*linear[2]) / [3]float64{0.95047, 1, 1.08883}[i]
		if v > 0.008856 {
			f[i] = math.Cbrt(v)
		} else {
			f[i] = 7.787*v + 16.0/116
		}
	}
	return [3]float64{116*f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])}
}
