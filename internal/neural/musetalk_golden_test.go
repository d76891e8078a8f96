package neural

import (
	"fmt"
	"image"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/sharedtest"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/frame/frametest"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/musetalk"
)

// museTalkOn returns the options of MuseTalk's golden runs on a target. VAE and Whisper are
// those of LatentSync's.
func museTalkOn(t testing.TB, on sharedtest.Target, recording string) Options {
	o := quickMuseTalk(t, on.Cached)
	o = o.withParity(everything)
	o.Sample = false // the original's noise is not known
	o.Files.UNet, o.Files.VAE, o.Files.Decoder = museTalkGoldens+"/models/musetalkV15/unet.pth", tinyFiles.VAE, ""
	o.Device, o.Plan.Precision = on.Device, string(on.Precision)
	o.Voice = voice(t, recording, 1)
	return o
}

// jaw turns the classes of the original's face parser, 512×512, into the shape of its mask
// in mode "jaw", 0..1 (docs/spec/musetalk.md, section 6.2).
func jaw(classes *frame.RGB) []float32 {
	const n = 512
	class := func(x, y int) byte { return classes.Pix[3*(y*n+x)] }
	inside := func(x, y int) bool { return x >= 0 && y >= 0 && x < n && y < n }
	grown := make([]bool, n*n)
	for i := range n * n {
		if class(i%n, i/n) != 1 {
			continue
		}
		for dy := -6; dy <= 16; dy++ {
			for dx := -min(dy+6, 10); dx <= min(dy+6, 10); dx++ {
				if x, y := i%n-dx, i/n-dy; inside(x, y) {
					grown[y*n+x] = true
				}
			}
		}
	}
	shrunk := grown
	for range 2 {
		before := shrunk
		shrunk = slices.Clone(before)
		for i := range before {
			if before[i] {
				continue
			}
			for dx := -17; dx <= 17; dx++ {
				if inside(i%n+dx, 0) {
					shrunk[i+dx] = false
				}
			}
			for _, at := range []int{i - n, i + n} {
				if at >= 0 && at < n*n {
					shrunk[at] = false
				}
			}
		}
	}
	out := make([]float32, n*n)
	for i := range out {
		set, c := grown[i], class(i%n, i/n)
		if i%n <= 166 || i%n >= 346 { // the cheeks
			set = shrunk[i]
		}
		if set && c != 10 || c >= 11 && c <= 13 {
			out[i] = 1
		}
	}
	return out
}

// resized returns a shape of 512×512 as n×n, as Pillow's BICUBIC computes it: with bytes
// after each axis.
func resized(shape []float32, n int) []float32 {
	bytes := func(v []float32) []float32 {
		for i, x := range v {
			v[i] = float32(math.Floor(float64(min(max(x*255+0.5, 0), 255)))) / 255
		}
		return v
	}
	return bytes(face.Bicubic(bytes(face.Bicubic(shape, 1, 512, 512, n, 512, 0)), 1, n, 512, n, n, 0))
}

// inBytes is crops that paste as the original does, in bytes of pictures.
type inBytes struct {
	*musetalk.Crops
	pictures map[*frame.Frame]*frame.RGB
}

// Layer returns a layer that changes the picture of the frame instead of the frame.
func (b inBytes) Layer(it lip.Item, m frame.Affine, crop *frame.RGB, image []float32) lip.Layer {
	return byteLayer{b, b.Crops.Layer(it, m, crop, image)}
}

type byteLayer struct {
	inBytes
	lip.Layer
}

// Paste pastes in bytes (docs/spec/musetalk.md, section 6.4).
func (b byteLayer) Paste(f *frame.Frame) lip.Region {
	resized, mask, box := b.Layer.(interface {
		Parts() (*frame.RGB, []float32, image.Rectangle)
	}).Parts()
	p, n := b.pictures[f], int(math.Sqrt(float64(len(mask))))
	left, top := (box.Min.X+box.Max.X)/2-n/2, (box.Min.Y+box.Max.Y)/2-n/2
	for i, v := range resized.Pix {
		x, y := box.Min.X+i/3%resized.W, box.Min.Y+i/3/resized.W
		m, old := int(mask[(y-top)*n+x-left]*255+0.5), &p.Pix[3*(y*p.W+x)+i%3]
		t := int(v)*m + int(*old)*(255-m) + 128
		*old = byte((t + t>>8) >> 8)
	}
	return lip.Region{}
}

// pasteInBytes makes an engine paste in bytes, with the original's landmarks and masks.
func pasteInBytes(e *Engine, landmarks func(lip.Item) [68][2]float64, shape []float32) inBytes {
	own := e.painter.crops.(*musetalk.Crops)
	own.Landmarks, own.Shape = landmarks, func(_ lip.Item, n int) []float32 { return resized(shape, n) }
	b := inBytes{own, map[*frame.Frame]*frame.RGB{}}
	e.painter.crops = b
	return b
}

