package preview

import (
	"cmp"
	"math"
	"slices"
)

// The places at which the rim is looked for: columns across the mouth and a little beyond
// its corners, and rows around the middle between the lips of the mesh.
const (
	rimColumns = 56
	rimReach   = 64 // rows above the middle, and below it
	rimRows    = 2*rimReach + 1
	rimStep    = 0.006 // between rows, in face units, but at least half a pixel
	rimBeyond  = 0.07  // how far beyond the corners of the mesh, in face units
	rimMargin  = 0.05  // and beyond the lips
)

// rim is the border of the opening of a mouth as the colours of the frame have it. The mesh
// misses it by several pixels, takes the dark corners of a wide open mouth for skin, and
// some mouths that show only teeth for closed ones.
type rim struct {
	left, step  float64                // u of the first column, and from one column to the next
	up, lo      [rimColumns]float64    // v of the edges of the lips
	first, last int                    // the columns in which the mouth is open: none if last < first
	height      float64                // of the opening, where it is highest
	sure        float64                // 0..1: whether the mouth is open
	edge        [2][rimColumns]float64 // v of the mesh's inner edges, upper and lower
	outer       [2][rimColumns]float64 // v of its outer edges
	corner      [2]int                 // the columns of the mesh's corners
	corners     [2]vec                 // of the mouth
	mesh        []vec                  // the mesh, with these corners
}

// search looks for a rim. It has 70 KB.
type search struct {
	rim
	flesh  [2]palette // of the upper lip and the lower one
	behind []colour
	doubt  []float32 // how far each of them is from being known

	inwards float32 // the price of an opening that is smaller than that of the mesh

	row         float64                          // from one row to the next, in face units
	top, bottom int                              // the rows that are looked at
	v0          [rimColumns]float64              // v of the middle row
	sum         [rimColumns][rimRows + 1]float32 // of what the rows before look like
	cost        [rimRows]float32
	came        [rimColumns][rimRows]int16
	seam        [rimColumns]int
	path        [2][rimColumns]int
}

// palette has the colours of a lip, and those of the lip and the skin around it.
type palette struct{ lip, all []colour }

// find looks for the rim of the mouth of a mesh, from; behind has colours of the inside of
// this mouth that are known from other frames.
func (r *search) find(from []vec, ps *pose, behind []colour, read func(vec) colour) {
	r.scan(from, ps)
	r.palettes(from, ps, behind, read)
	for c := range rimColumns {
		u := r.left + float64(c)*r.step
		for k := r.top; k < r.bottom; k++ {
			v := r.v0[c] + float64(k-rimReach)*r.row
			r.sum[c][k+1] = r.sum[c][k] + r.inside(c, v, read(ps.toPixels(vec{u, v})))
		}
	}
	// From the side, and without colours, a lip that is cut is better than one with teeth.
	red := r.flesh[1].lip[0]
	plain := max(1-smoothstep(0.88, 0.95, ps.frontal()), 1-smoothstep(5, 15, float64(red[2]-red[1])))
	r.inwards = float32(0.06 + plain)
	r.middle()
	r.edges(0)
	r.edges(1)
	r.measure()
}

// scan places the columns and rows over the mesh.
func (r *search) scan(from []vec, ps *pose) {
	left, right := math.Inf(1), math.Inf(-1)
	for n := range 2 {
		for k := range columns {
			for _, ring := range [2]int{0, rings - 1} {
				u := ps.toFace(from[bothLips[n][ring][k]]).x
				left, right = min(left, u), max(right, u)
			}
		}
	}
	// The skin beside the corners: on the far side of a turned head there is none.
	left -= clamp(left-ps.toFace(from[cheek[0]]).x, 0.01, rimBeyond)
	right += clamp(ps.toFace(from[cheek[1]]).x-right, 0.01, rimBeyond)
	r.left, r.step = left, (right-left)/(rimColumns-1)
	r.row = max(rimStep, 0.5/ps.unit)
	for n, k := range [2]int{0, columns - 1} {
		r.corner[n] = int((ps.toFace(from[lowerLip[rings-1][k]]).x-left)/r.step + 0.5)
	}
	r.trace(from, ps)
	above, below := 0.0, 0.0
	for c := range rimColumns {
		r.v0[c] = (r.edge[0][c] + r.edge[1][c]) / 2
		above, below = max(above, r.v0[c]-r.outer[0][c]), max(below, r.outer[1][c]-r.v0[c])
	}
	r.top = max(0, rimReach-int((above+rimMargin)/r.row))
	r.bottom = min(rimRows, rimReach+1+int((below+rimMargin)/r.row))
	for c := range rimColumns {
		r.sum[c][r.top] = 0
	}
}

