package face

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/lipstream/lipstream/internal/fault"
)

// Choice selects one of several faces for a Tracker to follow.
type Choice struct {
	rule string // "largest", "center", "left", "right" or "" for number
	n    int    // 1-based, from the left
}

// ParseChoice parses the setting `face`: largest (also for ""), center, left,
// right, or a number counted from the left, from 1.
func ParseChoice(s string) (Choice, error) {
	switch s {
	case "":
		return Choice{rule: "largest"}, nil
	case "largest", "center", "left", "right":
		return Choice{rule: s}, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return Choice{}, fault.Field("face", s, "is not a choice of face",
			"choose largest, center, left, right, or the number of the face, counted from 1 on the left")
	}
	return Choice{n: n}, nil
}

// candidates returns the people without those whose faces are too small to be
// used, such as a distant crowd, and without uncertain detections, unless nobody would
// remain.
func candidates(seen []*person) []*person {
	for _, bad := range []func(*person) bool{
		func(q *person) bool { return tooSmall(q.obs.points) },
		func(q *person) bool { return q.score < sureScore },
	} {
		if good := slices.DeleteFunc(slices.Clone(seen), bad); len(good) > 0 {
			seen = good
		}
	}
	return seen
}

// pick returns the person who the choice selects among those seen in a frame of w x h
// pixels, or nil.
func (c Choice) pick(seen []*person, w, h int) *person {
	seen = candidates(seen)
	if len(seen) == 0 || c.n > len(seen) {
		return nil
	}
	byX := slices.SortedStableFunc(slices.Values(seen), func(a, b *person) int {
		ax, _ := a.obs.centre()
		bx, _ := b.obs.centre()
		return cmp.Compare(ax, bx)
	})
	best := func(cost func(*person) float64) *person {
		return slices.MinFunc(byX, func(a, b *person) int { return cmp.Compare(cost(a), cost(b)) })
	}
	switch c.rule {
	case "left":
		return byX[0]
	case "right":
		return byX[len(byX)-1]
	case "center":
		return best(func(p *person) float64 {
			x, y := p.obs.centre()
			return math.Hypot(x-float64(w)/2, y-float64(h)/2)
		})
	case "":
		return byX[c.n-1]
	}
	return best(func(p *person) float64 { return -p.obs.size() })
}