// add returns a picture as a frame whose planes keep all its bytes.
func (b inBytes) add(p *frame.RGB, index int64) lip.Item {
	f := frame.New(frame.Format{Width: p.W, Height: p.H, Depth: 10, FullRange: true})
	frametest.Fill(f, p)
	f.Index = index
	b.pictures[f] = &frame.RGB{W: p.W, H: p.H, Pix: slices.Clone(p.Pix)}
	return lip.Item{Frame: f, Face: &face.Face{}}
}

// compareImages checks that at most 0.5 % of the bytes differ from the original's, and those
// by one level. In f16 the PSNR must be 40 dB.
func compareImages(t *testing.T, on sharedtest.Target, what string, got, want []*frame.RGB) {
	t.Helper()
	off, all, most, squares := 0, 0, 0, 0.0
	for i := range want {
		if len(got[i].Pix) != len(want[i].Pix) {
			t.Fatalf("%s: image %d has %d values, want %d", what, i, len(got[i].Pix), len(want[i].Pix))
		}
		for k, v := range want[i].Pix {
			d := int(v) - int(got[i].Pix[k])
			if d != 0 {
				off++
			}
			all++
			most = max(most, d, -d)
			squares += float64(d * d)
		}
	}
	m := golden.Measurement{Module: "MuseTalk, pipeline", Case: what, Backend: on.String(), Precision: string(on.Precision)}
	if on.Precision == backend.F16 {
		m.Measure, m.Value, m.Limit = golden.PSNR, 10*math.Log10(255*255*float64(all)/squares), 40
		golden.Check(t, m)
		return
	}
	m.Measure, m.Value, m.Limit = "share of values that differ", float64(off)/float64(all), 0.005
	golden.Check(t, m)
	m.Measure, m.Value, m.Limit = "levels", float64(most), 1
	golden.Check(t, m)
}

func museTalkPicture(t testing.TB, name string) *frame.RGB {
	return readPNG(t, filepath.Join(museTalkGoldens, name))
}

// TestMuseTalkFrameGolden follows one picture with the tokens of four times through all
// stages of the original. The tolerances are those of testdata/musetalk/README.md.
func TestMuseTalkFrameGolden(t *testing.T) {
	file := openPath(t, museTalkGoldens+"/frame/frame.safetensors")
	shape := jaw(museTalkPicture(t, "blend/portrait_classes.png"))
	for i, v := range museTalkPicture(t, "blend/portrait_jaw_seg512.png").Pix {
		if v != byte(255*shape[i/3]) {
			t.Fatalf("the mask of the mode jaw differs at %d", i/3)
		}
	}
	points := landmarksOf(t, "portrait")
	sharedtest.OnEach(t, func(t *testing.T, on sharedtest.Target) {
		e := open(t, museTalkOn(t, on, "speech.wav"))
		pasted := pasteInBytes(e, func(lip.Item) [68][2]float64 { return points }, shape)
		it := pasted.add(readPNG(t, "../../testdata/demo/portrait.png"), 0)
		m := e.painter.Matrix(it)
		crop := e.painter.Crop(it.Frame, m)
		if !slices.Equal(crop.Pix, museTalkPicture(t, "frame/crop256.png").Pix) {
			t.Error("the crop differs")
		}
		at := []int64{0, 30, 50, 74}
		var frames []*held
		var tokens []float32
		for _, i := range at {
			h := &held{index: i, crop: crop}
			var err error
			if h.tokens, err = e.features.frame(t.Context(), i, 25, 1); err != nil {
				t.Fatal(err)
			}
			frames, tokens = append(frames, h), append(tokens, h.tokens...)
		}
		if err := e.painter.encode(t.Context(), frames); err != nil {
			t.Fatal(err)
		}
		on.Check(t, "MuseTalk, pipeline", "tokens", tokens, values(t, file, "tokens_with_position"), 1e-4)
		want, n := values(t, file, "latent_mean"), len(frames[0].latents)/2
		on.Check(t, "MuseTalk, pipeline", "latents of the masked image", frames[0].latents[:n], want[:n], 5e-4)
		on.Check(t, "MuseTalk, pipeline", "latents of the whole image", frames[0].latents[n:], want[n:], 5e-4)

		// As in TestEndToEndGolden, the rest has the original's own latents as its input.
		for _, h := range frames {
			h.latents = want
		}
		var list []input
		for pair := range slices.Chunk(frames, 2) {
			list = append(list, input{pair[0].index, []condition{pair[0].condition, pair[1].condition}})
		}
		windows, err := e.generator.windows(t.Context(), list)
		if err != nil {
			t.Fatal(err)
		}
		latents := slices.Concat(windows...)
		on.Check(t, "MuseTalk, pipeline", "generated latents", slices.Concat(latents...), values(t, file, "pred_latent"), 5e-4)

		images, err := e.painter.decode(t.Context(), latents)
		if err != nil {
			t.Fatal(err)
		}
		const side, rows = musetalk.Side, 8
		var top []float32
		for c := range 3 {
			top = append(top, images[0][c*side*side:][:rows*side]...)
		}
		on.Check(t, "MuseTalk, pipeline", "decoded image", top, values(t, file, "decoded_rows_0_8_of_frame0"), 5e-4)
		var decoded []*frame.RGB
		for _, i := range []int{0, 3} {
			p := frame.NewRGB(side, side)
			for k := range p.Pix {
				v := images[i][k%3*side*side+k/3]
				p.Pix[k] = byte(math.RoundToEven(float64(min(max(v/2+0.5, 0), 1) * 255)))
			}
			decoded = append(decoded, p)
		}
		compareImages(t, on, "decoded images", decoded, []*frame.RGB{museTalkPicture(t, "frame/recon_0.png"), museTalkPicture(t, "frame/recon_3.png")})

		e.painter.Layer(it, m, crop, images[0]).Paste(it.Frame)
		square := museTalkPicture(t, "frame/out_square_0.png")
		got := frame.NewRGB(square.W, square.H)
		pasted.pictures[it.Frame].Warp(got, frame.Affine{A: 1, C: 103, E: 1, F: 67}, frame.Replicate, 0)
		compareImages(t, on, "pasted image", []*frame.RGB{got}, []*frame.RGB{square})
	})
}

