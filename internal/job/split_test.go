package job

import (
	"fmt"
	"testing"
)

// TestSplitter: parts cover all frames once, and each begins on the windows' grid.
func TestSplitter(t *testing.T) {
	for _, tt := range []struct {
		name  string
		total int64
		cuts  []int64
		quiet []int64
		want  string
	}{
		{"too short", 199, nil, nil, "[]"},
		{"nowhere better", 250, nil, nil, "[{0 0 100 138} {72 100 -1 -1}]"},
		{"at a cut", 250, []int64{30, 120, 180}, []int64{100}, "[{0 0 120 158} {120 120 -1 -1}]"},
		{"in silence", 300, []int64{30}, []int64{130, 60}, "[{0 0 130 168} {102 130 -1 -1}]"},
		{"the end is near", 210, nil, nil, "[{0 0 100 138} {72 100 -1 -1}]"},
	} {
		s := splitter{total: tt.total, step: 100, cuts: tt.cuts, stride: 12, window: 16, overlap: 4, quiet: func(i int64) bool {
			for _, q := range tt.quiet {
				if q == i {
					return true
				}
			}
			return false
		}}
		parts := s.parts()
		if got := fmt.Sprint(parts); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	s := splitter{total: 250, step: 100, stride: 1, ahead: 25, quiet: func(int64) bool { return false }}
	if got, want := fmt.Sprint(s.parts()), "[{0 0 100 131} {76 100 -1 -1}]"; got != want {
		t.Errorf("an engine that looks ahead: %s, want %s", got, want)
	}
	// Any video: without gaps, in order, with room before and behind.
	for total := int64(200); total < 3000; total += 37 {
		s := splitter{total: total, step: 100, cuts: []int64{7, 95, 333, 334, 950, 2000}, stride: 12, window: 16, overlap: 4, quiet: func(i int64) bool { return i%71 == 0 }}
		at := int64(0)
		parts := s.parts()
		for i, p := range parts {
			if p.From != at || p.Lead > p.From || p.Lead < 0 {
				t.Fatalf("%d frames: part %d is %+v after %d", total, i, p, at)
			}
			if last := i == len(parts)-1; last != (p.To < 0) {
				t.Fatalf("%d frames: part %d is %+v", total, i, p)
			}
			if p.Tail >= 0 && p.Tail < p.To+32 {
				t.Fatalf("%d frames: part %d has no room: %+v", total, i, p)
			}
			at = p.To
		}
	}
}
