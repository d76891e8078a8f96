package musetalk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/face/facetest"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/frame/frametest"
	"github.com/lipstream/lipstream/internal/lip"
)

var formats = []frame.Format{
	{ShiftX: 1, ShiftY: 1, Depth: 8, Matrix: frame.BT709},
	{ShiftX: 1, Depth: 10, Matrix: frame.BT709},
}

// scene returns a frame of w×h pixels in which the portrait lies as s maps it, with its face.
func scene(t testing.TB, format frame.Format, w, h int, s frame.Affine) lip.Item {
	t.Helper()
	inv, _ := s.Invert()
	picture := frame.NewRGB(w, h)
	portraitRGB(t).Warp(picture, inv, frame.Replicate, 0)
	format.Width, format.Height = w, h
	f := frame.New(format)
	frametest.Fill(f, picture)
	return lip.Item{Frame: f, Face: &face.Face{Points: mapped(facetest.Portrait(t, 1).Points, s)}}
}

// sample returns a sample of a plane.
func sample(f *frame.Frame, plane, x, y int) int {
	w, _ := f.PlaneSize(plane)
	if f.SampleBytes() == 1 {
		return int(f.Planes[plane][y*w+x])
	}
	return int(binary.LittleEndian.Uint16(f.Planes[plane][2*(y*w+x):]))
}

func copyOf(f *frame.Frame) *frame.Frame {
	g := frame.New(f.Format)
	copy(g.Data, f.Data)
	return g
}

// covered reports for a luma pixel whether it can see the mask, which has the size of the patch.
func covered(it lip.Item, m frame.Affine) func(x, y int) bool {
	n := patchSide(m)
	k := float64(n) / Side
	patch := frame.Affine{A: m.A * k, B: m.B * k, C: (m.C+0.5)*k - 0.5, D: m.D * k, E: m.E * k, F: (m.F+0.5)*k - 0.5}
	mask := faceMask(mapped(it.Face.Points, patch), n)
	return func(x, y int) bool {
		u, v := patch.Apply(float64(x), float64(y))
		for k := range 4 {
			i, j := int(math.Floor(u))+k%2, int(math.Floor(v))+k/2
			if i >= 0 && j >= 0 && i < n && j < n && mask[j*n+i] > 0 {
				return true
			}
		}
		return false
	}
}