// trace reads the edges of the mesh's lips.
func (r *rim) trace(from []vec, ps *pose) {
	for n := range 2 {
		var inner, outer [columns]vec
		for k := range columns {
			inner[k], outer[k] = ps.toFace(from[bothLips[n][rings-1][k]]), ps.toFace(from[bothLips[n][0][k]])
		}
		for c := range rimColumns {
			u := r.left + float64(c)*r.step
			r.edge[n][c], r.outer[n][c] = curve(&inner, u), curve(&outer, u)
		}
	}
}

// alike is the distance below which two colours are nearly the same.
const alike = 50

// add appends a colour to a palette unless it has one that is closer than apart.
func add(to []colour, c colour, apart float32) []colour {
	if nearest(c, to) < apart {
		return to
	}
	return append(to, c)
}

// skinAround are points of the mesh around the upper and the lower lip.
var skinAround = [2][]uint16{
	{164, 167, 393, 165, 391, 92, 322, 186, 410, 57, 287},
	{18, 83, 313, 182, 406, 106, 335, 43, 273, 57, 287},
}

// cheek has points of the mesh beside the left and the right corner of the mouth.
var cheek = [2]uint16{57, 287}

// palettes takes the colours of both lips and the skin around them from places that are
// neither, even if the mesh misses the rim.
func (r *search) palettes(from []vec, ps *pose, behind []colour, read func(vec) colour) {
	redness := func(c colour) float32 { return c[2] - c[1] }
	for n, lip := range bothLips {
		p := &r.flesh[n]
		p.lip = p.lip[:0]
		for k := 3; k <= 7; k++ {
			for _, t := range [...]float64{0.35, 0.6, 0.8} {
				p.lip = append(p.lip, read(lerp(from[lip[rings-1][k]], from[lip[0][k]], t)))
			}
		}
		// The reddest half: the highlights of a lip look like teeth.
		slices.SortFunc(p.lip, func(a, b colour) int { return cmp.Compare(redness(b), redness(a)) })
		p.lip = p.lip[:len(p.lip)/2]
		lightest := slices.MaxFunc(p.lip, func(a, b colour) int { return cmp.Compare(a[0], b[0]) })[0]
		// What is much darker is the seam, or a corner of the mouth.
		p.lip = slices.DeleteFunc(p.lip, func(c colour) bool { return c[0] < 0.55*lightest })
		p.all = append(p.all[:0], p.lip...)
		for _, i := range skinAround[n] {
			p.all = add(p.all, read(from[i]), alike)
		}
	}
	red := r.flesh[0].lip[0]
	r.behind = append(r.behind[:0], behind...)
	// The corners of the mouth are dark.
	r.behind = append(r.behind, colour{0.35 * red[0], 128 + 0.5*(red[1]-128), 128 + 0.5*(red[2]-128)})
	const in = rings - 1
	for k := 3; k <= 7; k++ {
		a, b := from[upperLip[in][k]], from[lowerLip[in][k]]
		if ps.toFace(b).y-ps.toFace(a).y > 0.03 {
			for _, t := range [...]float64{0.25, 0.4, 0.55, 0.75} {
				r.behind = add(r.behind, read(lerp(a, b, t)), alike)
			}
		}
	}
	// A beard is as dark as the mouth, and a tongue as red as the lips.
	r.doubt = r.doubt[:0]
	for _, c := range r.behind {
		d := min(nearest(c, r.flesh[0].all), nearest(c, r.flesh[1].all))
		r.doubt = append(r.doubt, 300*float32(1-smoothstep(40, 200, float64(d))))
	}
}

