package face

import (
	"math"

	"github.com/lipstream/lipstream/internal/frame"
)

// Patch is a face mapped back to the image, with its soft mask.
type Patch struct {
	X, Y, W, H int       // the part of the image that it covers
	Face       []float32 // [H,W,3], 0..255, already multiplied by the coverage
	Alpha      []float32 // [H,W], the blurred mask
}

// Matrix returns the map from the image to the patch.
func (p *Patch) Matrix() frame.Affine {
	return frame.Affine{A: 1, C: float64(-p.X), E: 1, F: float64(-p.Y)}
}

// Patch maps the face, [3,CropH,CropW] in -1..1 as returned by Resize, into an image of
// w x h pixels; m is the matrix of its crop. It computes the soft mask: coverage, a
// 2x2 erosion, an erosion by a twentieth of the face's extent, and a Gaussian blur
// (docs/spec/latentsync.md, section 3.8). It returns nil if nothing of the face is
// inside the image.
func (a *Aligner) Patch(face []float32, m frame.Affine, w, h int) *Patch {
	inv, ok := m.Invert()
	if !ok {
		return nil
	}
	back, ok := homography(m).invert()
	if !ok {
		return nil
	}
	warp, ok := newWarper(back, a.CropW, a.CropH, w, h)
	if !ok {
		return nil
	}
	// The box holds everything covered and, around it, as much of the image as the
	// filters can see, so that they behave as over the whole image.
	lim := 2 + int(math.Hypot(float64(a.CropW+1), float64(a.CropH+1))*math.Sqrt(math.Abs(inv.A*inv.E-inv.B*inv.D)))/20
	x0, y0, x1, y1 := mappedBox(inv, a.CropW, a.CropH, w, h, lim+2)
	if x0 >= x1 || y0 >= y1 {
		return nil
	}
	p := &Patch{X: x0, Y: y0, W: x1 - x0, H: y1 - y0}
	cover := a.unwarp(p, face, warp)
	e := erode(cover, p.W, p.H, 1, 0) // rows y-1..y, columns x-1..x
	var area float64
	for i, v := range e {
		area += float64(v)
		for c := range 3 {
			p.Face[3*i+c] *= v
		}
	}
	g := int(sqrt32(float32(area))) / 20
	before, after := g, g-1
	if g == 0 {
		before, after = 1, 1 // as OpenCV does for an empty kernel
	}
	p.Alpha = Blur(erode(e, p.W, p.H, before, after), p.W, p.H, Gaussian(g))
	return p
}

// unwarp fills p.Face with the face sampled through warp, and returns the bilinear
// coverage. Beyond the face the value is 127, which is white, because the face's own
// values are -1..1.
func (a *Aligner) unwarp(p *Patch, face []float32, warp *warper) (cover []float32) {
	p.Face, cover = make([]float32, 3*p.W*p.H), make([]float32, p.W*p.H)
	image := samples[float32]{face, 0, 0, a.CropW, a.CropH, 1, a.CropW * a.CropH}
	for i := range cover {
		sum, covered := image.at(warp.at(p.X+i%p.W, p.Y+i/p.W))
		cover[i] = covered
		for c, s := range sum {
			s = (s+float32((1-covered)*127))/2 + 0.5
			p.Face[3*i+c] = min(max(s, 0), 1) * 255
		}
	}
	return cover
}

// Restore pastes the face into a frame with the original's soft mask. It works on the
// frame's own planes, so that nothing outside the mask changes. It returns what it pasted, or
// nil if nothing of the face is inside the frame.
func (a *Aligner) Restore(f *frame.Frame, face []float32, m frame.Affine) *Patch {
	p := a.Patch(face, m, f.Width, f.Height)
	if p == nil {
		return nil
	}
	src := frame.NewRGB(p.W, p.H)
	for i, v := range p.Face {
		src.Pix[i] = byte(v + 0.5)
	}
	f.Blend(src, p.Alpha, p.Matrix())
	return p
}

