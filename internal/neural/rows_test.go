package neural

import (
	"bytes"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/musetalk"
	"github.com/lipstream/lipstream/internal/network"
)

// TestRows checks that frames with faces from TAESD are the same whether it decodes the whole
// image or only the rows that layers read, and that tiles and the original's way to paste get
// whole images.
func TestRows(t *testing.T) {
	picture, fc := portrait(t)
	onEach(t, func(t *testing.T, b *backendtest.Cached) {
		o := tiny(t, b)
		o.Resolution, o.Files.Decoder = musetalk.Side, "../../testdata/taesd/taesd_decoder.safetensors"
		taesd, err := network.DetectAutoencoder(openPath(t, o.Files.Decoder))
		if err != nil {
			t.Fatal(err)
		}
		latents := randoms(11, 2*4*32*32)
		decode := func(t *testing.T, o Options, d network.Autoencoder, c crops) [][]float32 {
			encoder := network.VAE(network.PublishedVAE())
			p := newPainter(o, configs{encoder: encoder, decoder: d}, c)
			p.addTo(networksFor(t, o))
			images, err := p.decode(t.Context(), slices.Collect(slices.Chunk(latents, len(latents)/2)))
			if err != nil {
				t.Fatal(err)
			}
			return images
		}
		complete := taesd
		complete.Rows = nil
		want := decode(t, o, complete, newAligned(o))
		for _, engine := range []struct {
			recipe   recipe
			from, to int
		}{{latentSync{}, 94, 244}, {museTalk{}, 104, 256}} {
			t.Run(engine.recipe.name(), func(t *testing.T) {
				o := o
				o.Whole = true
				if got := decode(t, o, taesd, engine.recipe.crops(o)); !slices.EqualFunc(got, want, slices.Equal) {
					t.Error("the original's way to paste gets another image")
				}
				o.Whole = false
				c := engine.recipe.crops(o)
				if from, to := c.Rows(); from != engine.from || to != engine.to {
					t.Errorf("layers read rows %d to %d, want %d to %d", from, to, engine.from, engine.to)
				}
				got := decode(t, o, taesd, c)
				for i, image := range got {
					compareRows(t, image, want[i], engine.from, engine.to)
					it := lip.Item{Frame: picture, Face: fc}
					m := c.Matrix(it)
					paste := func(image []float32) *frame.Frame {
						f := frame.New(picture.Format)
						copy(f.Data, picture.Data)
						c.Layer(it, m, c.Crop(picture, m), image).Paste(f)
						return f
					}
					one, other := paste(image), paste(want[i])
					if bytes.Equal(one.Data, picture.Data) {
						t.Error("the image is not pasted")
					}
					// OpenVINO's convolutions round differently at other sizes.
					if most := levels(one.Data, other.Data); most > 1 || most > 0 && b.Name() == onnxruntime.Name {
						t.Errorf("the frames differ by %d levels", most)
					}
				}
				o.Plan.Tile = 160
				for _, image := range decode(t, o, taesd, c) {
					if above := image[:o.Resolution]; slices.Max(above) == 0 && slices.Min(above) == 0 {
						t.Error("tiles lack rows")
					}
				}
			})
		}
	})
}

// compareRows checks that the rows of an image are those wanted, and that the others are 0.
func compareRows(t *testing.T, got, want []float32, from, to int) {
	t.Helper()
	want = slices.Clone(want)
	for i := range want {
		if y := i / musetalk.Side % musetalk.Side; y < from || y >= to {
			want[i] = 0
		}
	}
	if d := golden.MaxAbs(got, want); !(d <= 1e-5) {
		t.Errorf("the rows that layers read differ by %g from those of the whole image", d)
	}
}

// levels returns the largest difference of bytes.
func levels(a, b []byte) (most int) {
	for i, v := range a {
		most = max(most, int(v)-int(b[i]), int(b[i])-int(v))
	}
	return most
}
