package neural

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/sharedtest"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/lip"
)

// TestEndToEndGolden runs the original's whole pipeline on its own frames: alignment,
// Whisper, VAE, denoising, composite, restore.
//
// Runs with the field fed take the conditions of the original's UNet as their input. For
// them the tolerances of testdata/latentsync/README.md hold: latents 1e-3 of a range of
// 15, generated faces 2e-3 of a range of 8. (Guidance and the number of steps do not
// change the conditions, so runs can share them.) In all runs 99.9 % of the values of the
// frames must be within one level of 255. In f16 the PSNR of each must be 40 dB.
func TestEndToEndGolden(t *testing.T) {
	const conditions = "r128_g15_mean"
	small := []goldenRun{
		{name: "r128_g15_mean", fed: conditions, steps: 3, guidance: 1.5, faces: []int{0, 5, 15, 16, 23}, frames: seq(24)},
		{name: "r128_g15_mean", steps: 3, guidance: 1.5, frames: seq(24)},
		{name: "r128_g15_sample", sample: true, steps: 3, guidance: 1.5, frames: []int{0, 5, 15, 16, 23}},
		{name: "r128_g10_mean", fed: conditions, steps: 3, guidance: 1, faces: []int{0, 16}, frames: []int{0, 16}},
		{name: "r128_g15_mean_deepcache", fed: conditions, steps: 6, deepCache: 3, guidance: 1.5, faces: []int{0, 16}, frames: []int{0, 16}},
	}
	large := []goldenRun{
		{name: "r256_g15_mean", steps: 3, guidance: 1.5, frames: []int{0, 5, 15}},
	}
	sharedtest.OnEach(t, func(t *testing.T, on sharedtest.Target) {
		if on.Name() == "openvino" { // one run is enough to compare the backends
			playAll(t, on, 128, 24, small[:1])
			return
		}
		if on.Device.Resident {
			// There, graphs depend on guidance, so each run gets an engine.
			for _, run := range small {
				playAll(t, on, 128, 24, []goldenRun{run})
			}
		} else {
			playAll(t, on, 128, 24, small)
		}
		playAll(t, on, 256, 16, large)
	})
}

