package face

import (
	"math"

	"github.com/lipstream/lipstream/internal/frame"
)

// Patch is a face on its way back into the picture: the part of the picture
// that it covers, with its soft mask (3.8).
type Patch struct {
	X, Y, W, H int       // the rectangle of the picture
	Face       []float32 // [H,W,3], 0..255, already multiplied by the coverage
	Alpha      []float32 // [H,W], the blurred mask s
}

// Patch maps the face, [3,CropH,CropW] in -1..1 as Resize gives it, by the
// matrix of its crop into a picture of w x h pixels, and makes the soft mask:
// coverage, a 2x2 erosion, an erosion by a twentieth of the face's extent and
// a Gaussian blur. It is nil when nothing of the face is inside the picture.
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
	// The box holds everything covered and, around it, as much of the picture
	// as the filters can see, so that they behave as over the whole picture.
	lim := 2 + int(math.Hypot(float64(a.CropW+1), float64(a.CropH+1))*math.Sqrt(math.Abs(inv.A*inv.E-inv.B*inv.D)))/20
	x0, y0, x1, y1 := mappedBox(inv, a.CropW, a.CropH, w, h, lim+2)
	if x0 >= x1 || y0 >= y1 {
		return nil
	}
	p := &Patch{X: x0, Y: y0, W: x1 - x0, H: y1 - y0}
	p.Face = make([]float32, 3*p.W*p.H)
	cover := make([]float32, p.W*p.H)
	a.unwarp(p, cover, face, warp)

	e := erode(cover, p.W, p.H, 1, 0) // rows y-1..y, columns x-1..x
	var area float64
	for _, v := range e {
		area += float64(v)
	}
	for i, v := range e {
		p.Face[3*i] *= v
		p.Face[3*i+1] *= v
		p.Face[3*i+2] *= v
	}
	g := int(sqrt32(float32(area))) / 20
	var c []float32
	if g == 0 {
		c = erode(e, p.W, p.H, 1, 1) // OpenCV's answer to an empty kernel
	} else {
		c = erode(e, p.W, p.H, g, g-1)
	}
	p.Alpha = blur(c, p.W, p.H, g)
	return p
}

// unwarp fills p.Face with the face sampled through warp, 127 (in the units of the
// face, so white after the clamp) where it does not cover, and cover with the
// bilinear coverage.
func (a *Aligner) unwarp(p *Patch, cover, face []float32, warp *warper) {
	n := a.CropW * a.CropH
	for y := range p.H {
		for x := range p.W {
			at := y*p.W + x
			u, v := warp.at(x+p.X, y+p.Y)
			out := p.Face[3*at : 3*at+3]
			if !(u > -1 && v > -1 && u < float32(a.CropW) && v < float32(a.CropH)) {
				out[0], out[1], out[2] = 255, 255, 255
				continue
			}
			iu, iv, weights := bilinear(u, v)
			var sum [3]float32
			var cov float32
			for k, w := range weights {
				ju, jv := iu+k&1, iv+k>>1
				if uint(ju) >= uint(a.CropW) || uint(jv) >= uint(a.CropH) {
					continue
				}
				i := jv*a.CropW + ju
				cov += w
				sum[0] = fma32(w, face[i], sum[0])
				sum[1] = fma32(w, face[n+i], sum[1])
				sum[2] = fma32(w, face[2*n+i], sum[2])
			}
			cover[at] = cov
			for c, s := range sum {
				s = (s+float32((1-cov)*127))/2 + 0.5
				out[c] = min(max(s, 0), 1) * 255
			}
		}
	}
}

// Restore pastes the face into the picture as the original does, truncation
// included (3.8).
func (a *Aligner) Restore(dst *frame.RGB, face []float32, m frame.Affine) {
	p := a.Patch(face, m, dst.W, dst.H)
	if p == nil {
		return
	}
	for y := range p.H {
		row := dst.Pix[3*((y+p.Y)*dst.W+p.X):]
		for x := range p.W {
			at := y*p.W + x
			s := p.Alpha[at]
			if s == 0 {
				continue
			}
			for c := range 3 {
				v := float32(s*p.Face[3*at+c]) + float32((1-s)*float32(row[3*x+c]))
				row[3*x+c] = byte(min(max(v, 0), 255))
			}
		}
	}
}

// RestoreFrame pastes the face into a video frame with the same soft mask, but
// in the frame's own planes, so that what the mask does not touch stays bit
// for bit.
func (a *Aligner) RestoreFrame(f *frame.Frame, face []float32, m frame.Affine) {
	p := a.Patch(face, m, f.Width, f.Height)
	if p == nil {
		return
	}
	src := frame.NewRGB(p.W, p.H)
	for i, v := range p.Face {
		src.Pix[i] = byte(v + 0.5)
	}
	f.Blend(src, p.Alpha, frame.Affine{A: 1, C: float64(-p.X), E: 1, F: float64(-p.Y)})
}

// erode is the minimum over rows y-before..y+after and the same columns; what
// is outside is ignored.
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

// slidingMin is dst[i] = min of src[i-before..i+after], with a monotonic queue
// q as long as src.
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

// blur is the Gaussian of 2g+1 taps and deviation 0.3(g-1)+0.8, the picture
// reflected at its edges without repeating them.
func blur(src []float32, w, h, g int) []float32 {
	if g == 0 {
		return src // one tap
	}
	kernel := gaussian(g)
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

// gaussian is kornia's kernel of 2g+1 taps and deviation 0.3(g-1)+0.8.
func gaussian(g int) []float32 {
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

// torchSum adds a row as torch does with vectors of eight: four vectors at a
// time into four sums, what is left of the vectors into the first, and the
// row's end before the elements of the total.
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
