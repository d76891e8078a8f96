package preview

import (
	"image"
	"math"
	"slices"
)

// field is a displacement for every luma pixel of a region of the frame: the
// new pixel (x, y) is read at (x+dx, y+dy).
type field struct {
	image.Rectangle
	dx, dy []float32
	spans  []span // of each row: the columns in which something can move
	ramps  ramps  // of the triangle that is being filled

	kind              []byte // for grow
	rest, empty, edge []int
}

// reset makes the field 0 over r, keeping its memory. Only pixels in spans may move.
func (f *field) reset(r image.Rectangle) {
	f.Rectangle = r
	n := r.Dx() * r.Dy()
	f.dx, f.dy, f.spans = resize(f.dx, n), resize(f.dy, n), resize(f.spans, r.Dy())
	clear(f.dx)
	clear(f.dy)
}

// unfilled is the displacement of a pixel in the mouth's box that no triangle has filled.
var unfilled = float32(math.NaN())

// open marks the pixels of a box as unfilled and lets all of them move.
func (f *field) open(box image.Rectangle) {
	for y := box.Min.Y; y < box.Max.Y; y++ {
		s := &f.spans[y-f.Min.Y]
		*s = s.union(span{box.Min.X, box.Max.X})
		dx, _ := f.row(y, span{box.Min.X, box.Max.X})
		for i := range dx {
			dx[i] = unfilled
		}
	}
}

func (f *field) at(x, y int) int { return (y-f.Min.Y)*f.Dx() + x - f.Min.X }

// row returns the displacements of some columns of row y.
func (f *field) row(y int, s span) (dx, dy []float32) {
	at := f.at(s.left, y)
	return f.dx[at : at+s.width()], f.dy[at : at+s.width()]
}

// span is a range of columns.
type span struct{ left, right int }

func (s span) width() int  { return s.right - s.left }
func (s span) empty() bool { return s.left >= s.right }

func (s span) union(o span) span {
	switch {
	case s.empty():
		return o
	case o.empty():
		return s
	}
	return span{min(s.left, o.left), max(s.right, o.right)}
}

// triangle fills the pixels of the triangle to with the affine map that takes
// its corners to those of from. Edges belong to both neighbours, so that no
// pixel between two triangles is left out.
func (f *field) triangle(to, from [3]vec) {
	e1, e2 := to[1].sub(to[0]), to[2].sub(to[0])
	det := e1.x*e2.y - e1.y*e2.x
	if math.Abs(det) < 1e-9 {
		return
	}
	x0 := max(f.Min.X, int(math.Ceil(min(to[0].x, to[1].x, to[2].x))))
	x1 := min(f.Max.X-1, int(math.Floor(max(to[0].x, to[1].x, to[2].x))))
	y0 := max(f.Min.Y, int(math.Ceil(min(to[0].y, to[1].y, to[2].y))))
	y1 := min(f.Max.Y-1, int(math.Floor(max(to[0].y, to[1].y, to[2].y))))
	if x0 > x1 || y0 > y1 {
		return
	}
	d0, d1, d2 := from[0].sub(to[0]), from[1].sub(to[1]), from[2].sub(to[2])
	r := &f.ramps
	*r = ramps{x0: x0, x1: x1, y: y0, rows: y1 + 1 - y0, corner: to[0], d: d0, e1: d1.sub(d0), e2: d2.sub(d0)}
	r.b1, r.b2 = vec{e2.y / det, -e2.x / det}, vec{-e1.y / det, e1.x / det}
	r.step = vec{r.b1.x*r.e1.x + r.b2.x*r.e2.x, r.b1.x*r.e1.y + r.b2.x*r.e2.y}
	r.inverse = [3]float64{1 / r.b1.x, 1 / r.b2.x, -1 / (r.b1.x + r.b2.x)}
	if fast {
		f.fastFill()
	} else {
		f.fillSlow()
	}
}

// ramps is what the rows of a triangle have in common. The barycentric coordinates b1, b2 and
// 1-b1-b2 of a pixel, and the displacement, are linear in x and y.
type ramps struct {
	x0, x1  int        // the first and the last column
	y, rows int        // the first row, and their number
	corner  vec        // where b1 and b2 are 0
	b1, b2  vec        // their slopes in x and in y
	d       vec        // the displacement at the corner
	e1, e2  vec        // what b1 and b2 add to it
	step    vec        // by which it grows from column to column
	inverse [3]float64 // of the slopes in x
}

// outside is a little less than the least of the barycentric coordinates of the pixels in a
// triangle.
const outside = -1e-6