func seq(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

// goldenRun is a run of the original.
type goldenRun struct {
	name      string
	fed       string // the run whose UNet inputs replace the latents of the frames; may be empty
	sample    bool
	steps     int
	deepCache int
	guidance  float64
	faces     []int // frames whose faces are in the file
	frames    []int // frames that exist as PNG files

	file    *checkpoint.File
	frame   []*held
	latents [][]float32  // of each frame
	face    [][]float32  // composited, of each frame
	picture []*frame.RGB // of each frame
}

// set sets the options and the random numbers of the run in e.
func (g *goldenRun) set(t testing.TB, e *Engine) {
	e.painter.o.Sample = g.sample
	e.generator.(*denoiser).o.Steps, e.generator.(*denoiser).o.DeepCache, e.generator.(*denoiser).o.Guidance = g.steps, g.deepCache, g.guidance
	e.generator.(*denoiser).noise = values(t, g.file, "initial_latents")
	e.painter.noise = func(dst []float32, index int64, which int) {
		chunk, name := index/16, [2]string{"masked", "ref"}[which]
		v := values(t, g.file, fmt.Sprintf("chunk%d.vae_noise_%s", chunk, name))
		copy(dst, v[int(index%16)*len(dst):])
	}
}

// playAll makes the first 16 or all 24 frames in the order of the original, with the parts
// of one engine. It makes the chunk of 16 frames of all runs first, then that of 8, so
// that the UNet is compiled only twice.
func playAll(t *testing.T, on sharedtest.Target, resolution, frames int, runs []goldenRun) {
	runs = slices.Clone(runs)
	o := tinyOn(t, on)
	o.Resolution, o.Guidance = resolution, runs[0].guidance
	points := values(t, openGolden(t, "e2e/landmarks.safetensors"), "landmarks106_float")
	o.Anchors = func(it lip.Item) face.Anchors {
		p := make([][2]float64, 106)
		for i := range p {
			at := (it.Frame.Index*106 + int64(i)) * 2
			p[i] = [2]float64{float64(points[at]), float64(points[at+1])}
		}
		return golden.Anchors106(p)
	}
	e := open(t, o)
	// The original aligns each of its 20 inputs once and then plays them back and
	// forth.
	var inputs [20]*frame.RGB
	var matrices [20]frame.Affine
	for i := range inputs {
		inputs[i] = picture(t, fmt.Sprintf("in_%02d.png", i))
		matrices[i] = e.painter.Matrix(lip.Item{Frame: &frame.Frame{Index: int64(i)}})
	}
	for k := range runs {
		g := &runs[k]
		g.file = openGolden(t, "e2e/"+g.name+".safetensors")
		g.set(t, e)
		for i := range int64(frames) {
			at := min(i, 39-i)
			h := &held{index: i, matrix: matrices[at], crop: e.painter.crops.(*aligned).aligner.Crop(inputs[at], matrices[at])}
			var err error
			if g.fed == "" {
				if err = e.painter.encode(t.Context(), []*held{h}); err != nil {
					t.Fatal(err)
				}
			}
			if h.tokens, err = e.features.frame(t.Context(), i, 25, 1); err != nil {
				t.Fatal(err)
			}
			g.frame = append(g.frame, h)
			p := *inputs[at]
			p.Pix = append([]byte(nil), p.Pix...)
			g.picture = append(g.picture, &p)
		}
	}
	for chunk, ends := range [][2]int{{0, 16}, {16, 24}}[:(frames+15)/16] {
		for k := range runs {
			runs[k].set(t, e)
			runs[k].chunk(t, e, chunk, runs[k].frame[ends[0]:ends[1]])
		}
	}
	for k := range runs {
		runs[k].compare(t, on)
	}
}

func (g *goldenRun) chunk(t *testing.T, e *Engine, number int, frames []*held) {
	if g.fed != "" {
		file := openGolden(t, "e2e/"+g.fed+".safetensors")
		feed(frames, values(t, file, fmt.Sprintf("chunk%d.unet_input_step0_last_item", number)))
	}
	conditions := make([]condition, len(frames))
	for i, h := range frames {
		conditions[i] = h.condition
	}
	latents, err := e.generator.(*denoiser).windows(t.Context(), []input{{frames[0].index, conditions}})
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range frames {
		g.latents = append(g.latents, latents[0][i])
		if !slices.Contains(g.frames, int(h.index)) && !slices.Contains(g.faces, int(h.index)) {
			g.face = append(g.face, nil) // not compared, so not made
			continue
		}
		decoded, err := e.painter.decode(t.Context(), latents[0][i:i+1])
		if err != nil {
			t.Fatal(err)
		}
		a := e.painter.crops.(*aligned)
		composite := a.composite(h.crop, decoded[0])
		g.face = append(g.face, composite)
		restoreRGB(a.aligner, g.picture[h.index], a.aligner.Resize(composite), h.matrix)
	}
}

// restoreRGB pastes a face into an image as the original does, truncated to whole levels.
func restoreRGB(a *face.Aligner, dst *frame.RGB, values []float32, m frame.Affine) {
	p := a.Patch(values, m, dst.W, dst.H)
	for i, s := range p.Alpha {
		at := dst.Pix[3*((p.Y+i/p.W)*dst.W+p.X+i%p.W):]
		for c := range 3 {
			v := float32(s*p.Face[3*i+c]) + float32((1-s)*float32(at[c]))
			at[c] = byte(min(max(v, 0), 255))
		}
	}
}

// feed sets the latents of frames from an input of the UNet, (1, 13, f, h, w).
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

func (g *goldenRun) compare(t *testing.T, on sharedtest.Target) {
	name := g.name
	if g.fed == "" {
		name += ", from the frames on"
	}
	g.compareFrames(t, on, name)
	if g.fed == "" {
		return
	}
	got, want := g.bothLatents(t)
	on.Check(t, "pipeline, latents", name, got, want, 1e-3)
	faces := values(t, g.file, "synced_faces")
	mask := face.Mask(128)
	got, want = nil, nil
	for k, i := range g.faces {
		n := len(g.face[i])
		for j, v := range g.face[i] {
			if mask[j%len(mask)] == 0 { // generated; the rest comes from the crop
				got, want = append(got, v), append(want, faces[k*n+j])
			}
		}
	}
	on.Check(t, "pipeline, faces", name, got, want, 2e-3)
}

func (g *goldenRun) compareFrames(t *testing.T, on sharedtest.Target, name string) {
	m := golden.Measurement{Module: "pipeline, frames", Case: name, Backend: on.String(), Precision: string(on.Precision)}
	off, all, squares := 0, 0, 0.0 // values of the frames
	for _, i := range g.frames {
		for k, v := range picture(t, fmt.Sprintf("%s_%02d.png", g.name, i)).Pix {
			d := int(v) - int(g.picture[i].Pix[k])
			if d < -1 || d > 1 {
				off++
			}
			all++
			squares += float64(d * d)
		}
	}
	m.Measure, m.Value, m.Limit = "share of values off by more than 1", float64(off)/float64(all), 0.001
	if on.Precision == backend.F16 {
		m.Measure, m.Value, m.Limit = golden.PSNR, 10*math.Log10(255*255*float64(all)/squares), 40
	}
	golden.Check(t, m)
}

// bothLatents returns the latents after the last step and the original's, which are
// (1, 4, f, h, w), in the same order.
func (g *goldenRun) bothLatents(t *testing.T) (got, want []float32) {
	for chunk, ends := range [][2]int{{0, 16}, {16, 24}} {
		all := values(t, g.file, fmt.Sprintf("chunk%d.latents_step%d", chunk, g.steps-1))
		f := ends[1] - ends[0]
		for i, x := range g.latents[ends[0]:ends[1]] {
			got, want = append(got, x...), append(want, planes(all, 4, f, i, 0, 4)...)
		}
	}
	return got, want
}
