package musetalk

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/frame/frametest"
	"github.com/lipstream/lipstream/internal/golden"
)

// goldens is the folder with outputs of the original program. Its README describes how
// they were made.
const goldens = "../../testdata/musetalk"

// measure checks a comparison with the original and records it for docs/exactness.md.
func measure(t *testing.T, what, measure string, value, limit float64) {
	t.Helper()
	golden.Check(t, golden.Measurement{Module: "MuseTalk", Case: what, Measure: measure, Value: value, Limit: limit})
}

func tensors(t testing.TB, name string) func(tensor string) []float32 {
	t.Helper()
	f, err := checkpoint.Open(filepath.Join(goldens, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return func(tensor string) []float32 {
		v := f.Tensor(tensor)
		if v == nil {
			t.Fatalf("%s has no %s", name, tensor)
		}
		return v.F32()
	}
}

func readPNG(t testing.TB, path string) *frame.RGB {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return frametest.FromImage(m)
}

// gray returns a channel of an image.
func gray(p *frame.RGB) []byte {
	out := make([]byte, p.W*p.H)
	for i := range out {
		out[i] = p.Pix[3*i]
	}
	return out
}

// levels returns the largest difference.
func levels(t testing.TB, got, want []byte) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
	most := 0
	for i, w := range want {
		most = max(most, int(got[i])-int(w), int(w)-int(got[i]))
	}
	return float64(most)
}

func portraitRGB(t testing.TB) *frame.RGB { return readPNG(t, "../../testdata/demo/portrait.png") }

// faceBox is the face of the portrait in the goldens.
var faceBox = image.Rect(174, 118, 339, 322)

func TestWindowsGolden(t *testing.T) {
	var file struct {
		Cases []struct {
			FPS     float64
			Samples int64
			Frames  int64
			Windows map[string]Window
		}
	}
	golden.ReadJSON(t, goldens+"/audio/windows.json", &file)
	if len(file.Cases) != 16 {
		t.Fatalf("%d cases", len(file.Cases))
	}
	wrong, checked := 0, 0
	for _, c := range file.Cases {
		name := fmt.Sprintf("%g fps, %d samples", c.FPS, c.Samples)
		frames, features := OriginalFrames(c.Samples, c.FPS)
		fits := frames > 0
		for i := range frames {
			_, ok := originalWindow(i, c.FPS, features)
			fits = fits && ok
		}
		if fits != (c.Frames > 0) || fits && frames != c.Frames {
			t.Errorf("%s: %d frames, fits %v; want %d frames", name, frames, fits, c.Frames)
		}
		for key, want := range c.Windows {
			i, err := strconv.ParseInt(key, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			checked++
			if got, _ := originalWindow(i, c.FPS, features); got != want {
				t.Errorf("%s, frame %d: %v, want %v", name, i, got, want)
				wrong++
			}
			if got := FrameWindow(i, 25, 1, features); c.FPS == 25 && got != want {
				t.Errorf("%s, frame %d, own rule: %v, want %v", name, i, got, want)
			}
		}
	}
	if checked != 186 {
		t.Errorf("%d windows were checked, want 186", checked)
	}
	measure(t, "features of a frame, all rates", "windows that differ", float64(wrong), 0)
}

func TestPositionsGolden(t *testing.T) {
	f := tensors(t, "pe.safetensors")
	for _, d := range []int{64, 384} {
		measure(t, fmt.Sprintf("position code, width %d", d), "max abs", golden.MaxAbs(Positions(50, d), f(fmt.Sprintf("pe%d_rows0_49", d))), 1e-5)
	}
	x := slices.Clone(f("x64"))
	for i, v := range slices.Repeat(Positions(50, 64), 2) {
		x[i] += v
	}
	measure(t, "tokens with position code", "max abs", golden.MaxAbs(x, f("y64")), 1e-5)
}

func TestBoxGolden(t *testing.T) {
	var file struct {
		Cases []struct {
			Name       string
			Height     int
			Shift      int    `json:"bbox_shift"`
			Margin     int    `json:"extra_margin"`
			Detector   [4]int `json:"detector_box"`
			Landmarks  [68][2]float64
			Box        [4]int
			From       string
			V15        [4]int `json:"box_v15"`
			Expanded   [4]int
			Kernel     int `json:"blur_kernel"`
			MaskTopRow int `json:"mask_top_row"`
		}
	}
	golden.ReadJSON(t, goldens+"/box.json", &file)
	if len(file.Cases) != 15 {
		t.Fatalf("%d cases", len(file.Cases))
	}
	wrong := 0
	for _, c := range file.Cases {
		rect := func(b [4]int) image.Rectangle { return image.Rect(b[0], b[1], b[2], b[3]) }
		plain, from := originalBox(c.Landmarks, rect(c.Detector), c.Shift, 0, c.Height)
		box, _ := originalBox(c.Landmarks, rect(c.Detector), c.Shift, c.Margin, c.Height)
		square := originalSquare(box)
		if plain != rect(c.Box) || from != (c.From == "landmarks") || box != rect(c.V15) || square != rect(c.Expanded) ||
			2*originalBlur(square.Dx())+1 != c.Kernel || square.Dx()/2 != c.MaskTopRow {
			t.Errorf("%s: %v %v %v %v %d", c.Name, plain, from, box, square, originalBlur(square.Dx()))
			wrong++
		}
		if got := matrixBox(boxMatrix(box)); got != box {
			t.Errorf("%s: the matrix of box %v has box %v", c.Name, box, got)
		}
	}
	measure(t, "box of a face", "boxes that differ", float64(wrong), 0)
}

func TestInputGolden(t *testing.T) {
	crop := (&Crops{Original: true}).Crop(portraitRGB(t), boxMatrix(faceBox))
	measure(t, "crop of a face", "levels", levels(t, crop.Pix, readPNG(t, goldens+"/frame/crop256.png").Pix), 0)
	f := tensors(t, "frame/frame.safetensors")
	for name, masked := range map[string]bool{"masked": true, "reference": false} {
		pixels := make([]float32, 3*Side*Side)
		new(Crops).Pixels(pixels, crop, masked)
		var rows []float32
		for c := range 3 {
			rows = append(rows, pixels[(c*Side+120)*Side:(c*Side+136)*Side]...)
		}
		measure(t, name+" image", "max abs", golden.MaxAbs(rows, f(name+"_rows_120_136")), 1e-6)
	}
}

func TestOutputGolden(t *testing.T) {
	const rows = 8
	decoded := tensors(t, "frame/frame.safetensors")("decoded_rows_0_8_of_frame0")
	planes := make([]float32, 3*Side*Side)
	for c := range 3 {
		copy(planes[c*Side*Side:], decoded[c*rows*Side:(c+1)*rows*Side])
	}
	recon := readPNG(t, goldens+"/frame/recon_0.png")
	measure(t, "decoded image as bytes", "levels", levels(t, toRGB(planes, Side, 0).Pix[:3*rows*Side], recon.Pix[:3*rows*Side]), 0)

	for _, c := range []struct{ name, from, to string }{
		{"decoded image", "frame/recon_0.png", "frame/resized_0.png"}, {"artificial face", "blend/face256.png", "blend/portrait_face_resized.png"},
	} {
		got := bilinear(readPNG(t, filepath.Join(goldens, c.from)), faceBox.Dx(), faceBox.Dy())
		measure(t, "resized "+c.name, "levels", levels(t, got.Pix, readPNG(t, filepath.Join(goldens, c.to)).Pix), 0)
	}
}

func TestHalfSize(t *testing.T) {
	src := frame.NewRGB(4, 2)
	copy(src.Pix, []byte{1, 0, 255, 2, 0, 255, 0, 0, 0, 0, 0, 0, 3, 0, 255, 4, 1, 255, 0, 0, 0, 0, 1, 9})
	if got := bilinear(src, 2, 1).Pix; !bytes.Equal(got, []byte{3, 0, 255, 0, 0, 2}) {
		t.Errorf("%v", got)
	}
}

// bytesOf rounds 0..1 to bytes.
func bytesOf(v []float32) []byte {
	out := make([]byte, len(v))
	for i, x := range v {
		out[i] = byte(min(max(x*255+0.5, 0), 255))
	}
	return out
}

// pillow resizes a grey image of 512×512 to n×n as Pillow's BICUBIC does, which rounds after each
// axis. The result is 0..1.
func pillow(p []byte, n int) []float32 {
	v := make([]float32, len(p))
	for i, b := range p {
		v[i] = float32(b) / 255
	}
	round := func(v []float32) []float32 {
		for i, b := range bytesOf(v) {
			v[i] = float32(b) / 255
		}
		return v
	}
	return round(face.Bicubic(round(face.Bicubic(v, 1, 512, 512, n, 512, 0)), 1, n, 512, n, n, 0))
}

// originalMask returns the original's mask, [n, n], from the shape of a face in its square.
func originalMask(shape []float32, n int, box image.Rectangle, radius int) []float32 {
	within := lowerHalf(n, box)
	var part []float32
	for y := within.Min.Y; y < within.Max.Y; y++ {
		part = append(part, shape[y*n+within.Min.X:y*n+within.Max.X]...)
	}
	return blurred(part, within, n, radius)
}

func TestMaskGolden(t *testing.T) {
	square := originalSquare(faceBox)
	n, box := square.Dx(), faceBox.Sub(square.Min)
	blend := func(name string) []byte { return gray(readPNG(t, goldens+"/blend/portrait_"+name+".png")) }
	for _, mode := range []string{"jaw", "neck", "raw"} {
		parsed := blend(mode + "_seg512")
		cut := bytesOf(originalMask(pillow(parsed, n), n, box, 0))
		measure(t, mode+" mask before the blur", "levels", levels(t, cut, blend(mode+"_mask_before_blur")), 1)
		mask := bytesOf(originalMask(pillow(parsed, n), n, box, originalBlur(n)))
		measure(t, mode+" mask", "levels", levels(t, mask, blend(mode+"_mask")), 1)
	}
	mask := bytesOf(originalMask(pillow(blend("jaw_seg512"), n), n, box, n/20))
	measure(t, "jaw mask, wider blur", "levels", levels(t, mask, blend("jaw_mask_realtime")), 1)
}

// paste pastes a resized face into a frame as the original does (docs/spec/musetalk.md, section
// 6.4). Lipstream blends in the frame's own planes instead.
func paste(f *frame.RGB, resized *frame.RGB, box image.Rectangle, mask []byte) *frame.RGB {
	out := &frame.RGB{W: f.W, H: f.H, Pix: slices.Clone(f.Pix)}
	square := originalSquare(box)
	for y := max(box.Min.Y, 0); y < min(box.Max.Y, f.H); y++ {
		for x := max(box.Min.X, 0); x < min(box.Max.X, f.W); x++ {
			m := int(mask[(y-square.Min.Y)*square.Dx()+x-square.Min.X])
			for c := range 3 {
				p := int(resized.Pix[3*((y-box.Min.Y)*resized.W+x-box.Min.X)+c])
				t := p*m + int(f.Pix[3*(y*f.W+x)+c])*(255-m) + 128
				out.Pix[3*(y*f.W+x)+c] = byte((t + t>>8) >> 8)
			}
		}
	}
	return out
}

func part(p *frame.RGB, r image.Rectangle) *frame.RGB {
	out := frame.NewRGB(r.Dx(), r.Dy())
	p.Warp(out, frame.Affine{A: 1, C: float64(r.Min.X), E: 1, F: float64(r.Min.Y)}, frame.Replicate, 0)
	return out
}

// TestPasteGolden checks the bytes of whole results, pasted with the original's masks.
func TestPasteGolden(t *testing.T) {
	var meta struct {
		Cases []struct {
			Name    string
			FrameWH [2]int `json:"frame_wh"`
			FaceBox [4]int `json:"face_box"`
			Modes   map[string]struct {
				Out string `json:"out_sha256_rgb"`
			}
			Realtime struct {
				Out string `json:"out_sha256_rgb"`
			}
		}
	}
	golden.ReadJSON(t, goldens+"/blend/meta.json", &meta)
	resized := bilinear(readPNG(t, goldens+"/blend/face256.png"), faceBox.Dx(), faceBox.Dy())
	wrong := 0
	for _, c := range meta.Cases {
		picture := portraitRGB(t)
		if c.Name == "corner" {
			picture = part(picture, image.Rect(150, 105, 512, 512))
		}
		box := image.Rect(c.FaceBox[0], c.FaceBox[1], c.FaceBox[2], c.FaceBox[3])
		if picture.W != c.FrameWH[0] || picture.H != c.FrameWH[1] {
			t.Fatalf("%s has %d×%d pixels", c.Name, picture.W, picture.H)
		}
		hashes := map[string]string{}
		for mode, m := range c.Modes {
			hashes[mode+"_mask"] = m.Out
		}
		if c.Realtime.Out != "" {
			hashes["jaw_mask_realtime"] = c.Realtime.Out
		}
		for mask, want := range hashes { // the square is the same in all cases, and so are the masks
			out := paste(picture, resized, box, gray(readPNG(t, goldens+"/blend/portrait_"+mask+".png")))
			sum := sha256.Sum256(out.Pix)
			if got := hex.EncodeToString(sum[:]); got != want {
				t.Errorf("%s, %s: %s, want %s", c.Name, mask, got, want)
				wrong++
			}
		}
	}
	measure(t, "pasted frames, the original's masks", "frames that differ", float64(wrong), 0)
}

// TestPasteOwnMask compares whole results: with masks computed here, and blended in planes as
// Lipstream does.
func TestPasteOwnMask(t *testing.T) {
	square := originalSquare(faceBox)
	n := square.Dx()
	mask := originalMask(pillow(gray(readPNG(t, goldens+"/blend/portrait_jaw_seg512.png")), n), n, faceBox.Sub(square.Min), originalBlur(n))
	for _, c := range []struct{ name, from, to string }{
		{"artificial face", "blend/face256.png", "blend/portrait_jaw_out_square.png"}, {"decoded image", "frame/recon_0.png", "frame/out_square_0.png"},
	} {
		resized, want := bilinear(readPNG(t, filepath.Join(goldens, c.from)), faceBox.Dx(), faceBox.Dy()), readPNG(t, filepath.Join(goldens, c.to))
		got := part(paste(portraitRGB(t), resized, faceBox, bytesOf(mask)), square)
		measure(t, "pasted "+c.name, "levels", levels(t, got.Pix, want.Pix), 1)

		picture := portraitRGB(t)
		f := frame.New(frame.Format{Width: picture.W, Height: picture.H, Depth: 10, FullRange: true})
		frametest.Fill(f, picture)
		blendOriginal(f, resized, mask, faceBox)
		f.Warp(picture, frame.Affine{A: 1, E: 1}, frame.Replicate, 0)
		measure(t, "pasted "+c.name+", in 10-bit planes", "levels", levels(t, part(picture, square).Pix, want.Pix), 2)
	}
}

// originalWindow returns the window of a frame as the original computes it
// (docs/spec/musetalk.md, section 3.4). The original truncates the rate. It reports false
// where the original ends the process, because there are too few features.
func originalWindow(frame int64, rate float64, features int64) (w Window, ok bool) {
	step := audio.FeatureRate / math.Trunc(rate)
	pad := int64(math.Ceil(step))
	before, after := min(2*pad, features), min(6*pad, features)
	first := int64(math.Floor(float64(frame)*step)) - before
	return windowAt(first, features), first+windowFeatures <= features+after
}