// fillSlow fills the rows of a triangle.
func (f *field) fillSlow() {
	r := &f.ramps
	for y := r.y; y < r.y+r.rows; y++ {
		p := vec{float64(r.x0), float64(y)}.sub(r.corner)
		b1, b2 := float64(p.x*r.b1.x)+float64(p.y*r.b1.y), float64(p.x*r.b2.x)+float64(p.y*r.b2.y)
		// The columns in which none of them is below outside.
		s := f.spans[y-f.Min.Y]
		lo, hi := float64(max(s.left-r.x0, 0)), float64(min(s.right-1, r.x1)-r.x0)
		lo, hi = notBelow(lo, hi, b1-outside, r.inverse[0])
		lo, hi = notBelow(lo, hi, b2-outside, r.inverse[1])
		lo, hi = notBelow(lo, hi, 1-outside-b1-b2, r.inverse[2])
		if !(lo <= hi) {
			continue
		}
		first, last := int(lo), int(hi)
		if float64(first) < lo {
			first++
		}
		if first > last {
			continue
		}
		b1 += float64(float64(first) * r.b1.x)
		b2 += float64(float64(first) * r.b2.x)
		dx, dy := f.row(y, span{r.x0 + first, r.x0 + last + 1})
		ramp(dx, r.d.x+float64(b1*r.e1.x)+float64(b2*r.e2.x), r.step.x)
		ramp(dy, r.d.y+float64(b1*r.e1.y)+float64(b2*r.e2.y), r.step.y)
	}
}

// ramp fills dst with v, v+step, v+2*step and so on.
func ramp(dst []float32, v, step float64) {
	a, b, c, d := v, v+step, v+2*step, v+float64(3*step)
	for len(dst) >= 4 {
		dst[0], dst[1], dst[2], dst[3] = float32(a), float32(b), float32(c), float32(d)
		a, b, c, d = a+4*step, b+4*step, c+4*step, d+4*step
		dst = dst[4:]
	}
	for i, v := range []float64{a, b, c}[:len(dst)] {
		dst[i] = float32(v)
	}
}

// notBelow narrows the range lo to hi of x to where b + x/inverse is not below 0. The
// inverse of a slope of 0 is infinite; then x is infinite, or not a number if b is 0.
func notBelow(lo, hi, b, inverse float64) (float64, float64) {
	x := -b * inverse
	if inverse > 0 {
		if x > lo {
			lo = x
		}
	} else if x < hi {
		hi = x
	}
	return lo, hi
}

// agree reports whether n times the difference of two displacements is that of two pixels on
// the same side of the mouth.
func agree(dx, dy, n float32) bool { return dx*dx+dy*dy < 9*n*n }

// The kinds of pixels that no triangle has filled.
const (
	hole   = iota + 1 // to be filled
	beyond            // open to the border of the area
)

// grow fills the holes of the field in area, from their edges inwards, where over does not
// hide them. What is open to the border of area is no hole but the other side of the face.
func (f *field) grow(area image.Rectangle, over *layer) {
	w := f.Dx()
	kind := resize(f.kind, len(f.dx))
	clear(kind)
	rest, empty, open := f.rest[:0], f.empty[:0], f.edge[:0]
	for y := area.Min.Y; y < area.Max.Y; y++ {
		dx, _ := f.row(y, span{area.Min.X, area.Max.X})
		for k, d := range dx {
			if d == d {
				continue
			}
			x, i := area.Min.X+k, f.at(area.Min.X+k, y)
			rest = append(rest, i)
			if _, alpha, _ := over.at(x, y); alpha >= 1 {
				continue
			}
			empty, kind[i] = append(empty, i), hole
			if x == area.Min.X || y == area.Min.Y || x == area.Max.X-1 || y == area.Max.Y-1 {
				open, kind[i] = append(open, i), beyond
			}
		}
	}
	f.kind, f.rest, f.empty = kind, rest, empty
	for len(open) > 0 {
		i := open[len(open)-1]
		open = open[:len(open)-1]
		for _, j := range [4]int{i - w, i + w, i - 1, i + 1} {
			if kind[j] == hole {
				open, kind[j] = append(open, j), beyond
			}
		}
	}
	f.edge = open
	empty = slices.DeleteFunc(empty, func(i int) bool { return kind[i] == beyond })
	type fill struct {
		at     int
		dx, dy float32
	}
	var fills []fill
	for len(empty) > 0 {
		fills = fills[:0]
		left := empty[:0]
		for _, i := range empty {
			var dx, dy, n float32
			for _, j := range [4]int{i - w, i + w, i - 1, i + 1} {
				// Between two lips, the mean would show what is behind them.
				if f.dx[j] == f.dx[j] && (n == 0 || agree(f.dx[j]*n-dx, f.dy[j]*n-dy, n)) {
					dx, dy, n = dx+f.dx[j], dy+f.dy[j], n+1
				}
			}
			if n > 0 {
				fills = append(fills, fill{i, dx / n, dy / n})
			} else {
				left = append(left, i)
			}
		}
		if len(fills) == 0 {
			break
		}
		for _, s := range fills {
			f.dx[s.at], f.dy[s.at] = s.dx, s.dy
		}
		empty = left
	}
	for _, i := range rest {
		if f.dx[i] != f.dx[i] {
			f.dx[i] = 0
		}
	}
}