// checkChanges fails the test if a sample changed that sees only pixels where allowed is false. A
// sample of chroma sees the luma pixels of its column and, if columns are subsampled, of both
// neighbours. It returns the part of the allowed luma that changed.
func checkChanges(t *testing.T, before, after *frame.Frame, allowed func(x, y int) bool) float64 {
	t.Helper()
	wrong, changed, all := 0, 0, 0
	for plane := range 3 {
		w, h := before.PlaneSize(plane)
		sx, sy := before.ShiftX, before.ShiftY
		if plane == 0 {
			sx, sy = 0, 0
		}
		for y := range h {
			for x := range w {
				differs := sample(before, plane, x, y) != sample(after, plane, x, y)
				if plane == 0 && allowed(x, y) {
					all++
					if differs {
						changed++
					}
				}
				if !differs {
					continue
				}
				sees := false
				for dy := range 1 + sy {
					for dx := -sx; dx <= sx; dx++ {
						sees = sees || allowed(x<<sx+dx, y<<sy+dy)
					}
				}
				if !sees {
					wrong++
				}
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d samples outside the mask changed", wrong)
	}
	return float64(changed) / float64(max(all, 1))
}

// places are faces in the middle and at the edges of a frame, turned, large, and small.
var places = map[string]frame.Affine{
	"middle":       similarity(1, 0, -40, -20),
	"left edge":    similarity(1, 0, -260, -20),
	"right, lower": similarity(1.2, 0.3, 150, -30),
	"top edge":     similarity(1, 0, 0, -240),
	"large":        similarity(2.6, -0.2, -500, -400),
	"small":        similarity(0.2, -0.4, 150, 150),
}

func TestPasteChangesMaskOnly(t *testing.T) {
	white := make([]float32, 3*Side*Side)
	for i := range white {
		white[i] = 1
	}
	for _, format := range formats {
		for name, place := range places {
			t.Run(format.PixFmt()+" "+name, func(t *testing.T) {
				it := scene(t, format, 401, 379, place) // odd, so that chroma extends beyond
				after := copyOf(it.Frame)
				var c Crops
				m := c.Matrix(it)
				c.Layer(it, m, nil, white).Paste(after)
				if part := checkChanges(t, it.Frame, after, covered(it, m)); part < 0.8 {
					t.Errorf("only %g of the mask changed", part)
				}
				tip := it.Face.Points[4]
				checkChanges(t, it.Frame, after, func(x, y int) bool { // eyes and nose stay
					_, v := m.Apply(float64(x), float64(y))
					u0, v0 := m.Apply(tip.X, tip.Y)
					u, _ := m.Apply(float64(x), float64(y))
					return v > Side/2-9-float64(Side/patchSide(m)) && math.Hypot(u-u0, v-v0) > 4
				})
			})
		}
	}
}

func TestPasteOriginal(t *testing.T) {
	black := make([]float32, 3*Side*Side)
	for i := range black {
		black[i] = -1
	}
	c := Crops{Original: true}
	for _, format := range formats {
		for _, name := range []string{"middle", "right, lower", "top edge", "small"} {
			t.Run(format.PixFmt()+" "+name, func(t *testing.T) {
				it := scene(t, format, 401, 379, places[name])
				after := copyOf(it.Frame)
				m := c.Matrix(it)
				c.Layer(it, m, nil, black).Paste(after)
				box := matrixBox(m)
				top := (box.Min.Y+box.Max.Y)>>1 - originalBlur(originalSquare(box).Dx())
				part := checkChanges(t, it.Frame, after, func(x, y int) bool {
					return x >= box.Min.X && x < box.Max.X && y >= top && y < box.Max.Y
				})
				if part < 0.4 {
					t.Errorf("only %g of the lower half of the box changed", part)
				}
			})
		}
	}
}

// TestPasteRows checks that layers do not read an image outside of Crops.Rows, however small
// the face is.
func TestPasteRows(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	image := make([]float32, 3*Side*Side)
	for i := range image {
		image[i] = random.Float32()*2 - 1
	}
	var c Crops
	from, to := c.Rows()
	part := slices.Clone(image)
	for i := range part {
		if y := i / Side % Side; y < from || y >= to {
			part[i] = 1e6
		}
	}
	format := formats[1]
	format.Width, format.Height = 180, 180
	for n := 8; n <= Side; n += 1 + n/50 {
		size := (float64(n) + 0.1) / 1.5 / Side // of the crop's pixels in the frame
		it := lip.Item{Frame: frame.New(format), Face: &face.Face{Points: mapped(facetest.Portrait(t, 1).Points, similarity(size, 0, 90-256*size, 90-256*size))}}
		m := c.Matrix(it)
		inv, _ := m.Invert()
		k := size / max(math.Hypot(inv.A, inv.D), math.Hypot(inv.B, inv.E))
		m = frame.Affine{A: m.A / k, B: m.B / k, C: m.C / k, D: m.D / k, E: m.E / k, F: m.F / k}
		if patchSide(m) != n {
			t.Fatalf("the image is reduced to %d pixels, want %d", patchSide(m), n)
		}
		want, got := copyOf(it.Frame), copyOf(it.Frame)
		c.Layer(it, m, nil, image).Paste(want)
		c.Layer(it, m, nil, part).Paste(got)
		if !bytes.Equal(got.Data, want.Data) {
			t.Errorf("an image reduced to %d pixels is read outside of rows %d to %d", n, from, to)
		}
		if bytes.Equal(got.Data, it.Frame.Data) {
			t.Errorf("an image reduced to %d pixels is not pasted", n)
		}
	}
	c.Original = true
	if from, to := c.Rows(); from != 0 || to != Side {
		t.Errorf("the original's layers read rows %d to %d", from, to)
	}
}

func TestPasteNothing(t *testing.T) {
	it := scene(t, formats[0], 64, 64, similarity(0.2, 0, 300, 0)) // beyond the frame
	white := make([]float32, 3*Side*Side)
	for _, original := range []bool{false, true} {
		c := Crops{Original: original}
		after := copyOf(it.Frame)
		c.Layer(it, c.Matrix(it), nil, white).Paste(after)
		c.Layer(it, frame.Affine{}, nil, white).Paste(after)
		if !bytes.Equal(after.Data, it.Frame.Data) {
			t.Errorf("original %v: a face beyond the frame changed it", original)
		}
	}
}

// TestPasteOfCrop checks that a crop, pasted where it was taken, hardly changes the frame, wherever
// the face is.
func TestPasteOfCrop(t *testing.T) {
	for _, original := range []bool{false, true} {
		for name, place := range places {
			t.Run(fmt.Sprintf("original %v, %s", original, name), func(t *testing.T) {
				it := scene(t, formats[0], 401, 379, place)
				c := Crops{Original: original}
				m := c.Matrix(it)
				if original && !matrixBox(m).In(image.Rect(0, 0, 401, 379)) {
					t.Skip("the original distorts a face that extends beyond the frame")
				}
				pixels := make([]float32, 3*Side*Side)
				c.Pixels(pixels, c.Crop(it.Frame, m), false)
				after := copyOf(it.Frame)
				c.Layer(it, m, nil, pixels).Paste(after)
				var sum, n float64
				for i, v := range it.Frame.Planes[0] {
					if d := float64(v) - float64(after.Planes[0][i]); d != 0 {
						sum, n = sum+d*d, n+1
					}
				}
				ratio := 10 * math.Log10(255*255*n/sum)
				t.Logf("%g pixels changed, %.1f dB", n, ratio)
				if !(ratio > 33) {
					t.Errorf("the pixels that changed differ by %.1f dB", ratio)
				}
			})
		}
	}
}

func BenchmarkCrops(b *testing.B) {
	for name, place := range places {
		it := scene(b, formats[0], 640, 640, place)
		var c Crops
		m := c.Matrix(it)
		image := make([]float32, 3*Side*Side)
		b.Run("crop "+name, func(b *testing.B) {
			for b.Loop() {
				c.Crop(it.Frame, m)
			}
		})
		b.Run("paste "+name, func(b *testing.B) {
			for b.Loop() {
				c.Layer(it, m, nil, image).Paste(it.Frame)
			}
		})
	}
}
