package preview

// speaker is what the engine knows of the person it shows: the closed mouth at rest
// and the inside of the mouth.
type speaker struct {
	known   bool
	track   int
	neutral lips
	seen    float64 // frames that neutral has been learned from
	weight  float64 // of these frames; newer ones count more
	plate   *plate
	open    float64 // the widest opening of the mesh so far
	taken   int     // frames with about this opening

	skin     colour   // in the present frame
	behind   []colour // what was seen between the lips
	behindBy colour   // the skin then
	widest   float64  // opening then
	lit      []colour // behind in the light of the present frame
}

// meet begins with the speaker of a track, if none is known.
func (s *speaker) meet(track int) {
	if !s.known {
		*s = speaker{known: true, track: track, plate: new(plate)}
	}
}

// settled is the number of frames after which the inside of the mouth is only refreshed now and
// then.
const settled = 8

// interested reports whether a mouth with an opening of gap shows more of its inside than others
// did, or as much.
func (s *speaker) interested(gap float64) bool {
	switch {
	case gap < 0.02 || gap < 0.9*s.open:
		return false
	case gap > 1.03*s.open:
		s.taken = 0
	}
	s.open = max(s.open, gap)
	s.taken++
	return s.taken <= settled || s.taken%settled == 0
}

// inside returns the colours of the inside of the mouth in the light of the present frame.
func (s *speaker) inside() []colour {
	s.lit = append(s.lit[:0], s.behind...)
	for i := range s.lit {
		s.lit[i][0] *= light(s.behindBy, s.skin)
	}
	return s.lit
}

// glance learns the colours between the lips from a mouth that is open about as wide as ever. What
// several frames show hardly depends on which ones they are.
func (s *speaker) glance(r *search, ps *pose, read func(vec) colour) {
	if r.sure < 1 || r.height < 0.05 || r.height < 0.9*s.widest {
		return
	}
	if r.height > 1.3*s.widest {
		s.behind, s.behindBy = s.behind[:0], s.skin
	}
	s.widest = max(s.widest, r.height)
	for _, c := range r.known(ps, read) {
		c[0] /= light(s.behindBy, s.skin)
		if len(s.behind) < mostBehind {
			s.behind = add(s.behind, c, unlike)
		}
	}
}

// No more colours of the inside of a mouth are remembered than this, and none that is so close to
// another.
const (
	mostBehind = 48
	unlike     = 60
)

// neutralSeconds is the time constant with which the neutral shape follows the
// face: slow enough to average syllables away, fast enough to follow the expression.
const neutralSeconds = 0.5

// learn updates the neutral shape from the lips of a frame. A closed mouth shows it
// best; the wider a mouth is open, the less it says. rate is the share by which the
// shape follows a mouth that stays closed.
func (s *speaker) learn(source *lips, rate float64) {
	open := source.gap() / 0.05
	w := 0.03 + 1/(1+open*open)
	s.seen++
	s.weight = s.weight*(1-rate) + w
	closed := source.closed()
	if s.seen == 1 {
		s.neutral = closed
	}
	// At first the mean of all frames, because the first one may be the worst, as in a
	// fade from black.
	s.neutral.blend(&closed, min(w/s.weight, max(2.5*rate, 1/s.seen)))
}
