package neural

import (
	"fmt"
	"math"
	"testing"
)

// TestShotSchedule runs the schedule of shots of 1 to 70 frames without networks. The
// latents of a window are its number.
func TestShotSchedule(t *testing.T) {
	for _, size := range []int{16, 8, 3, 1} {
		for overlap := 0; overlap <= size/2; overlap++ {
			for _, short := range []bool{false, true} {
				t.Run(fmt.Sprintf("window %d overlap %d short %v", size, overlap, short), func(t *testing.T) {
					r := &shotRun{t: t, shot: shot{keep: size, short: short}, size: size, overlap: overlap}
					for n := 1; n <= 70; n++ {
						r.run(n)
					}
				})
			}
		}
	}
}

type shotRun struct {
	t    *testing.T
	shot shot

	size, overlap int

	n     int
	given int       // frames given out
	runs  int       // windows
	want  []float64 // latents of each frame, by the rule
}

// run schedules a shot of n frames as the engine does.
func (r *shotRun) run(n int) {
	r.n, r.given, r.runs, r.want = n, 0, 0, make([]float64, n)
	s := &r.shot
	fresh := make([]int, 0, n) // of each window
	for i := range n {
		s.add(&held{index: int64(i)})
		for _, w := range s.windows(r.size, r.overlap, false) {
			r.window(w, i+1)
			fresh = append(fresh, w.fresh)
		}
		if len(s.waiting) > r.size-1 {
			r.t.Fatalf("%d frames: %d wait after frame %d", n, len(s.waiting), i)
		}
		if len(s.covered) > r.size {
			r.t.Fatalf("%d frames: conditions of %d frames are kept", n, len(s.covered))
		}
	}
	for _, w := range s.windows(r.size, r.overlap, true) {
		r.window(w, n)
		fresh = append(fresh, w.fresh)
	}
	r.take(len(s.waiting))
	s.reset()
	if r.given != n {
		r.t.Fatalf("%d of %d frames are finished", r.given, n)
	}
	sum := 0
	for i, f := range fresh {
		sum += f
		if r.overlap == 0 && i < len(fresh)-1 && f != r.size {
			r.t.Fatalf("%d frames in windows of %v new ones", n, fresh)
		}
	}
	step := r.size - r.overlap
	least := 1 + max(0, n-r.size+step-1)/step
	if sum != n || len(fresh) != least {
		r.t.Fatalf("%d frames in windows of %v new ones, want %d windows", n, fresh, least)
	}
}

// window checks w and returns its latents: the number of the window, from 1.
func (r *shotRun) window(w window, total int) {
	t, s := r.t, &r.shot
	r.runs++
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%d frames, window %d of %v: %s", r.n, r.runs, indices(w.frames), fmt.Sprintf(format, args...))
	}
	full := len(w.frames) == r.size
	switch {
	case !full && !s.short:
		fail("it is not full")
	case !full && total < r.n:
		fail("a window within the shot is not full")
	case s.short && w.filled > 0:
		fail("it is filled up")
	case w.filled > 0 && r.n >= r.size:
		fail("it is filled up though the shot is a window long")
	case s.short && r.overlap == 0 && len(w.frames) != min(r.size, w.fresh):
		fail("not the original's chunk")
	}
	real := len(w.frames) - w.filled
	for i, h := range w.frames[:real] {
		if want := total - real + i; h.index != int64(want) {
			fail("place %d should be frame %d", i, want)
		}
		if (h.result == nil) != (i >= real-w.fresh) {
			fail("%d frames are said to be new, frame %d has latents: %v", w.fresh, h.index, h.result != nil)
		}
	}
	for i, h := range w.frames[real:] { // ..., n-2, n-3, ..., 1, 0, 1, ...
		period := max(1, 2*real-2)
		k := (real + i) % period
		if k >= real {
			k = period - k
		}
		if h.index != int64(k) {
			fail("place %d should be the mirrored frame %d", real+i, k)
		}
	}
	// The crossfade goes from the window before to this one in equal steps.
	wait := len(s.waiting) - w.fresh
	for i := range real {
		at := total - real + i
		switch k := i - (real - w.fresh - wait); { // place in the passage, from 0
		case i >= real-w.fresh:
			r.want[at] = float64(r.runs)
		case k >= 0:
			share := float64(k+1) / float64(wait+1)
			r.want[at] = (1-share)*r.want[at] + share*float64(r.runs)
		}
	}
	latents := make([][]float32, len(w.frames))
	for i := range latents {
		latents[i] = []float32{float32(r.runs)}
		if i >= real {
			latents[i][0] = float32(math.NaN()) // of no use
		}
	}
	if wait > r.overlap {
		fail("%d frames wait from before, the overlap is %d", wait, r.overlap)
	}
	r.take(s.blend(w, latents, r.overlap))
}

// take checks that finished frames are in order and have the right latents.
func (r *shotRun) take(n int) {
	for _, h := range r.shot.take(n) {
		if h.index != int64(r.given) {
			r.t.Fatalf("%d frames: frame %d is finished as number %d", r.n, h.index, r.given)
		}
		if len(h.result) != 1 || math.Abs(float64(h.result[0])-r.want[h.index]) > 1e-5 {
			r.t.Fatalf("%d frames: frame %d has latents %v, want %v", r.n, h.index, h.result, r.want[h.index])
		}
		// Finished frames may be overwritten, but conditions stay while covered
		// holds them.
		h.item.Frame, h.crop = nil, nil
		r.given++
	}
}

func indices(frames []*held) []int64 {
	out := make([]int64, len(frames))
	for i, h := range frames {
		out[i] = h.index
	}
	return out
}

// TestCrossfade checks the weights of a crossfade in numbers.
func TestCrossfade(t *testing.T) {
	s := shot{keep: 8}
	var got []float32
	window := func(w window, value float32) {
		latents := make([][]float32, len(w.frames))
		for i := range latents {
			latents[i] = []float32{value}
		}
		for _, h := range s.take(s.blend(w, latents, 3)) {
			got = append(got, h.result[0])
		}
	}
	value := float32(0)
	for i := range 13 {
		s.add(&held{index: int64(i)})
		for _, w := range s.windows(8, 3, false) {
			window(w, value)
			value = 4
		}
	}
	for _, h := range s.take(len(s.waiting)) {
		got = append(got, h.result[0])
	}
	want := []float32{0, 0, 0, 0, 0, 1, 2, 3, 4, 4, 4, 4, 4}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestMirror(t *testing.T) {
	for n, want := range map[int]string{
		1: "[0 0 0 0 0 0 0]", 2: "[0 1 0 1 0 1 0]", 3: "[1 0 1 2 1 0 1]", 5: "[3 2 1 0 1 2 3]",
	} {
		var got []int
		for i := 1; i <= 7; i++ {
			got = append(got, mirror(i, n))
		}
		if fmt.Sprint(got) != want {
			t.Errorf("after %d frames: %v, want %s", n, got, want)
		}
	}
}
