package face

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"testing"

	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/frame/frametest"
	exactness "github.com/lipstream/lipstream/internal/golden"
)

// goldenMatrices runs the ten frames of the golden set through an aligner.
func goldenMatrices(t testing.TB, g golden, a *Aligner) []frame.Affine {
	t.Helper()
	lm := g["landmarks106_float"]
	ms := make([]frame.Affine, lm.shape[0])
	for i := range ms {
		p := make([][2]float64, 106)
		for k := range p {
			at := 2 * (106*i + k)
			p[k] = [2]float64{float64(lm.data[at]), float64(lm.data[at+1])}
		}
		anchors := Anchors(exactness.Anchors106(p))
		for k, q := range anchors {
			for c := range 2 {
				if want := g["points3"].data[6*i+2*k+c]; q[c] != float64(want) {
					t.Fatalf("frame %d anchor %d: %v, want %v", i, k, q[c], want)
				}
			}
		}
		ms[i] = a.Matrix(anchors)
	}
	return ms
}

func TestMatrixGolden(t *testing.T) {
	g := readGolden(t, "align/align.safetensors")
	for _, set := range []struct {
		name string
		r    int
	}{{"fp32", 256}, {"fp32_512", 512}} {
		var got []float32
		a := NewAligner(set.r)
		for _, m := range goldenMatrices(t, g, a) {
			for _, v := range []float64{m.A, m.B, m.C, m.D, m.E, m.F} {
				got = append(got, float32(v))
			}
		}
		closeTo(t, set.name+" matrices", got, g[set.name+".matrices"].data, 0)
	}
}

// TestMatrixExample computes the example of docs/spec/latentsync.md, section 3.4.
func TestMatrixExample(t *testing.T) {
	p := Anchors{{520, 300}, {640, 310}, {575, 380}}
	m := NewAligner(256).Matrix(p)
	for _, v := range []struct{ got, want, tol float64 }{
		{m.A, 0.88492173, 1e-6}, {m.B, 0.06948087, 1e-6}, {m.C, -429.63742, 2e-4},
		{m.D, -0.06948087, 1e-6}, {m.E, 0.88492179, 1e-6}, {m.F, -177.34361, 2e-4},
	} {
		if math.Abs(v.got-v.want) > v.tol {
			t.Errorf("%v, want %v", v.got, v.want)
		}
	}
	n := TemplateAffine(p)
	if math.Abs(n.C+429.70844) > 2e-4 || math.Abs(n.F+177.17444) > 2e-4 {
		t.Errorf("without bias: %v", n)
	}
}

func TestCropGolden(t *testing.T) {
	g := readGolden(t, "align/align.safetensors")
	pic := readPNG(t, "align/picture.png")
	for _, set := range []struct {
		name   string
		r      int
		frames []int
	}{{"fp32", 256, []int{0, 7, 8, 9}}, {"fp32_512", 512, []int{0, 7}}} {
		a := NewAligner(set.r)
		ms := goldenMatrices(t, g, a)
		for _, i := range set.frames {
			name := fmt.Sprintf("align/%s/face_%02d.png", set.name, i)
			worst, want := 0, readPNG(t, name).Pix
			for j, v := range a.Crop(pic, ms[i]).Pix {
				worst = max(worst, int(v)-int(want[j]), int(want[j])-int(v))
			}
			exactness.Check(t, exactness.Measurement{Module: "crop of a face", Case: set.name + " frame " + strconv.Itoa(i), Measure: "levels", Value: float64(worst)})
		}
	}
}

func TestRestoreGolden(t *testing.T) {
	g := readGolden(t, "align/align.safetensors")
	face := planar(readPNG(t, "align/known_face.png"))
	for _, set := range []struct {
		name   string
		r      int
		frames []int
	}{{"fp32", 256, []int{0, 7, 9}}, {"fp32_512", 512, []int{7}}} {
		a := NewAligner(set.r)
		ms := goldenMatrices(t, g, a)
		in := face
		if set.r == 512 { // the golden set first enlarges the face
			b := newBicubic(256, 512)
			in = resize(face, 3, b, b)
			closeTo(t, "known_face_512", everyRow(in, 3, 512, 512, 40), g["known_face_512_rows_step40"].data, 3e-5)
		}
		small := a.Resize(in)
		if set.r == 256 {
			closeTo(t, "known_face 280x210", small, g["known_face_resized_280x210"].data, 3e-5)
		} else {
			closeTo(t, "known_face 560x420", everyRow(small, 3, 560, 420, 40), g["known_face_resized_560x420_rows_step40"].data, 3e-5)
		}
		for _, i := range set.frames {
			pic := readPNG(t, "align/picture.png")
			restoreRGB(a, pic, small, ms[i])
			name := fmt.Sprintf("align/%s/restored_%02d.png", set.name, i)
			within(t, name, pic.Pix, readPNG(t, name).Pix, 5e-5)
		}
		if set.r != 256 {
			continue
		}
		for i, key := range map[int]string{0: "fp32.softmask_00_rows", 8: "fp32.softmask_08_rows"} {
			p := a.Patch(small, ms[i], 640, 480)
			full := make([]float32, 640*480)
			for y := range p.H {
				copy(full[(y+p.Y)*640+p.X:], p.Alpha[y*p.W:(y+1)*p.W])
			}
			closeTo(t, key, everyRow(full, 1, 480, 640, 16), g[key].data, 1e-6)
		}
	}
}

