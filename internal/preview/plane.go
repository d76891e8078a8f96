package preview

import (
	"encoding/binary"
	"image"
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/frame"
)

// colour is a Y'CbCr value on the 8-bit code scale, whatever the frame's depth.
type colour [3]float32

// patch is a region of one plane as numbers on the 8-bit code scale.
type patch struct {
	image.Rectangle
	v []float32
}

// resize returns a slice of n arbitrary values, in the memory of s if that is large enough.
func resize[T any](s []T, n int) []T { return slices.Grow(s[:0], n)[:n] }

// load copies region r of plane i out of f.
func (p *patch) load(f *frame.Frame, i int, r image.Rectangle) {
	w, h := f.PlaneSize(i)
	p.Rectangle = r.Intersect(image.Rect(0, 0, w, h))
	p.v = resize(p.v, p.Dx()*p.Dy())
	rest := p.v
	size := f.SampleBytes()
	for y := p.Min.Y; y < p.Max.Y; y++ {
		dst := rest[:p.Dx()]
		rest = rest[len(dst):]
		row := f.Planes[i][size*(y*w+p.Min.X):][:size*len(dst)]
		n := fastWiden(dst, row, f.Depth)
		widenSlow(dst[n:], row[size*n:], f.Depth)
	}
}

// group is the number of samples that the fast functions compute at a time.
const group = 8

// widenSlow makes numbers of samples.
func widenSlow(dst []float32, row []byte, depth int) {
	if depth == 8 {
		for x, s := range row[:len(dst)] {
			dst[x] = float32(s)
		}
		return
	}
	scale := 1 / float32(int(1)<<(depth-8))
	for x := range dst {
		dst[x] = float32(binary.LittleEndian.Uint16(row[2*x:])) * scale
	}
}

func clampInt(v, lo, hi int) int { return min(max(v, lo), hi) }

// get reads one sample, repeating the edge.
func (p *patch) get(x, y int) float32 {
	x, y = clampInt(x, p.Min.X, p.Max.X-1), clampInt(y, p.Min.Y, p.Max.Y-1)
	return p.v[(y-p.Min.Y)*p.Dx()+x-p.Min.X]
}

// linear samples bilinearly.
func (p *patch) linear(x, y float32) float32 {
	x0, y0 := floor32(x), floor32(y)
	fx, fy := x-float32(x0), y-float32(y0)
	w := p.Dx()
	px, py := x0-p.Min.X, y0-p.Min.Y
	if uint(px) < uint(w-1) && uint(py) < uint(p.Dy()-1) {
		at := py*w + px
		return bilinear(p.v[at:at+2:at+2], p.v[at+w:at+w+2:at+w+2], fx, fy)
	}
	return p.linearEdge(x0, y0, fx, fy)
}

// linearEdge is linear where some of the samples are outside the patch.
func (p *patch) linearEdge(x, y int, fx, fy float32) float32 {
	return bilinear([]float32{p.get(x, y), p.get(x+1, y)}, []float32{p.get(x, y+1), p.get(x+1, y+1)}, fx, fy)
}

// bilinear mixes two samples of a row and the two below.
func bilinear(p, q []float32, fx, fy float32) float32 {
	return (p[0]*(1-fx)+p[1]*fx)*(1-fy) + (q[0]*(1-fx)+q[1]*fx)*fy
}

// Positions are counted in steps of 1/fine of a sample; far is more than any displacement.
const (
	fine     = 1 << fineBits
	fineBits = 10
	far      = 1 << 20
)

// steps converts a displacement, times scale, to steps.
func steps(d, scale float32) int { return int(float32(d*(scale*fine))+(far+0.5)) - far }

// kernel has the Catmull-Rom weights of each step.
var kernel = func() (k [fine][4]float32) {
	for i := range k {
		k[i][0], k[i][1], k[i][2], k[i][3] = catmullRom(float32(i) / fine)
	}
	return k
}()

// stillPixel is the displacement, in pixels, below which a pixel is left alone.
const stillPixel = 0.01

// moves reports whether a displacement is at least stillPixel in a direction.
func moves(dx, dy float32) bool {
	const abs = 1<<31 - 1
	return max(math.Float32bits(dx)&abs, math.Float32bits(dy)&abs) > stillBits
}

var stillBits = math.Float32bits(stillPixel)

