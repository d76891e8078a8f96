package neural

import "slices"

// shot schedules the windows of one shot, which is a run of consecutive frames of one
// face without a cut. A window overlaps the end of the window before it. The last window
// begins earlier than it would, so that it is full.
type shot struct {
	keep  int  // number of covered frames to keep
	short bool // the last window has only the frames that are left

	covered []*held // the latest frames that a window has covered
	fresh   []*held // frames that no window has covered yet
	waiting []*held // frames not returned yet, oldest first, with those in fresh
}

// window holds frames to denoise together: those shared with earlier windows, then fresh
// new ones, then filled repeated ones if the shot is shorter than a window.
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

// windows returns the windows that the fresh frames fill. Each has size frames and shares
// overlap frames with the one before it. At the end of the shot, the last window takes
// the frames that are left.
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

// mirror returns the index of the i-th frame after the last of n frames that are played
// back and forth without repeating the ends.
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

// blend stores the latents of w, which must be the first window not blended yet. It
// crossfades the waiting frames that the window before also had. It returns how many
// waiting frames are finished if the next window shares overlap frames with w.
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
		// Later windows need the conditions of the rest.
		s.covered = slices.Clone(s.covered[drop:])
	}
	return at + w.fresh - overlap
}

// take removes and returns the first n waiting frames.
func (s *shot) take(n int) []*held {
	if n <= 0 {
		return nil
	}
	taken := s.waiting[:n:n]
	s.waiting = slices.Clone(s.waiting[n:])
	return taken
}