// restoreRGB pastes the face into an image as the original does, truncated to whole
// levels.
func restoreRGB(a *Aligner, dst *frame.RGB, face []float32, m frame.Affine) {
	p := a.Patch(face, m, dst.W, dst.H)
	for i, s := range p.Alpha {
		if s == 0 {
			continue
		}
		at := dst.Pix[3*((p.Y+i/p.W)*dst.W+p.X+i%p.W):]
		for c := range 3 {
			v := float32(s*p.Face[3*i+c]) + float32((1-s)*float32(at[c]))
			at[c] = byte(min(max(v, 0), 255))
		}
	}
}

// planar returns the face in the layout of the golden sets: [3,h,w] in -1..1.
func planar(p *frame.RGB) []float32 {
	v := make([]float32, 3*p.W*p.H)
	PixelValues(v, p)
	return v
}

// everyRow returns rows 0, step, ... of [c,h,w].
func everyRow(v []float32, c, h, w, step int) []float32 {
	var out []float32
	for i := range c {
		for y := 0; y < h; y += step {
			out = append(out, v[(i*h+y)*w:(i*h+y+1)*w]...)
		}
	}
	return out
}

func TestMaskHashes(t *testing.T) {
	for r, want := range map[int]string{
		256: "f8b78274914708ee3b64f800d9c4571b00906863af5df049240c708ee33ef869",
		512: "d3ed095906075f615398881f503d10469bc76870199ce29faffd5f500c043ce8",
	} {
		sum := sha256.Sum256(maskImage(r))
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("mask %d: sha256 %s, want %s", r, got, want)
		}
	}
	g := readGolden(t, "align/align.safetensors")
	for _, r := range []int{64, 128, 256, 512} {
		key := fmt.Sprintf("mask_latent_%d", r)
		closeTo(t, key, LatentMask(r, 8), g[key].data, 1e-6)
	}
	a := NewAligner(256)
	crop := a.Crop(readPNG(t, "align/picture.png"), goldenMatrices(t, g, a)[0])
	px := planar(crop)
	masked := make([]float32, len(px))
	MaskedPixels(masked, px, Mask(256))
	want := g["fp32.masked_pixels_00_rows"].data
	diff := 0
	for i, v := range everyRow(masked, 3, 256, 256, 16) {
		if math.Abs(float64(v-want[i])) > 1e-6 {
			diff++
		}
	}
	if diff > len(want)/100 {
		t.Errorf("masked pixels: %d of %d differ", diff, len(want))
	}
}

func TestMaskAlphaInside(t *testing.T) {
	const w, h = TemplateW, TemplateH
	hard, soft := MaskAlpha(w, h, 0), MaskAlpha(w, h, 8)
	var full int
	for i := range hard {
		if hard[i] != 0 && hard[i] != 1 {
			t.Fatal("a mask without feather is not binary")
		}
		if soft[i] > hard[i] {
			t.Fatal("the feather extends beyond the mask")
		}
		if soft[i] == 1 {
			full++
		}
	}
	if full < w*h/4 || full > w*h/2 {
		t.Errorf("%d of %d pixels are fully inside", full, w*h)
	}
}

func TestCropOfFrame(t *testing.T) {
	g := readGolden(t, "align/align.safetensors")
	pic := readPNG(t, "align/picture.png")
	f := frame.New(frame.Format{Width: pic.W, Height: pic.H, Depth: 10, Matrix: frame.BT709})
	frametest.Fill(f, pic)
	whole := frame.NewRGB(pic.W, pic.H)
	f.Warp(whole, frame.Affine{A: 1, E: 1}, frame.Replicate, 0)
	a := NewAligner(256)
	for i, m := range goldenMatrices(t, g, a) {
		compare(t, fmt.Sprint("frame ", i), a.Crop(f, m).Pix, a.Crop(whole, m).Pix, 1)
	}
}

func BenchmarkAligner(b *testing.B) {
	g := readGolden(b, "align/align.safetensors")
	pic := readPNG(b, "align/picture.png")
	f := toFrame(pic)
	face := planar(readPNG(b, "align/known_face.png"))
	a := NewAligner(256)
	m := goldenMatrices(b, g, a)[0]
	small := a.Resize(face)
	for name, run := range map[string]func(){
		"crop of RGB":   func() { a.Crop(pic, m) },
		"crop of frame": func() { a.Crop(f, m) },
		"resize":        func() { a.Resize(face) },
		"restore RGB":   func() { restoreRGB(a, pic, small, m) },
		"restore frame": func() { a.Restore(f, small, m) },
		"mask alpha":    func() { MaskAlpha(TemplateW, TemplateH, 8) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				run()
			}
		})
	}
}