// cubicRow marks the pixels of a row that move as changed, and samples the changed ones at
// their displaced positions. The row begins at (x, y). Catmull-Rom weights keep the skin's
// texture where a bilinear sample would blur it. What is not changed gets any value.
func (p *patch) cubicRow(dst []float32, changed []bool, x, y int, dx, dy []float32) {
	for {
		n := p.fastCubic(dst, changed, x, y, dx, dy)
		dst, changed, x, dx, dy = dst[n:], changed[n:], x+n, dx[n:], dy[n:]
		n = len(dst)
		if fast {
			n = min(n, group)
		}
		if n == 0 {
			return
		}
		p.cubicSlow(dst[:n], changed, x, y, dx, dy)
		dst, changed, x, dx, dy = dst[n:], changed[n:], x+n, dx[n:], dy[n:]
	}
}

// cubicSlow does the work of cubicRow. Here and in the other functions that have fast
// versions, the conversions of products keep a compiler from fusing them with sums, so that
// all processors compute the same.
func (p *patch) cubicSlow(dst []float32, changed []bool, x, y int, dx, dy []float32) {
	changed, dx, dy = changed[:len(dst)], dx[:len(dst)], dy[:len(dst)]
	w, h := p.Dx(), p.Dy()
	if w < 4 || h < 4 {
		p.cubicEdges(dst, changed, x, y, dx, dy)
		return
	}
	lastX, lastY := uint(w-3), uint(h-3)
	left, top := (x-p.Min.X-1)*fine, (y-p.Min.Y-1)*fine // of the four samples around (x, y)
	r0, r1, r2, r3 := p.v, p.v[w:], p.v[2*w:], p.v[3*w:]
	for k := range dst {
		if moves(dx[k], dy[k]) {
			changed[k] = true
		} else if !changed[k] {
			continue
		}
		u, v := left+k*fine+steps(dx[k], 1), top+steps(dy[k], 1)
		px, py := u>>fineBits, v>>fineBits
		if uint(px) >= lastX || uint(py) >= lastY {
			p.cubicEdges(dst[k:k+1], changed[k:], x+k, y, dx[k:], dy[k:])
			continue
		}
		wx, wy := &kernel[u&(fine-1)], &kernel[v&(fine-1)]
		a, b, c, d := wx[0], wx[1], wx[2], wx[3]
		at := py*w + px
		r := r0[at : at+4 : at+4]
		s := float32(wy[0] * (float32(a*r[0]) + float32(b*r[1]) + float32(c*r[2]) + float32(d*r[3])))
		r = r1[at : at+4 : at+4]
		s += float32(wy[1] * (float32(a*r[0]) + float32(b*r[1]) + float32(c*r[2]) + float32(d*r[3])))
		r = r2[at : at+4 : at+4]
		s += float32(wy[2] * (float32(a*r[0]) + float32(b*r[1]) + float32(c*r[2]) + float32(d*r[3])))
		r = r3[at : at+4 : at+4]
		dst[k] = s + float32(wy[3]*(float32(a*r[0])+float32(b*r[1])+float32(c*r[2])+float32(d*r[3])))
	}
}

// cubicEdges is cubicRow where some of the samples are outside the patch.
func (p *patch) cubicEdges(dst []float32, changed []bool, x, y int, dx, dy []float32) {
	for k := range dst {
		changed[k] = changed[k] || moves(dx[k], dy[k])
		u, v := (x+k)*fine+steps(dx[k], 1), y*fine+steps(dy[k], 1)
		dst[k] = 0
		for j, b := range kernel[v&(fine-1)] {
			for i, a := range kernel[u&(fine-1)] {
				dst[k] += b * a * p.get(u>>fineBits-1+i, v>>fineBits-1+j)
			}
		}
	}
}

// linearRow samples two patches of the same region at the changed places of a row, which
// begins at (x, y). Their displacements are those of luma, of which every 2^shiftX-th counts.
// What is not changed gets any value.
func linearRow(dstP, dstQ []float32, p, q *patch, changed []bool, x, y int, dx, dy []float32, shiftX, shiftY int) {
	for {
		n := fastLinear(dstP, dstQ, p, q, changed, x, y, dx, dy, shiftX, shiftY)
		if n == len(changed) {
			return
		}
		dstP, dstQ, changed, x, dx, dy = dstP[n:], dstQ[n:], changed[n:], x+n, dx[n<<shiftX:], dy[n<<shiftX:]
		n = len(changed)
		if fast {
			n = min(n, group)
		}
		linearSlow(dstP, dstQ, p, q, changed[:n], x, y, dx, dy, shiftX, shiftY)
		if n == len(changed) {
			return
		}
		dstP, dstQ, changed, x, dx, dy = dstP[n:], dstQ[n:], changed[n:], x+n, dx[n<<shiftX:], dy[n<<shiftX:]
	}
}

