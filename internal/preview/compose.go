package preview

import (
	"image"

	"github.com/lipstream/lipstream/internal/frame"
)

// layer is what is painted over the warped skin: a colour and its opacity for
// each luma pixel of the mouth's box.
type layer struct {
	image.Rectangle
	c     []colour
	alpha []float32
	seam  []float32 // how much the skin below is darkened

	profile profile
}

// render paints the mouth's inside where field's region meets it.
func (l *layer) render(f *field, in *interior, ps *pose, own *plate) {
	box := image.Rectangle{}
	for k := range columns {
		box = box.Union(around(3, ps.toPixels(in.upper[k]), ps.toPixels(in.lower[k])))
	}
	l.Rectangle = box.Intersect(f.Rectangle)
	n := l.Dx() * l.Dy()
	l.c, l.alpha, l.seam = resize(l.c, n), resize(l.alpha, n), resize(l.seam, n)
	if own.best == 0 {
		own = nil
	}
	clear(l.alpha)
	clear(l.seam)
	in.profile(&l.profile)
	origin := ps.toFace(vec{})
	right, down := ps.toFace(vec{1, 0}).sub(origin), ps.toFace(vec{0, 1}).sub(origin)
	reach := seamReach * in.seamWidth()
	i := 0
	for y := l.Min.Y; y < l.Max.Y; y++ {
		p := origin.add(right.mul(float64(l.Min.X))).add(down.mul(float64(y)))
		for range l.Dx() {
			if up, lo, ok := l.profile.at(p.x); ok && p.y < lo+reach && p.y > min(up-in.pixel, lo-reach) {
				c := in.coverage(p, up, lo)
				l.alpha[i] = float32(c)
				l.seam[i] = float32(in.seamShade(p, lo) * (1 - c))
				if c > 0 {
					l.c[i] = in.paint(p, up, lo, own)
				}
			}
			p = p.add(right)
			i++
		}
	}
}

// row is a row of samples that compose works on: values of two planes in two rows, and
// which of them change.
type row struct {
	v, w, v2, w2 []float32
	changed      []bool
}

func (r *row) resize(n int) {
	r.v, r.w, r.v2, r.w2, r.changed = resize(r.v, n), resize(r.w, n), resize(r.v2, n), resize(r.w2, n), resize(r.changed, n)
}

// compose writes the warped and painted region back. It only writes pixels that
// change.
func (e *Engine) compose(f *frame.Frame) {
	black := float32(0)
	if !f.FullRange {
		black = 16
	}
	r := e.field.Rectangle
	e.spans = resize(e.spans, r.Dy())
	e.row.resize(r.Dx())
	for y := r.Min.Y; y < r.Max.Y; y++ {
		s := e.span(y)
		e.spans[y-r.Min.Y] = s
		if s.empty() {
			continue
		}
		v, changed := e.row.v[:s.width()], e.row.changed[:s.width()]
		clear(changed)
		c, alpha, seam := e.paint.row(y)
		first := e.paint.Min.X - s.left // index of the first painted column
		for p := range alpha {
			changed[first+p] = alpha[p] > 0 || seam[p] > 0.004
		}
		dx, dy := e.field.row(y, s)
		e.src[0].cubicRow(v, changed, s.left, y, dx, dy)
		for p, a := range alpha {
			k := first + p
			v[k] = black + (v[k]-black)*(1-seam[p])
			v[k] += (c[p][0] - v[k]) * a
		}
		putRow(f, 0, s.left, y, v, changed)
	}
	e.composeChroma(f)
}

// span returns the columns of row y from the first to the last pixel that moves or
// may be painted.
func (e *Engine) span(y int) (s span) {
	if l := &e.paint; y >= l.Min.Y && y < l.Max.Y {
		s = span{l.Min.X, l.Max.X}
	}
	m := e.field.spans[y-e.field.Min.Y]
	dx, dy := e.field.row(y, m)
	first, last := 0, len(dx)-1
	for first <= last && !moves(dx[first], dy[first]) {
		first++
	}
	for first <= last && !moves(dx[last], dy[last]) {
		last--
	}
	return s.union(span{m.left + first, m.left + last + 1})
}

// at reads the layer; outside its box it is clear.
func (l *layer) at(x, y int) (c colour, alpha, seam float32) {
	if !(image.Point{x, y}).In(l.Rectangle) {
		return colour{}, 0, 0
	}
	i := (y-l.Min.Y)*l.Dx() + x - l.Min.X
	return l.c[i], l.alpha[i], l.seam[i]
}

// row returns row y of the layer, which is empty outside its box.
func (l *layer) row(y int) (c []colour, alpha, seam []float32) {
	if y < l.Min.Y || y >= l.Max.Y {
		return nil, nil, nil
	}
	n := l.Dx()
	at := (y - l.Min.Y) * n
	return l.c[at : at+n], l.alpha[at : at+n], l.seam[at : at+n]
}

// composeChroma sets each changed chroma sample to the mean over the luma pixels
// that share it, in its own column and one or two rows. Each row is sampled with its own
// displacement: where the lips meet, the mean of the displacements of upper and
// lower lip would point at the teeth between them.
func (e *Engine) composeChroma(f *frame.Frame) {
	sx, sy := f.ShiftX, f.ShiftY
	r := e.field.Rectangle
	for cy := (r.Min.Y + sy) >> sy; cy<<sy+sy < r.Max.Y; cy++ {
		top := cy<<sy - r.Min.Y
		s := e.spans[top].union(e.spans[top+sy])
		first := (s.left + sx) >> sx
		n := (s.right+sx)>>sx - first
		if n <= 0 {
			continue
		}
		changed := e.row.changed[:n]
		clear(changed)
		for y := cy << sy; y <= cy<<sy+sy; y++ {
			dx, dy := e.field.row(y, span{first << sx, r.Max.X})
			markMoves(changed, dx, dy, sx)
			_, alpha, _ := e.paint.row(y)
			painted := changed[min(max(e.paint.chroma(sx)-first, 0), n):]
			for p := e.paint.Min.X & sx; p < len(alpha); p += 1 << sx {
				painted[p>>sx] = painted[p>>sx] || alpha[p] > 0
			}
		}
		u, v := e.row.v[:n], e.row.w[:n]
		e.chromaRow(f, u, v, changed, first, cy, cy<<sy)
		if sy > 0 {
			u2, v2 := e.row.v2[:n], e.row.w2[:n]
			e.chromaRow(f, u2, v2, changed, first, cy, cy<<sy+1)
			mean(u, u2)
			mean(v, v2)
		}
		putRow(f, 1, first, cy, u, changed)
		putRow(f, 2, first, cy, v, changed)
	}
}

// chroma returns the first column of chroma samples that the layer covers.
func (l *layer) chroma(shift int) int { return (l.Min.X + shift) >> shift }

// chromaRow computes the changed chroma samples of row cy, from column first on, as luma
// row y has them.
func (e *Engine) chromaRow(f *frame.Frame, u, v []float32, changed []bool, first, cy, y int) {
	dx, dy := e.field.row(y, span{first << f.ShiftX, e.field.Max.X})
	linearRow(u, v, &e.src[1], &e.src[2], changed, first, cy, dx, dy, f.ShiftX, f.ShiftY)
	c, alpha, _ := e.paint.row(y)
	for p := e.paint.Min.X & f.ShiftX; p < len(alpha); p += 1 << f.ShiftX {
		k := e.paint.chroma(f.ShiftX) - first + p>>f.ShiftX
		u[k] += (c[p][1] - u[k]) * alpha[p]
		v[k] += (c[p][2] - v[k]) * alpha[p]
	}
}
