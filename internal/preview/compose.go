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
	i := 0
	for y := l.Min.Y; y < l.Max.Y; y++ {
		for x := l.Min.X; x < l.Max.X; x++ {
			p := ps.toFace(vec{float64(x), float64(y)})
			c, up, lo := in.coverage(p)
			l.alpha[i] = float32(c)
			l.seam[i] = float32(in.seamShade(p) * (1 - c))
			if c > 0 {
				l.c[i] = in.paint(p, up, lo, own)
			}
			i++
		}
	}
}

// stillPixel is the displacement, in pixels, below which a pixel is left alone.
const stillPixel = 0.01

// compose writes the warped and painted region back. It only writes pixels that
// change.
func (e *Engine) compose(f *frame.Frame) {
	black := float32(0)
	if !f.FullRange {
		black = 16
	}
	i := 0
	for y := e.field.Min.Y; y < e.field.Max.Y; y++ {
		for x := e.field.Min.X; x < e.field.Max.X; x++ {
			dx, dy := e.field.dx[i], e.field.dy[i]
			i++
			c, alpha, seam := e.paint.at(x, y)
			if moves(dx, dy) || alpha > 0 || seam > 0.004 {
				v := e.src[0].cubic(float32(x)+dx, float32(y)+dy)
				v = black + (v-black)*(1-seam)
				put(f, 0, x, y, v+(c[0]-v)*alpha)
			}
		}
	}
	for plane := 1; plane < 3; plane++ {
		e.composeChroma(f, plane)
	}
}

func moves(dx, dy float32) bool {
	return dx > stillPixel || dx < -stillPixel || dy > stillPixel || dy < -stillPixel
}

// at reads the layer; outside its box it is clear.
func (l *layer) at(x, y int) (colour, float32, float32) {
	if !(image.Point{x, y}).In(l.Rectangle) {
		return colour{}, 0, 0
	}
	i := (y-l.Min.Y)*l.Dx() + x - l.Min.X
	return l.c[i], l.alpha[i], l.seam[i]
}

// composeChroma sets each changed chroma sample to the mean over the luma pixels
// that share it, in its own column and one or two rows. Each row is sampled with
// its own displacement: where the lips meet, the mean of the displacements of
// upper and lower lip would point at the teeth between them.
func (e *Engine) composeChroma(f *frame.Frame, plane int) {
	sx, sy := f.ShiftX, f.ShiftY
	r := e.field.Rectangle
	scaleX, scaleY := 1/float32(int(1)<<sx), 1/float32(int(1)<<sy)
	for cy := (r.Min.Y + sy) >> sy; cy<<sy+sy < r.Max.Y; cy++ {
		for cx := (r.Min.X + sx) >> sx; cx<<sx < r.Max.X; cx++ {
			x := cx << sx
			var sum, n float32
			touched := false
			for y := cy << sy; y <= cy<<sy+sy; y++ {
				i := e.field.at(x, y)
				dx, dy := e.field.dx[i], e.field.dy[i]
				c, alpha, _ := e.paint.at(x, y)
				touched = touched || alpha > 0 || moves(dx, dy)
				v := e.src[plane].linear(float32(cx)+dx*scaleX, float32(cy)+dy*scaleY)
				sum += v + (c[plane]-v)*alpha
				n++
			}
			if touched {
				put(f, plane, cx, cy, sum/n)
			}
		}
	}
}
