package latentsync

import "slices"

// shot schedules the windows of one shot: consecutive frames of one face
// without a cut. A window begins some frames before the end of the one before
// it; the last one is moved back so that it is full.
type shot struct {
	keep  int  // frames that a window has covered are kept so far back
	short bool // the last window is as short as what is left

	covered []*held // the last of the frames that a window has covered
	fresh   []*held // frames that none has covered yet
	waiting []*held // frames not given out yet, oldest first; the fresh ones among them
}

// window is some frames to denoise together. The last fresh of them belong to
// no earlier window. Frames beyond the shot's end, which fill a short shot up,
// come after those.
type window struct {
	frames []*held
	fresh  int
	filled int
}

func (s *shot) reset() { s.covered, s.fresh, s.waiting = nil, nil, nil }

func (s *shot) add(h *held) {
	s.fresh = append(s.fresh, h)
	s.waiting = append(s.waiting, h)
}

// windows gives those that the fresh frames fill, each of size frames, overlap
// of them shared with the one before. At the end of the shot one more takes what
// is left.
func (s *shot) windows(size, overlap int, end bool) []window {
	var list []window
	all, at := slices.Concat(s.covered, s.fresh), len(s.covered) // at: the first that no window has
	for {
		from := max(at-overlap, 0)
		if from+size > len(all) {
			break
		}
		list = append(list, window{frames: all[from : from+size : from+size], fresh: from + size - at})
		at = from + size
	}
	left := len(all) - at
	switch {
	case !end || left == 0:
	case s.short:
		list = append(list, window{frames: all[max(at-overlap, 0):], fresh: left})
	case len(all) >= size:
		list = append(list, window{frames: all[len(all)-size:], fresh: left})
	default: // shorter than a window, the shot is filled up by running back and forth
		w := window{frames: slices.Clone(all), fresh: left}
		for len(w.frames) < size {
			w.frames = append(w.frames, all[mirror(w.filled+1, len(all))])
			w.filled++
		}
		list = append(list, w)
	}
	return list
}

// mirror gives the place of the i-th frame after the last of n, going back and
// forth without repeating the ends.
func mirror(i, n int) int {
	if n == 1 {
		return 0
	}
	i = (n - 1 + i) % (2*n - 2)
	if i >= n {
		i = 2*n - 2 - i
	}
	return i
}

// blend takes the latents of w, the first of the windows that remain. Frames
// that the window before had too, if they wait still, pass from its latents to
// these. It tells how many of the waiting frames no window will change that has
// so many frames in common with w.
func (s *shot) blend(w window, latents [][]float32, overlap int) (finished int) {
	n := len(w.frames) - w.filled
	first := n - w.fresh                // of w's fresh frames
	at := len(s.waiting) - len(s.fresh) // where they wait
	old := min(first, at)               // before them, in both windows
	for i, h := range w.frames[first-old : first] {
		share := float32(i+1) / float32(old+1)
		for k, v := range latents[first-old+i] {
			h.result[k] += share * (v - h.result[k])
		}
	}
	for i := first; i < n; i++ {
		w.frames[i].result = latents[i]
	}
	s.covered = append(s.covered, s.fresh[:w.fresh]...)
	s.fresh = slices.Clone(s.fresh[w.fresh:])
	if drop := len(s.covered) - s.keep; drop > 0 {
		// What remains of them is what a later window conditions on.
		s.covered = slices.Clone(s.covered[drop:])
	}
	return at + w.fresh - overlap
}

// take removes the first n frames that wait.
func (s *shot) take(n int) []*held {
	if n <= 0 {
		return nil
	}
	taken := s.waiting[:n:n]
	s.waiting = slices.Clone(s.waiting[n:])
	return taken
}
