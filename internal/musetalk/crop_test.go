package musetalk

import (
	"testing"

	"github.com/lipstream/lipstream/internal/face"
)

// portraitFace is the face of the demo's picture as the mesh network finds it.
func portraitFace(t testing.TB) *face.Face {
	t.Helper()
	var points [][3]float64
	readJSON(t, "../preview/testdata/portrait_points.json", &points)
	f := &face.Face{Score: 1}
	for _, p := range points {
		f.Points = append(f.Points, face.Point{X: p[0], Y: p[1], Z: p[2]})
	}
	return f
}