// linearSlow does the work of linearRow.
func linearSlow(dstP, dstQ []float32, p, q *patch, changed []bool, x, y int, dx, dy []float32, shiftX, shiftY int) {
	dstP, dstQ = dstP[:len(changed)], dstQ[:len(changed)]
	w, lastX, lastY := p.Dx(), uint(max(0, p.Dx()-1)), uint(max(0, p.Dy()-1))
	left, top := (x-p.Min.X)<<fineBits, (y-p.Min.Y)<<fineBits
	scaleX, scaleY := 1/float32(int(1)<<shiftX), 1/float32(int(1)<<shiftY)
	for k := range changed {
		if !changed[k] {
			continue
		}
		u, v := left+k<<fineBits+steps(dx[k<<shiftX], scaleX), top+steps(dy[k<<shiftX], scaleY)
		px, py := u>>fineBits, v>>fineBits
		fx, fy := float32(u&(fine-1))*(1.0/fine), float32(v&(fine-1))*(1.0/fine)
		if uint(px) >= lastX || uint(py) >= lastY {
			px, py = px+p.Min.X, py+p.Min.Y
			dstP[k], dstQ[k] = p.linearEdge(px, py, fx, fy), q.linearEdge(px, py, fx, fy)
			continue
		}
		d := float32(fx * fy)
		b, c := fx-d, fy-d
		a := 1 - fx - c
		at := py*w + px
		r, s := p.v[at:at+2:at+2], p.v[at+w:at+w+2:at+w+2]
		dstP[k] = float32(a*r[0]) + float32(b*r[1]) + float32(c*s[0]) + float32(d*s[1])
		r, s = q.v[at:at+2:at+2], q.v[at+w:at+w+2:at+w+2]
		dstQ[k] = float32(a*r[0]) + float32(b*r[1]) + float32(c*s[0]) + float32(d*s[1])
	}
}

// markMoves marks the samples of a row that move as changed. Their displacements are those of
// luma, of which every 2^shift-th counts.
func markMoves(changed []bool, dx, dy []float32, shift int) {
	n := fastMoves(changed, dx, dy, shift)
	for k := n; k < len(changed); k++ {
		changed[k] = changed[k] || moves(dx[k<<shift], dy[k<<shift])
	}
}

// mean sets v to the mean of v and w.
func mean(v, w []float32) {
	n := fastMean(v, w)
	for k := n; k < len(v); k++ {
		v[k] = (v[k] + w[k]) * 0.5
	}
}

func floor32(x float32) int {
	i := int(x)
	if float32(i) > x {
		i--
	}
	return i
}

func catmullRom(t float32) (a, b, c, d float32) {
	t2, t3 := float32(t*t), float32(t*t*t)
	half, half2, half3, more2, more3 := float32(0.5*t), float32(0.5*t2), float32(0.5*t3), float32(2.5*t2), float32(1.5*t3)
	return t2 - half3 - half, more3 - more2 + 1, t2 + t2 - more3 + half, half3 - half2
}

// putRow writes the changed values, on the 8-bit code scale, to row y of plane i from
// sample x on.
func putRow(f *frame.Frame, i, x, y int, v []float32, changed []bool) {
	w, _ := f.PlaneSize(i)
	size := f.SampleBytes()
	row := f.Planes[i][size*(y*w+x):][:size*len(v)]
	n := fastPut(row, v, changed, f.Depth)
	putSlow(row[size*n:], v[n:], changed[n:], f.Depth)
}

// putSlow does the work of putRow.
func putSlow(row []byte, v []float32, changed []bool, depth int) {
	changed = changed[:len(v)]
	if depth == 8 {
		for k := range v {
			if changed[k] {
				row[k] = byte(code(v[k], 255))
			}
		}
		return
	}
	scale, top := float32(int(1)<<(depth-8)), int32(1)<<depth-1
	for k := range v {
		if changed[k] {
			binary.LittleEndian.PutUint16(row[2*k:], uint16(code(float32(v[k]*scale), top)))
		}
	}
}

// code rounds v to a code value from 0 to top.
func code(v float32, top int32) int32 { return min(max(int32(v+0.5), 0), top) }

// colourAt samples all planes at a luma position.
func colourAt(p *[3]patch, f *frame.Frame, at vec) colour {
	x, y := float32(at.x), float32(at.y)
	cx, cy := chromaPosition(f, x, y)
	return colour{p[0].linear(x, y), p[1].linear(cx, cy), p[2].linear(cx, cy)}
}

// chromaPosition maps luma to chroma coordinates: chroma sits on the left luma
// sample of its pair and between its two rows (the MPEG-2 siting).
func chromaPosition(f *frame.Frame, x, y float32) (float32, float32) {
	if f.ShiftX == 1 {
		x /= 2
	}
	if f.ShiftY == 1 {
		y = (y - 0.5) / 2
	}
	return x, y
}