// inside returns how much a colour at v in a column looks like what is behind the lips: from
// -1 for flesh to 1. What is ambiguous counts as flesh.
func (r *search) inside(column int, v float64, c colour) float32 {
	n := 0
	if v > r.v0[column] {
		n = 1
	}
	p := &r.flesh[n]
	around := p.all
	edge, outer := r.edge[n][column], r.outer[n][column]
	if column >= r.corner[0] && column <= r.corner[1] && (v-edge)/(outer-edge) < 0.8 {
		around = p.lip // teeth look much like skin, but not like lips
	}
	a, b := nearest(c, around), float32(math.Inf(1))
	for i := range r.behind {
		b = min(b, distance(c, r.behind[i])+r.doubt[i])
	}
	return (a-b)/(a+b+30) - 0.1
}

// spread replaces each cost by the least cost of all rows with a price for the distance, and
// notes which row it is.
func (r *search) spread(came *[rimRows]int16, price float32) {
	cost := &r.cost
	for k := r.top; k < r.bottom; k++ {
		came[k] = int16(k)
		if k > r.top && cost[k-1]+price < cost[k] {
			cost[k], came[k] = cost[k-1]+price, came[k-1]
		}
	}
	for k := r.bottom - 2; k >= r.top; k-- {
		if cost[k+1]+price < cost[k] {
			cost[k], came[k] = cost[k+1]+price, came[k+1]
		}
	}
}

// cheapest finds the path of least cost across the columns. own adds the costs of a column.
func (r *search) cheapest(path *[rimColumns]int, price float32, own func(column int, cost *[rimRows]float32)) {
	clear(r.cost[:])
	for c := range rimColumns {
		if c > 0 {
			r.spread(&r.came[c], price)
		}
		own(c, &r.cost)
	}
	best := r.top
	for k := r.top; k < r.bottom; k++ {
		if r.cost[k] < r.cost[best] {
			best = k
		}
	}
	for c := rimColumns - 1; c >= 0; c-- {
		path[c] = best
		if c > 0 {
			best = int(r.came[c][best])
		}
	}
}

// middle finds a path through the opening, or along the seam of closed lips.
func (r *search) middle() {
	r.cheapest(&r.seam, 0.3, func(c int, cost *[rimRows]float32) {
		for k := r.top; k < r.bottom; k++ {
			d := float32(k - rimReach)
			lo, hi := max(k-1, r.top), min(k+2, r.bottom)
			cost[k] += 0.004*d*d - (r.sum[c][hi] - r.sum[c][lo])
		}
	})
}

// edges finds the edge of the upper lip, 0, or of the lower one, 1: the path above or below
// the middle that separates best what looks like flesh from what does not.
func (r *search) edges(n int) {
	r.cheapest(&r.path[n], 0.25, func(c int, cost *[rimRows]float32) {
		mesh := float32((r.edge[n][c]-r.v0[c])/r.row) + rimReach
		m := r.seam[c]
		for k := r.top; k < r.bottom; k++ {
			d := float32(k) - mesh
			if d > 0 == (n == 0) {
				cost[k] += r.inwards * d * d
			} else {
				cost[k] += 0.01 * d * d
			}
			if n == 0 {
				if k > m {
					cost[k] += 100
				}
				cost[k] -= r.sum[c][m] - r.sum[c][min(k, m)]
			} else {
				if k < m {
					cost[k] += 100
				}
				cost[k] -= r.sum[c][max(k, m)] - r.sum[c][m]
			}
		}
	})
}

// place returns v of an edge between a row and the one before it in a column: where the colours
// change from flesh to what is behind the lips, downwards if way is 1 and upwards if it is -1.
func (r *search) place(column, row int, way float32) float64 {
	at := float64(row-rimReach) - 0.5
	if row > r.top && row < r.bottom {
		sum := &r.sum[column]
		before, after := way*(sum[row]-sum[row-1]), way*(sum[row+1]-sum[row])
		if before < 0 && after > 0 {
			at += 0.5 - float64(after/(after-before))
		}
	}
	return r.v0[column] + at*r.row
}

