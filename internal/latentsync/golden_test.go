package latentsync

import (
	"encoding/binary"
	"fmt"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
)

// goldens are outputs of the original program; the README there tells how
// they were made.
const goldens = "../../testdata/latentsync"

var tinyFiles = Files{
	UNet:    goldens + "/models/latentsync_unet.pt",
	VAE:     goldens + "/models/vae/diffusion_pytorch_model.safetensors",
	Whisper: goldens + "/models/whisper/tiny.pt",
}

func onEach(t *testing.T, test func(t *testing.T, b backend.Backend)) {
	t.Run("openvino", func(t *testing.T) {
		b, err := openvino.Open(t.Context(), backendtest.Library(t, openvino.Name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		test(t, b)
	})
	t.Run("onnxruntime", func(t *testing.T) {
		b, err := onnxruntime.Open(t.Context(), backendtest.Library(t, onnxruntime.Name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		test(t, b)
	})
}

func openGolden(t testing.TB, name string) *checkpoint.File {
	t.Helper()
	f, err := checkpoint.Open(filepath.Join(goldens, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func values(t testing.TB, f *checkpoint.File, name string) []float32 {
	t.Helper()
	v := f.Tensor(name)
	if v == nil {
		t.Fatalf("%s has no %s", f.Path(), name)
	}
	return v.F32()
}

// voice reads a golden 16-bit recording.
func voice(t testing.TB, name string, times int) *audio.Spool {
	t.Helper()
	wav, err := os.ReadFile(filepath.Join(goldens, "audio", name))
	if err != nil {
		t.Fatal(err)
	}
	s, err := audio.NewSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	samples := make([]float32, (len(wav)-44)/2)
	for i := range samples {
		samples[i] = float32(int16(binary.LittleEndian.Uint16(wav[44+2*i:]))) / 32768
	}
	for range times {
		if err := s.Write(samples); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Finish(); err != nil {
		t.Fatal(err)
	}
	return s
}

func picture(t testing.TB, name string) *frame.RGB {
	t.Helper()
	f, err := os.Open(filepath.Join(goldens, "e2e/frames", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return frame.FromImage(img)
}

// tiny are the options of the golden runs.
func tiny(t testing.TB, b backend.Backend) Options {
	o := Defaults().Parity()
	o.Backend, o.Files, o.Resolution, o.Steps, o.DeepCache = b, tinyFiles, 128, 3, 0
	o.RateNum, o.RateDen, o.Voice = 25, 1, voice(t, "speech_short.wav", 1)
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

// TestEndToEndGolden runs the whole of the original's pipeline on its own
// frames: alignment, Whisper, VAE, denoising, composite, restore.
//
// Each run is made twice. Fed with the conditions that the original's UNet
// got, latents and generated faces must agree as golden/README suggests: 1e-3
// and 2e-3, of ranges of 15 and 8. From the frames on, frames must agree to
// one level of 255 on 99.9 % of the values: a crop that differs by one level in
// a single pixel, truncation being what it is, moves the latents of random
// networks by more than the first tolerance.
func TestEndToEndGolden(t *testing.T) {
	runs := []struct {
		name     string
		set      func(*Options)
		faces    []int
		frames   []int
		captured string // name pattern of the last latents
		input    string // name pattern of the UNet's first input, all frames
	}{
		{"r128_g15_mean", func(*Options) {}, []int{0, 5, 15, 16, 23}, seq(24), "chunk%d.latents_step2", "chunk%d.unet_input_step0_last_item"},
		{"r128_g10_mean", func(o *Options) { o.Guidance = 1 }, []int{0, 16}, []int{0, 16}, "", ""},
		{"r128_g15_sample", func(o *Options) { o.Sample = true }, []int{0, 5, 15, 16, 23}, []int{0, 5, 15, 16, 23}, "chunk%d.latents_step2", "chunk%d.unet_input_step0_last_item"},
		{"r128_g15_mean_deepcache", func(o *Options) { o.Steps, o.DeepCache = 6, 3 }, []int{0, 16}, []int{0, 16}, "chunk%d.latents_step5", ""},
		{"r256_g15_mean", func(o *Options) { o.Resolution = 256 }, []int{0, 16}, []int{0, 5, 15, 16, 23}, "chunk%d.latents_last", ""},
	}
	onEach(t, func(t *testing.T, b backend.Backend) {
		for _, r := range runs {
			t.Run(r.name, func(t *testing.T) {
				o := tiny(t, b)
				o.Sample = false
				r.set(&o)
				g := goldenRun{t: t, file: openGolden(t, "e2e/"+r.name+".safetensors"), name: r.name}
				if r.input != "" {
					g.play(o, r.input)
					g.compareFaces(r.faces)
					g.compareLatents(r.captured)
				}
				g.play(o, "")
				g.compareFrames(r.frames)
			})
		}
	})
}

func seq(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

type goldenRun struct {
	t       *testing.T
	file    *checkpoint.File
	name    string
	latents [][]float32 // of each frame
	faces   [][]float32 // composited, of each frame
	frames  []*frame.RGB
}

// play is the original's order of things, with the engine's parts. input, if
// given, names the UNet inputs that replace the latents of the pictures.
func (g *goldenRun) play(o Options, input string) {
	t := g.t
	g.latents, g.faces, g.frames = nil, nil, nil
	points := values(t, openGolden(t, "e2e/landmarks.safetensors"), "landmarks106_float")
	o.Anchors = func(it lip.Item) face.Anchors {
		p := make([]face.Point, 106)
		for i := range p {
			at := (source(it.Frame.Index)*106 + i) * 2
			p[i] = face.Point{X: float64(points[at]), Y: float64(points[at+1])}
		}
		return face.AlignPoints106(p)
	}
	e := open(t, o)
	e.denoiser.noise = append([]float32(nil), values(t, g.file, "initial_latents")...)
	e.painter.noise = func(dst []float32, index int64, which int) {
		chunk, name := index/16, [2]string{"masked", "ref"}[which]
		v := values(t, g.file, fmt.Sprintf("chunk%d.vae_noise_%s", chunk, name))
		copy(dst, v[int(index%16)*len(dst):])
	}
	var all []*held
	for i := range int64(24) {
		it := lip.Item{Frame: &frame.Frame{Index: i}}
		h := &held{index: i, matrix: e.painter.matrix(aligned(it, i))}
		in := picture(t, fmt.Sprintf("in_%02d.png", source(i)))
		var err error
		if h.crop, h.latents, err = e.painter.see(t.Context(), in, i, h.matrix); err != nil {
			t.Fatal(err)
		}
		if h.tokens, err = e.features.frame(t.Context(), i, 25, 1); err != nil {
			t.Fatal(err)
		}
		all = append(all, h)
		g.frames = append(g.frames, in)
	}
	for number, chunk := range [][]*held{all[:16], all[16:]} {
		if input != "" {
			feed(chunk, values(t, g.file, fmt.Sprintf(input, number)))
		}
		conditions := make([]condition, len(chunk))
		for i, h := range chunk {
			conditions[i] = h.condition
		}
		latents, err := e.denoiser.window(t.Context(), chunk[0].index, e.painter.latent, conditions)
		if err != nil {
			t.Fatal(err)
		}
		for i, h := range chunk {
			decoded, err := e.painter.decode(t.Context(), latents[i])
			if err != nil {
				t.Fatal(err)
			}
			g.latents = append(g.latents, latents[i])
			g.faces = append(g.faces, e.painter.composite(h.crop, decoded))
			e.painter.aligner.Restore(g.frames[h.index], e.painter.aligner.Resize(g.faces[h.index]), h.matrix)
		}
	}
}

// feed takes the frames' latents from a UNet input, (1, 13, f, h, w).
func feed(chunk []*held, x []float32) {
	n := len(x) / (13 * len(chunk))
	for i, h := range chunk {
		h.latents = nil
		for c := 5; c < 13; c++ {
			at := (c*len(chunk) + i) * n
			h.latents = append(h.latents, x[at:at+n]...)
		}
	}
}

// source is the input frame of an output frame: the original aligns each input
// once and then goes back and forth, so that the state of the alignment does
// not run on.
func source(i int64) int {
	if i < 20 {
		return int(i)
	}
	return int(39 - i)
}

// aligned gives frame i the index of the input that it repeats.
func aligned(it lip.Item, i int64) lip.Item { it.Frame.Index = i; return it }

func (g *goldenRun) compareFaces(indices []int) {
	want := values(g.t, g.file, "synced_faces")
	var most float64
	for k, i := range indices {
		n := len(g.faces[i])
		mask := face.Mask(int(math.Sqrt(float64(n / 3))))
		for j, v := range g.faces[i] {
			if mask[j%len(mask)] == 0 { // generated; the rest is the crop's own
				most = max(most, math.Abs(float64(v)-float64(want[k*n+j])))
			}
		}
	}
	g.t.Logf("faces: max difference %.2g", most)
	if !(most <= 2e-3) {
		g.t.Errorf("faces differ by %g", most)
	}
}

func (g *goldenRun) compareLatents(pattern string) {
	if pattern == "" {
		return
	}
	var most float64
	for chunk, frames := range [][]int{{0, 16}, {16, 24}} {
		want := values(g.t, g.file, fmt.Sprintf(pattern, chunk)) // (1, 4, f, h, w)
		f := frames[1] - frames[0]
		n := len(want) / (4 * f)
		for i := range f {
			for c := range 4 {
				at := (c*f + i) * n
				most = max(most, maxDiff(g.latents[frames[0]+i][c*n:(c+1)*n], want[at:at+n]))
			}
		}
	}
	g.t.Logf("latents: max difference %.2g", most)
	if !(most <= 1e-3) {
		g.t.Errorf("latents differ by %g", most)
	}
}

func (g *goldenRun) compareFrames(indices []int) {
	off, all, most := 0, 0, 0
	for _, i := range indices {
		want := picture(g.t, fmt.Sprintf("%s_%02d.png", g.name, i))
		for k, v := range want.Pix {
			d := int(v) - int(g.frames[i].Pix[k])
			d = max(d, -d)
			most = max(most, d)
			if d > 1 {
				off++
			}
			all++
		}
	}
	g.t.Logf("frames: %d of %d values differ by more than one level, at most by %d", off, all, most)
	if off*1000 > all {
		g.t.Errorf("frames: %d of %d values differ by more than one level", off, all)
	}
}

func maxDiff(a, b []float32) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	var most float64
	for i := range a {
		d := math.Abs(float64(a[i]) - float64(b[i]))
		if math.IsNaN(d) {
			return d
		}
		most = max(most, d)
	}
	return most
}
