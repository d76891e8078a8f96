package neural

import (
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/lip/liptest"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/settings"
	"github.com/lipstream/lipstream/internal/tensor"
)

// museTalkGoldens is the folder with outputs of the original MuseTalk.
const museTalkGoldens = "../../testdata/musetalk"

// museTalkOptions returns MuseTalk's own options.
func museTalkOptions(t testing.TB) Options {
	t.Helper()
	o, err := newOptions(museTalk{}, settings.Settings{}.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// quickMuseTalk is quick for MuseTalk. Because MuseTalk's images always have 256 pixels, its
// networks are the smallest: a random UNet and TAESD.
func quickMuseTalk(t testing.TB, b backend.Backend) Options {
	o := museTalkOptions(t)
	own := quick(t, b)
	o.Backend, o.Device, o.Files, o.Threads, o.Voice, o.RateNum, o.RateDen = b, own.Device, own.Files, own.Threads, own.Voice, own.RateNum, own.RateDen
	o.Files.UNet = randomMuseTalk(t)
	o.Files.VAE, o.Files.Decoder = taesdFile, taesdFile
	o.Resolution, o.Plan.Frames, o.Plan.Precision = 256, 2, string(backend.F32)
	return o
}

// randomMuseTalk writes a UNet of two levels with random weights.
func randomMuseTalk(t testing.TB) string {
	t.Helper()
	wants := network.UNetWants(network.UNetConfig{Channels: []int{32, 32}, Layers: 1, In: 8, Out: 4, AudioDim: 64, Heads: 8})
	random := rand.New(rand.NewPCG(5, 6))
	specs := make([]checkpoint.Spec, len(wants))
	for i, w := range wants {
		specs[i] = checkpoint.Spec{Name: w.Name, DType: tensor.F32, Shape: w.Shape}
	}
	return save(t, specs, func(i int, w io.Writer) error {
		shape, shift, scale := specs[i].Shape, 0.0, 0.1
		if len(shape) > 1 {
			scale = 1 / math.Sqrt(float64(tensor.Volume(shape[1:])))
		} else if strings.HasSuffix(specs[i].Name, "weight") {
			shift = 1
		}
		values := make([]float32, tensor.Volume(shape))
		for k := range values {
			values[k] = float32(shift + scale*random.NormFloat64())
		}
		return binary.Write(w, binary.LittleEndian, values)
	})
}

// taesdFile is the tiny TAESD with both halves.
const taesdFile = "../../testdata/taesd/diffusion_pytorch_model.safetensors"

// TestMuseTalkConformance checks that MuseTalk changes only the lower half of the face. Its
// mask goes beyond LatentSync's at the chin.
func TestMuseTalkConformance(t *testing.T) {
	picture, fc := portrait(t)
	onOne(t, func(t *testing.T, b *backendtest.Cached) {
		liptest.Run(t, liptest.Subject{Picture: picture, Face: fc, Inside: lowerFace(fc), Open: func(t *testing.T) lip.Engine {
			return open(t, quickMuseTalk(t, b))
		}})
	})
}

// lowerFace returns whether a pixel lies below the bridge of the nose, and in the oval of an
// upright face or near it: nearer than a tenth of the face's height below the chin, and than
// a fiftieth elsewhere.
func lowerFace(f *face.Face) func(x, y int) bool {
	var oval []face.Point
	for _, k := range face.FaceOval {
		oval = append(oval, f.Points[k])
	}
	brow, chin := f.Points[10].Y, f.Points[152].Y
	height := chin - brow
	bridge := (f.Points[195].Y + f.Points[5].Y) / 2
	return func(px, py int) bool {
		x, y := float64(px), float64(py)
		if y < bridge-0.05*height {
			return false
		}
		// The number of edges to the right of the point is odd inside.
		in, near := false, math.Inf(1)
		for i, a := range oval {
			b := oval[(i+1)%len(oval)]
			if (a.Y > y) != (b.Y > y) && x < a.X+(y-a.Y)*(b.X-a.X)/(b.Y-a.Y) {
				in = !in
			}
			along := ((x-a.X)*(b.X-a.X) + (y-a.Y)*(b.Y-a.Y)) / max((b.X-a.X)*(b.X-a.X)+(b.Y-a.Y)*(b.Y-a.Y), 1e-9)
			along = min(max(along, 0), 1)
			near = min(near, math.Hypot(x-a.X-along*(b.X-a.X), y-a.Y-along*(b.Y-a.Y)))
		}
		reach := 0.02
		if y > chin-0.2*height {
			reach = 0.1
		}
		return in || near <= reach*height+2 // a sample of chroma colours two pixels
	}
}
