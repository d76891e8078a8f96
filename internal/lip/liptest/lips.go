package liptest

import (
	"image"
	"math"
	"testing"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

// Lips is what the mesh network sees of a mouth in one frame, in units of the distance
// between the outer eye corners.
type Lips struct {
	Gap          float64 // between the inner lips
	Upper, Lower float64 // heights of the lips
}

// Measure looks at the mouth of fc in f several times, like lipstream bench sync, because a
// single look at closed lips sometimes finds a gap of two pixels. fc comes from a tracker,
// whose own points are smoothed over time.
func Measure(t testing.TB, mesh *face.Mesh, f *frame.Frame, fc *face.Face) Lips {
	t.Helper()
	var sum [4]complex128 // points 0, 13, 14 and 17
	looks := face.Looks(face.ROIFromPoints(fc.Points))
	n := float64(len(looks))
	for _, look := range looks {
		points, _, err := mesh.Landmarks(t.Context(), f, look)
		if err != nil {
			t.Fatal(err)
		}
		for k, i := range [...]int{0, 13, 14, 17} {
			sum[k] += complex(points[i].X/n, points[i].Y/n)
		}
	}
	l, r := fc.Points[33], fc.Points[263]
	unit := math.Sqrt((l.X-r.X)*(l.X-r.X) + (l.Y-r.Y)*(l.Y-r.Y) + (l.Z-r.Z)*(l.Z-r.Z))
	apart := func(a, b int) float64 { return math.Hypot(real(sum[b]-sum[a]), imag(sum[b]-sum[a])) / unit }
	return Lips{Gap: apart(1, 2), Upper: apart(0, 1), Lower: apart(2, 3)}
}

// Difference returns the mean difference of the luma of two frames of 8 bits within r, in
// code values. Between frames of a face that is still, it is shimmer.
func Difference(a, b *frame.Frame, r image.Rectangle) float64 {
	var sum int
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			d := int(a.Planes[0][y*a.Width+x]) - int(b.Planes[0][y*b.Width+x])
			sum += max(d, -d)
		}
	}
	return float64(sum) / float64(r.Dx()*r.Dy())
}