// measure finds the columns in which the mouth is open: neighbours whose openings meet, of
// which those with the largest area are the mouth.
func (r *search) measure() {
	for c := range rimColumns {
		r.up[c], r.lo[c] = r.place(c, r.path[0][c], 1), r.place(c, r.path[1][c], -1)
	}
	open := func(c int) bool { return r.lo[c]-r.up[c] > 1.5*r.row }
	meet := func(c, d int) bool { return open(d) && max(r.up[c], r.up[d]) < min(r.lo[c], r.lo[d]) }
	r.first, r.last, r.height, r.sure = 0, -1, 0, 0
	largest := 0.0
	for c := 0; c < rimColumns; c++ {
		if !open(c) {
			continue
		}
		first, area, height := c, 0.0, 0.0
		for d := c; ; {
			c = d
			area += r.lo[c] - r.up[c]
			height = max(height, r.lo[c]-r.up[c])
			if d++; d < rimColumns && meet(c, d) {
				continue
			}
			if d++; d < rimColumns && meet(c, d) { // one column without, such as that between two teeth
				r.up[d-1], r.lo[d-1] = (r.up[c]+r.up[d])/2, (r.lo[c]+r.lo[d])/2
				d--
				continue
			}
			break
		}
		if area > largest {
			largest, r.first, r.last, r.height = area, first, c, height
		}
	}
	// A short one is a highlight on a lip, or a shadow in a corner.
	wide := float64(r.last+1-r.first) / float64(max(1, r.corner[1]-r.corner[0]))
	r.sure = smoothstep(0.25, 0.4, wide) * smoothstep(0.008, 0.02, r.height)
	// Where an edge is steep, a lip that is cut is better than one with teeth.
	up, lo := r.up, r.lo
	for c := r.first; c <= r.last; c++ {
		a, b := max(c-1, r.first), min(c+1, r.last)
		r.up[c], r.lo[c] = min(up[a], up[c], up[b]), max(lo[a], lo[c], lo[b])
	}
	up, lo = r.up, r.lo
	for c := r.first + 1; c < r.last; c++ {
		r.up[c] = (up[c-1] + 2*up[c] + up[c+1]) / 4
		r.lo[c] = (lo[c-1] + 2*lo[c] + lo[c+1]) / 4
	}
}

// end returns an end of the opening: the left one, 0, or the right one, 1.
func (r *rim) end(side int) vec {
	c, next := r.first, r.first+1
	if side == 1 {
		c, next = r.last, r.last-1
	}
	h, more := r.lo[c]-r.up[c], 0.0
	if r.first < r.last {
		more = r.lo[next] - r.up[next] - h
	}
	beyond := 1.5 + clamp(h/max(more, 1e-6), 0, 1) // where a straight line ends, and a little
	return vec{r.left + (float64(c)+beyond*float64(c-next))*r.step, (r.up[c] + r.lo[c]) / 2}
}

// at returns v of the edges at u. Beyond the ends of the opening the lips touch, from there
// to the corners of the mouth.
func (r *rim) at(u float64, corners *[2]vec) (up, lo float64) {
	x := (u - r.left) / r.step
	for side, c := range [2]int{r.first, r.last} {
		if out := x - float64(c); side == 0 && out < 0 || side == 1 && out > 0 {
			end := r.end(side)
			t := 1.0
			if w := end.x - r.left - float64(c)*r.step; math.Abs(w) > 1e-9 {
				t = clamp((u-r.left-float64(c)*r.step)/w, 0, 1)
			}
			if t < 1 {
				return r.up[c] + (end.y-r.up[c])*t, r.lo[c] + (end.y-r.lo[c])*t
			}
			v := end.y
			if w := corners[side].x - end.x; math.Abs(w) > 1e-9 {
				v += (corners[side].y - end.y) * clamp((u-end.x)/w, 0, 1)
			}
			return v, v
		}
	}
	c := min(int(x), r.last-1)
	if c < r.first {
		return r.up[r.first], r.lo[r.first]
	}
	t := x - float64(c)
	return r.up[c] + (r.up[c+1]-r.up[c])*t, r.lo[c] + (r.lo[c+1]-r.lo[c])*t
}

