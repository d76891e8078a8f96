package face

import (
	"math"

	"github.com/lipstream/lipstream/internal/frame"
)

// look is what somebody looks like: the colours of the upright face without the mouth,
// averaged over cells and over time. It tells the people of one video apart when they
// pass each other. It is not made to recognise somebody in another one.
type look [lookW * lookH][3]float32

const (
	lookCell  = 4                            // pixels of a cell's side
	lookW     = TemplateW / 5 / lookCell     // cells in a row
	lookH     = TemplateH / 5 / lookCell     // rows
	lookScale = 5.0                          // template units to a pixel
	lookRate  = 0.05                         // share by which a look follows the face, per frame
	mouthTop  = lookH * 5 / 8                // rows from here on show the mouth
	lookCount = (lookW - 2) * (mouthTop - 1) // cells that are compared
)

// newLook returns the look of a face in a frame, or nil if its points are on a line.
func newLook(f frame.Source, points []Point) *look {
	m, ok := TemplateAffine(AlignPoints468(points)).Invert()
	if !ok {
		return nil
	}
	m.A, m.B, m.D, m.E = m.A*lookScale, m.B*lookScale, m.D*lookScale, m.E*lookScale
	crop := frame.NewRGB(lookW*lookCell, lookH*lookCell)
	f.Warp(crop, m, frame.Replicate, 0)
	l := new(look)
	for y := range crop.H {
		for x := range crop.W {
			cell := &l[y/lookCell*lookW+x/lookCell]
			for c, v := range crop.Pix[3*(y*crop.W+x):][:3] {
				cell[c] += float32(v) / (lookCell * lookCell)
			}
		}
	}
	return l
}

// distance returns how much two looks differ, in levels of 255, whatever the brightness.
func (l *look) distance(o *look) float64 {
	each := func(f func(d float64)) {
		for y := 1; y < mouthTop; y++ {
			for x := 1; x < lookW-1; x++ {
				for c := range 3 {
					f(float64(l[y*lookW+x][c] - o[y*lookW+x][c]))
				}
			}
		}
	}
	var mean, sum float64
	each(func(d float64) { mean += d / (3 * lookCount) })
	each(func(d float64) { sum += math.Abs(d - mean) })
	return sum / (3 * lookCount)
}

// follow moves the look a little towards a new one.
func (l *look) follow(o *look) {
	for i := range l {
		for c := range 3 {
			l[i][c] += lookRate * (o[i][c] - l[i][c])
		}
	}
}

// recognise updates the looks of the people who are followed, if several matter. Where
// two faces touch, a mesh may lie on the wrong one, so those looks stay as they are.
func (p *people) recognise(f frame.Source) {
	if !p.several {
		return
	}
	seen := p.followed()
	for _, q := range seen {
		if q.now = newLook(f, q.obs.points); q.now == nil {
			continue
		}
		if q.look == nil {
			q.look = new(*q.now)
		}
		alone := true
		for _, o := range seen {
			alone = alone && (o == q || o.obs.apart(q.obs) > 0.75*(o.obs.size()+q.obs.size()))
		}
		if alone {
			q.look.follow(q.now)
		}
	}
}

// likelier reports whether the face on which the meshes of both a and b lie is that of b.
func likelier(a, b *person) bool {
	return a.look != nil && b.look != nil && a.now != nil && b.look.distance(a.now) < a.look.distance(a.now)
}