// erode returns the minimum over rows y-before..y+after and the same columns. It
// ignores what is outside.
func erode(src []float32, w, h, before, after int) []float32 {
	tmp := make([]float32, w*h)
	dst := make([]float32, w*h)
	line := make([]float32, max(w, h))
	out := make([]float32, max(w, h))
	q := make([]int, max(w, h))
	for y := range h {
		slidingMin(tmp[y*w:(y+1)*w], src[y*w:(y+1)*w], q, before, after)
	}
	for x := range w {
		for y := range h {
			line[y] = tmp[y*w+x]
		}
		slidingMin(out[:h], line[:h], q, before, after)
		for y := range h {
			dst[y*w+x] = out[y]
		}
	}
	return dst
}

// slidingMin sets dst[i] to the minimum of src[i-before..i+after]. q is a monotonic
// queue, at least as long as src.
func slidingMin(dst, src []float32, q []int, before, after int) {
	head, tail, next := 0, 0, 0
	for i := range src {
		for ; next < len(src) && next <= i+after; next++ {
			for tail > head && src[q[tail-1]] >= src[next] {
				tail--
			}
			q[tail] = next
			tail++
		}
		for q[head] < i-before {
			head++
		}
		dst[i] = src[q[head]]
	}
}

// Blur convolves both axes of an image, [h, w], with a kernel, which has an odd number of
// taps, and returns the result. The image is reflected at its edges without repeating them.
func Blur(src []float32, w, h int, kernel []float32) []float32 {
	g := len(kernel) / 2
	tmp := make([]float32, w*h)
	line := make([]float32, w+2*g)
	for y := range h {
		row := src[y*w : (y+1)*w]
		for i := range line {
			line[i] = row[reflect(i-g, w)]
		}
		for k, c := range kernel {
			accumulate(tmp[y*w:(y+1)*w], line[k:k+w], c)
		}
	}
	dst := make([]float32, w*h)
	for y := range h {
		for k, c := range kernel {
			at := reflect(y+k-g, h) * w
			accumulate(dst[y*w:(y+1)*w], tmp[at:at+w], c)
		}
	}
	return dst
}

// accumulate adds c·src to dst, fused as in torch's convolution.
func accumulate(dst, src []float32, c float32) {
	src = src[:len(dst)]
	for i, v := range src {
		dst[i] = fma32(c, v, dst[i])
	}
}

// Gaussian returns kornia's kernel of 2g+1 taps and deviation 0.3(g-1)+0.8.
func Gaussian(g int) []float32 {
	kernel := make([]float32, 2*g+1)
	sigma := float32(0.3*float64(g-1) + 0.8)
	for i := range kernel {
		x := float32(i - g)
		kernel[i] = float32(math.Exp(float64(-(x * x) / (2 * float32(sigma*sigma)))))
	}
	sum := torchSum(kernel)
	for i := range kernel {
		kernel[i] /= sum
	}
	return kernel
}

// torchSum adds up a row in the order of torch with vectors of eight. Four vectors at a
// time go into four sums, the remaining vectors into the first sum. The total begins
// with the values that fill no vector.
func torchSum(row []float32) float32 {
	const lanes = 8
	n := len(row) / lanes
	var part [4][lanes]float32
	for i := range n {
		to := &part[0]
		if i < n/4*4 {
			to = &part[i%4]
		}
		for k := range to {
			to[k] += row[i*lanes+k]
		}
	}
	var sum float32
	for _, v := range row[n*lanes:] {
		sum += v
	}
	for k := range lanes {
		sum += part[0][k] + part[1][k] + part[2][k] + part[3][k]
	}
	return sum
}

// reflect folds an index into 0..n-1 without repeating the edge.
func reflect(i, n int) int {
	if n == 1 {
		return 0
	}
	for i < 0 || i >= n {
		if i < 0 {
			i = -i
		} else {
			i = 2*(n-1) - i
		}
	}
	return i
}
