package neural

import (
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/settings"
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

// quickMuseTalk is quick for MuseTalk, with TAESD, because MuseTalk's images always have 256
// pixels.
func quickMuseTalk(t testing.TB, b backend.Backend) Options {
	o := museTalkOptions(t)
	own := quick(t, b)
	o.Backend, o.Device, o.Files, o.Threads, o.Voice, o.RateNum, o.RateDen = b, own.Device, own.Files, own.Threads, own.Voice, own.RateNum, own.RateDen
	o.Files.UNet = museTalkGoldens + "/models/musetalkV15/unet.pth"
	o.Files.VAE, o.Files.Decoder = taesdFile, taesdFile
	o.Resolution, o.Plan.Frames, o.Plan.Precision = 256, 2, string(backend.F32)
	return o
}

// taesdFile is the tiny TAESD with both halves.
const taesdFile = "../../testdata/taesd/diffusion_pytorch_model.safetensors"
