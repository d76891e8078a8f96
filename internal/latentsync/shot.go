package latentsync

// shot schedules the windows of one shot: consecutive frames of one face
// without a cut. A window begins overlap frames before the end of the one
// before it; the last one is moved back so that it is full.
type shot struct {
	window, overlap int
	short           bool // the last window is as short as what is left

	total   int     // frames of the shot so far
	done    int     // of them, those that a window has covered
	recent  []*held // the last frames, at most a window
	waiting []*held // frames not given out yet, oldest first
}

// window is some frames to denoise together. The last fresh of them belong to
// no earlier window. Frames beyond the shot's end, which fill a short shot up,
// come after those.
type window struct {
	frames []*held
	fresh  int
	filled int
}

func (s *shot) reset() {
	s.total, s.done, s.recent, s.waiting = 0, 0, nil, nil
}

func (s *shot) add(h *held) {
	s.total++
	s.waiting = append(s.waiting, h)
	if s.recent = append(s.recent, h); len(s.recent) > s.window {
		// What remains of it is what a later window conditions on.
		s.recent = append(s.recent[:0:0], s.recent[1:]...)
	}
}

// next gives the window that the latest frame completes.
func (s *shot) next() (window, bool) {
	fresh := s.total - s.done
	if s.total < s.window || s.done > 0 && fresh < s.window-s.overlap {
		return window{}, false
	}
	return window{frames: s.recent, fresh: fresh}, true
}

// last gives the window for what is left at the end of the shot.
func (s *shot) last() (window, bool) {
	fresh := s.total - s.done
	switch {
	case fresh == 0:
		return window{}, false
	case s.short:
		from := len(s.recent) - min(fresh+s.overlap, len(s.recent))
		return window{frames: s.recent[from:], fresh: fresh}, true
	}
	// Shorter than a window, the shot is filled up by running back and forth.
	w := window{frames: append([]*held(nil), s.recent...), fresh: fresh}
	for i := 0; len(w.frames) < s.window; i++ {
		w.frames = append(w.frames, s.recent[mirror(i+1, len(s.recent))])
		w.filled++
	}
	return w, true
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

// blend takes the latents of w's frames. Frames that the window before had
// too, if they wait still, pass from its latents to these. It tells how many
// of the waiting frames are finished.
func (s *shot) blend(w window, latents [][]float32) (finished int) {
	n := len(w.frames) - w.filled
	old := min(n-w.fresh, len(s.waiting)-w.fresh) // waiting since the window before
	for i := range old {
		h := w.frames[n-w.fresh-old+i]
		share := float32(i+1) / float32(old+1)
		for k, v := range latents[n-w.fresh-old+i] {
			h.result[k] += share * (v - h.result[k])
		}
	}
	for i := n - w.fresh; i < n; i++ {
		w.frames[i].result = latents[i]
	}
	s.done = s.total
	return len(s.waiting) - s.overlap
}

// take removes the first n frames that wait.
func (s *shot) take(n int) []*held {
	if n <= 0 {
		return nil
	}
	taken := s.waiting[:n:n]
	s.waiting = append([]*held(nil), s.waiting[n:]...)
	return taken
}
