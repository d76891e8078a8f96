package preview

import (
	"testing"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/face/facetest"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/frame/frametest"
	"github.com/lipstream/lipstream/internal/lip"
)

// enlarged is the portrait with its face, enlarged by a factor.
func enlarged(t testing.TB, format frame.Format, by float64) (*frame.Frame, *face.Face) {
	t.Helper()
	f, _ := facetest.Frame(t, format)
	rgb := frame.NewRGB(int(float64(f.Width)*by), int(float64(f.Height)*by))
	shift := (1/by - 1) / 2
	f.Warp(rgb, frame.Affine{A: 1 / by, C: shift, E: 1 / by, F: shift}, frame.Replicate, 0)
	format.Width, format.Height = rgb.W, rgb.H
	large := frame.New(format)
	frametest.Fill(large, rgb)
	return large, facetest.Portrait(t, 1/by)
}

// BenchmarkLargeFace draws mouths on a face that is about 460 pixels wide.
func BenchmarkLargeFace(b *testing.B) {
	f, fc := enlarged(b, yuv420, 3.4)
	work := frame.New(f.Format)
	e := New(25, 0, func(i int64) audio.Mouth {
		return audio.Mouth{Open: float32(i%10) / 10, Round: float32(i%7) / 14, Speech: 1}
	})
	for i := int64(0); b.Loop(); i++ {
		copy(work.Data, f.Data)
		work.Index = i
		if _, err := e.Push(b.Context(), lip.Item{Frame: work, Face: fc, Cut: i == 0}); err != nil {
			b.Fatal(err)
		}
	}
}