// fit moves the lips of a mesh, in which the rim was found, to the rim.
func (r *rim) fit(from []vec, ps *pose) {
	r.mesh = append(r.mesh[:0], from...)
	if r.sure == 0 {
		return
	}
	const in = rings - 1
	for side, k := range [2]int{0, columns - 1} {
		corner, end := ps.toFace(from[lowerLip[in][k]]), r.end(side)
		r.corners[side] = corner
		if d := end.sub(corner); side == 0 && d.x < 0 || side == 1 && d.x > 0 {
			// The mouth is open beyond the corner of the mesh. The skin beside it must
			// not fold.
			skin := ps.toFace(from[cheek[side]]).x - ps.toFace(from[lowerLip[0][k]]).x
			lip := ps.toFace(from[lowerLip[0][k]]).x - corner.x
			outer := r.sure * clamp(0.5*skin/d.x, 0, 1)
			inner := min(r.sure, outer+max(0, 0.8*lip/d.x))
			r.corners[side] = corner.add(d.mul(inner))
			for ring := range rings {
				i := lowerLip[ring][k]
				r.mesh[i] = from[i].add(ps.shift(d.mul(outer + (inner-outer)*float64(ring)/in)))
				from[i] = r.mesh[i]
			}
		}
	}
	r.trace(from, ps)
	for k := 1; k < columns-1; k++ {
		for n, lip := range bothLips {
			for ring := range rings {
				from[lip[ring][k]] = r.bend(from[lip[ring][k]], n, ps)
			}
		}
	}
}

// Where the mesh misses the inner edge of a lip, it misses the outer one as well. So the lip
// moves as a whole, by at most wholeLip of its height, and gets thinner by at most thinnerLip.
const (
	wholeLip   = 0.4
	thinnerLip = 0.5
)

// bend moves a point of the upper lip, 0, or the lower one, 1, with the inner edge of the lip
// when that goes to the rim.
func (r *rim) bend(point vec, n int, ps *pose) vec {
	p := ps.toFace(point)
	x := clamp((p.x-r.left)/r.step, 0, rimColumns-1.001)
	c := int(x)
	t := x - float64(c)
	edge := r.edge[n][c] + (r.edge[n][c+1]-r.edge[n][c])*t
	height := r.outer[n][c] + (r.outer[n][c+1]-r.outer[n][c])*t - edge
	v, lo := r.at(p.x, &r.corners)
	if n == 1 {
		v = lo
	}
	usual := math.Abs(r.outer[n][rimColumns/2] - r.edge[n][rimColumns/2]) // height in the middle
	inner := (v - edge) * r.sure
	outer := clamp(inner, -wholeLip*usual, wholeLip*usual)
	inner = clamp(inner, outer-thinnerLip*usual, outer+thinnerLip*usual)
	depth := 1.0 // 0 at the outer edge
	if math.Abs(height) > 1e-6 {
		depth = clamp(1-(p.y-edge)/height, 0, 1)
	}
	return point.add(ps.shift(vec{0, outer + (inner-outer)*depth}))
}

// known returns the colours of what is behind the lips.
func (r *search) known(ps *pose, read func(vec) colour) (colours []colour) {
	for _, x := range [...]float64{0.25, 0.4, 0.5, 0.6, 0.75} {
		c := r.first + int(x*float64(r.last-r.first))
		for _, y := range [...]float64{0.15, 0.3, 0.5, 0.7, 0.85} {
			colours = add(colours, read(ps.toPixels(vec{r.left + float64(c)*r.step, r.up[c] + y*(r.lo[c]-r.up[c])})), alike)
		}
	}
	return colours
}
