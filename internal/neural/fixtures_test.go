package neural

import (
	"encoding/binary"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/backend/sharedtest"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/frame/frametest"
)

// goldens is the folder with outputs of the original program. Its README describes how
// they were made.
const goldens = "../../testdata/latentsync"

var tinyFiles = Files{
	UNet:    goldens + "/models/latentsync_unet.pt",
	VAE:     goldens + "/models/vae/diffusion_pytorch_model.safetensors",
	Whisper: goldens + "/models/whisper/tiny.pt",
}

// cpu is the device of the tests.
var cpu = backend.Device{ID: "cpu", FusesAttention: true}

// TestMain closes the backends that the tests share.
func TestMain(m *testing.M) { sharedtest.Main(m) }

// long reports whether long tests run.
func long() bool { return os.Getenv(backendtest.LongVariable) == "1" }

// onEach runs a test on each backend.
func onEach(t *testing.T, test func(t *testing.T, b *backendtest.Cached)) {
	for _, name := range []string{openvino.Name, onnxruntime.Name} {
		t.Run(name, func(t *testing.T) { test(t, openBackend(t, name)) })
	}
}

// onOne runs a test of Go code that is the same for all backends: on each backend in a
// long run, otherwise on one.
func onOne(t *testing.T, test func(t *testing.T, b *backendtest.Cached)) {
	if long() {
		onEach(t, test)
		return
	}
	test(t, openBackend(t, onnxruntime.Name))
}

func openBackend(t testing.TB, name string) *backendtest.Cached {
	t.Helper()
	backendtest.SkipShort(t)
	if sharedtest.OnDevice() {
		t.Skip("runs on the CPU only")
	}
	return sharedtest.Open(t, name)
}

// networksFor returns networks without models, which are closed after the test.
func networksFor(t testing.TB, o Options) *networks {
	t.Helper()
	s := newNetworks(o)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func openPath(t testing.TB, path string) *checkpoint.File {
	t.Helper()
	f, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func openGolden(t testing.TB, name string) *checkpoint.File {
	t.Helper()
	return openPath(t, filepath.Join(goldens, name))
}

func values(t testing.TB, f *checkpoint.File, name string) []float32 {
	t.Helper()
	v := f.Tensor(name)
	if v == nil {
		t.Fatalf("%s has no %s", f.Path(), name)
	}
	return v.F32()
}

// recording returns the samples of a golden recording of 16 bits.
func recording(t testing.TB, name string) []float32 {
	t.Helper()
	wav, err := os.ReadFile(filepath.Join(goldens, "audio", name))
	if err != nil {
		t.Fatal(err)
	}
	samples := make([]float32, (len(wav)-44)/2)
	for i := range samples {
		samples[i] = float32(int16(binary.LittleEndian.Uint16(wav[44+2*i:]))) / 32768
	}
	return samples
}

// voice returns a golden recording, repeated.
func voice(t testing.TB, name string, times int) *audio.Voice {
	t.Helper()
	return spool(t, recording(t, name), times)
}

func spool(t testing.TB, samples []float32, times int) *audio.Voice {
	t.Helper()
	v, err := audio.NewVoice(t.TempDir(), audio.Needs{Mel: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	src := source(slices.Repeat(samples, times))
	if err := v.Listen(&src, "voice"); err != nil {
		t.Fatal(err)
	}
	return v
}

// source is an audio.Source of samples in memory.
type source []float32

func (s *source) Read(p []float32) (int, error) {
	n := copy(p, *s)
	if *s = (*s)[n:]; len(*s) == 0 {
		return n, io.EOF
	}
	return n, nil
}

func picture(t testing.TB, name string) *frame.RGB {
	t.Helper()
	return readPNG(t, filepath.Join(goldens, "e2e/frames", name))
}

func readPNG(t testing.TB, path string) *frame.RGB {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return frametest.FromImage(img)
}

// tiny returns the options of the golden runs.
func tiny(t testing.TB, b backend.Backend) Options {
	o := Defaults().withParity(everything)
	o.Backend, o.Device, o.Files, o.Resolution, o.Steps, o.DeepCache = b, cpu, tinyFiles, 128, 3, 0
	o.Threads = 1 // more threads are slower at these sizes
	o.RateNum, o.RateDen, o.Voice = 25, 1, voice(t, "speech_short.wav", 1)
	return o
}

// tinyOn returns the options of the golden runs on a target.
func tinyOn(t testing.TB, on sharedtest.Target) Options {
	o := tiny(t, on.Cached)
	o.Device, o.Plan.Precision = on.Device, string(on.Precision)
	return o
}

func open(t testing.TB, o Options) *Engine {
	t.Helper()
	e, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}
