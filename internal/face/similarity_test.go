package face

import "testing"

// TestFitSimilarity turns, enlarges and shifts three points, and has no answer for points that
// coincide.
func TestFitSimilarity(t *testing.T) {
	from := [][2]float64{{0, 0}, {2, 0}, {0, 2}}
	m, ok := FitSimilarity(from, [][2]float64{{5, 1}, {5, 5}, {1, 1}}) // by 90 degrees, twice as large
	if x, y := m.Apply(1, 1); !ok || x != 3 || y != 3 {
		t.Errorf("%+v, %v", m, ok)
	}
	if m, ok := FitSimilarity([][2]float64{{1, 2}, {1, 2}, {1, 2}}, from); ok {
		t.Errorf("points that coincide: %+v", m)
	}
}
