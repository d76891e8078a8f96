package preview

import (
	"image"
	"math"
)

// field is a displacement for every luma pixel of a region of the frame: the
// new pixel (x, y) is read at (x+dx, y+dy).
type field struct {
	image.Rectangle
	dx, dy []float32
	filled []bool
}

// reset makes the field empty over r, keeping its memory.
func (f *field) reset(r image.Rectangle) {
	f.Rectangle = r
	n := r.Dx() * r.Dy()
	f.dx, f.dy, f.filled = resize(f.dx, n), resize(f.dy, n), resize(f.filled, n)
	clear(f.dx)
	clear(f.dy)
	clear(f.filled)
}

func (f *field) at(x, y int) int { return (y-f.Min.Y)*f.Dx() + x - f.Min.X }

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
	b1dx, b1dy := e2.y/det, -e2.x/det
	b2dx, b2dy := -e1.y/det, e1.x/det
	const eps = -1e-6
	for y := y0; y <= y1; y++ {
		p := vec{float64(x0), float64(y)}.sub(to[0])
		b1, b2 := p.x*b1dx+p.y*b1dy, p.x*b2dx+p.y*b2dy
		i := f.at(x0, y)
		for x := x0; x <= x1; x++ {
			if b1 >= eps && b2 >= eps && b1+b2 <= 1-eps {
				b0 := 1 - b1 - b2
				f.dx[i] = float32(b0*d0.x + b1*d1.x + b2*d2.x)
				f.dy[i] = float32(b0*d0.y + b1*d1.y + b2*d2.y)
				f.filled[i] = true
			}
			b1 += b1dx
			b2 += b2dx
			i++
		}
	}
}

// grow extends the field by one pixel into the empty part of area: the border
// pixels of the mouth's inside are partly lip, and take the lip's movement.
func (f *field) grow(area image.Rectangle) {
	area = area.Intersect(f.Inset(1))
	w := f.Dx()
	type fill struct {
		at     int
		dx, dy float32
	}
	var fills []fill
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			i := f.at(x, y)
			if f.filled[i] {
				continue
			}
			var dx, dy, n float32
			for _, j := range [4]int{i - w, i + w, i - 1, i + 1} {
				if f.filled[j] {
					dx, dy, n = dx+f.dx[j], dy+f.dy[j], n+1
				}
			}
			if n > 0 {
				fills = append(fills, fill{i, dx / n, dy / n})
			}
		}
	}
	for _, s := range fills {
		f.dx[s.at], f.dy[s.at], f.filled[s.at] = s.dx, s.dy, true
	}
}