// landmarksOf returns the landmarks of a case in box.json.
func landmarksOf(t testing.TB, name string) [68][2]float64 {
	t.Helper()
	var file struct {
		Cases []struct {
			Name      string
			Landmarks [68][2]float64
		}
	}
	golden.ReadJSON(t, museTalkGoldens+"/box.json", &file)
	for _, c := range file.Cases {
		if c.Name == name {
			return c.Landmarks
		}
	}
	t.Fatalf("box.json has no case %s", name)
	return [68][2]float64{}
}

// TestMuseTalkVideoGolden sends the frames of the original's batch script through the
// engine, with its landmarks and masks: all of them in a long run, otherwise those that are
// stored. Of the others only the sum is known.
func TestMuseTalkVideoGolden(t *testing.T) {
	var meta struct {
		Frames []struct {
			Source int64
			Box    [4]float64
			Sum    int64 // of all values of the result
		}
	}
	golden.ReadJSON(t, museTalkGoldens+"/video/meta.json", &meta)
	landmarks := values(t, openPath(t, museTalkGoldens+"/video/landmarks.safetensors"), "landmarks68")
	var sources [5]*frame.RGB
	for i := range sources {
		sources[i] = museTalkPicture(t, fmt.Sprintf("video/in/%08d.png", i))
	}
	shape := jaw(museTalkPicture(t, "video/classes.png")) // that of all sources
	stored := []int64{0, 4, 5, 21}
	sharedtest.OnEach(t, func(t *testing.T, on sharedtest.Target) {
		e := open(t, museTalkOn(t, on, "speech_short.wav"))
		pasted := pasteInBytes(e, func(it lip.Item) (p [68][2]float64) {
			for i := range p {
				at := 2 * (int(meta.Frames[it.Frame.Index].Source)*len(p) + i)
				p[i] = [2]float64{float64(landmarks[at]), float64(landmarks[at+1])}
			}
			return p
		}, shape)
		if got := (museTalk{}).frames(e.o.Voice); got != int64(len(meta.Frames)) {
			t.Errorf("%d frames, want %d", got, len(meta.Frames))
		}
		var items []lip.Item
		for i, f := range meta.Frames {
			if !long() && !slices.Contains(stored, int64(i)) {
				continue
			}
			it := pasted.add(sources[f.Source], int64(i))
			items = append(items, it)
			inv, _ := e.painter.Matrix(it).Invert()
			for k, corner := range []float64{-0.5, musetalk.Side - 0.5} {
				if x, y := inv.Apply(corner, corner); math.Hypot(x+0.5-f.Box[2*k], y+0.5-f.Box[2*k+1]) > 1e-6 {
					t.Errorf("frame %d: the box has a corner at %g, %g, want %v", i, x+0.5, y+0.5, f.Box)
				}
			}
		}
		process(t, e, items)
		var got, want []*frame.RGB
		var worst float64
		for _, it := range items {
			p, i := pasted.pictures[it.Frame], it.Frame.Index
			var sum int64
			for _, v := range p.Pix {
				sum += int64(v)
			}
			worst = max(worst, math.Abs(float64(sum-meta.Frames[i].Sum))/float64(len(p.Pix)))
			if slices.Contains(stored, i) {
				got, want = append(got, p), append(want, museTalkPicture(t, fmt.Sprintf("video/all_faces_%02d.png", i)))
			}
		}
		compareImages(t, on, "frames of a video", got, want)
		if on.Precision == backend.F32 {
			golden.Check(t, golden.Measurement{Module: "MuseTalk, pipeline", Case: "mean of each frame of a video", Backend: on.String(), Precision: string(on.Precision),
				Measure: "levels", Value: worst, Limit: 0.005})
		}
	})
}
