package syncnet

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/backend/sharedtest"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/restorer/restorertest"
	"github.com/lipstream/lipstream/internal/tensor"
)

func TestMain(m *testing.M) { sharedtest.Main(m) }

// reference is testdata/golden.json, which testdata/golden.py has made.
type reference struct {
	Samples []byte      // 16 bits each, little endian
	MFCC    [][]float32 `json:"mfcc"`
	Tracks  []struct {
		Lips, Sounds                 [][]float32
		Offset, Confidence, Distance float64
	}
	Boxes, Medfilt []float64
}

func readReference(t *testing.T) (r reference) {
	t.Helper()
	golden.ReadJSON(t, "testdata/golden.json", &r)
	return r
}

// TestMFCC compares with python_speech_features, however the sound arrives.
func TestMFCC(t *testing.T) {
	r := readReference(t)
	sound := make([]int16, len(r.Samples)/2)
	for i := range sound {
		sound[i] = int16(binary.LittleEndian.Uint16(r.Samples[2*i:]))
	}
	for _, piece := range []int{len(sound), FrameSamples, 7} {
		var m mfcc
		var got, want []float32
		for at := 0; at < len(sound); at += piece {
			for _, c := range m.write(sound[at:min(at+piece, len(sound))]) {
				got = append(got, c[:]...)
			}
		}
		for _, c := range r.MFCC[:len(r.MFCC)-1] { // the sound does not fill the last
			want = append(want, c...)
		}
		golden.Check(t, golden.Measurement{Module: "SyncNet", Case: fmt.Sprintf("MFCC, %d samples at a time", piece), Measure: "max abs", Value: golden.MaxAbs(got, want), Limit: 1e-5})
	}
}

// TestScores compares with numpy, at several offsets and with a stretch of little more
// than the reach.
func TestScores(t *testing.T) {
	for _, track := range readReference(t).Tracks {
		s := newScorer()
		for i := range track.Lips {
			s.add(track.Lips[i], track.Sounds[i])
		}
		got, ok := s.score()
		if !ok || got.Offset != track.Offset || got.Windows != len(track.Lips) ||
			math.Abs(got.Confidence-track.Confidence) > 1e-6 || math.Abs(got.Distance-track.Distance) > 1e-6 {
			t.Errorf("got %+v, want %v, %v, %v", got, track.Confidence, track.Distance, track.Offset)
		}
	}
	if _, ok := newScorer().score(); ok {
		t.Error("there is no score of nothing")
	}
	got, ok := Mean([]Score{{2, 8, 1, 10}, {4, 6, -1, 30}})
	if _, none := Mean(nil); !ok || none || got != (Score{3, 7, 0, 40}) {
		t.Errorf("mean %+v", got)
	}
}

func TestSmooth(t *testing.T) {
	r := readReference(t)
	boxes := make([]Box, len(r.Boxes))
	for i, v := range r.Boxes {
		boxes[i] = Box{v, 2 * v, v / 2}
	}
	for i, b := range Smooth(boxes) {
		if want := r.Medfilt[i]; b != (Box{want, 2 * want, want / 2}) {
			t.Errorf("box %d: %v, want %v", i, b, want)
		}
	}
}

// TestCrop cuts a face out of a frame whose colours are their places.
func TestCrop(t *testing.T) {
	f := frame.NewRGB(200, 160)
	for y := range f.H {
		for x := range f.W {
			copy(f.Pix[3*(y*f.W+x):], []byte{byte(x), byte(y), 0})
		}
	}
	at := func(p *frame.RGB, x, y int) [3]byte { return [3]byte(p.Pix[3*(y*p.W+x):]) }
	// Of 112 x 112 pixels from (44, 30): enlarged twice, with the edges repeated.
	crop := Crop(f, Box{X: 100, Y: 70, Half: 40})
	for _, tt := range []struct{ x, y, atX, atY int }{{0, 0, 44, 30}, {223, 223, 155, 141}, {1, 1, 44, 30}, {100, 60, 94, 60}} {
		got := at(crop, tt.x, tt.y)
		if math.Abs(float64(got[0])-float64(tt.atX)) > 0.5 || math.Abs(float64(got[1])-float64(tt.atY)) > 0.5 {
			t.Errorf("pixel (%d, %d) shows %v, want %d, %d", tt.x, tt.y, got, tt.atX, tt.atY)
		}
	}
	// Across the corner of the frame: grey outside.
	crop = Crop(f, Box{X: 10, Y: 10, Half: 40})
	if got := at(crop, 0, 0); got != [3]byte{110, 110, 110} {
		t.Errorf("outside is %v", got)
	}
	if got := at(crop, 223, 223); got[0] < 60 || got[2] != 0 {
		t.Errorf("inside is %v", got)
	}
	if got := Crop(f, Box{}); got.W != cropSide || got.H != cropSide {
		t.Errorf("a box without a size gives %d x %d", got.W, got.H)
	}
}

// layers adds random layers to a graph.
type layers struct {
	*onnx.Graph
	rng *rand.Rand
}

func (g layers) random(shape ...int) onnx.Value {
	v := make([]float32, tensor.Volume(shape))
	scale := math.Sqrt(2 / float64(tensor.Volume(shape[1:])))
	for i := range v {
		v[i] = float32(g.rng.NormFloat64() * scale)
	}
	return g.Floats(v, shape...)
}

func (g layers) conv(x onnx.Value, out, in int, kernel, strides, pads []int64) onnx.Value {
	shape := []int{out, in}
	for _, k := range kernel {
		shape = append(shape, int(k))
	}
	y := g.Op("Conv", []onnx.Value{x, g.random(shape...)}, onnx.Ints("kernel_shape", kernel...),
		onnx.Ints("strides", strides...), onnx.Ints("pads", append(pads, pads...)...))
	return g.Op("Relu", []onnx.Value{y})
}

func (g layers) pool(x onnx.Value, kernel, strides, pads []int64) onnx.Value {
	return g.Op("MaxPool", []onnx.Value{x}, onnx.Ints("kernel_shape", kernel...),
		onnx.Ints("strides", strides...), onnx.Ints("pads", append(pads, pads...)...))
}

// head adds the fully connected layers, and makes the result an output.
func (g layers) head(x onnx.Value, name string, channels, values int) {
	x = g.Op("Flatten", []onnx.Value{x}, onnx.Int("axis", 1))
	x = g.Op("Relu", []onnx.Value{g.Op("Gemm", []onnx.Value{x, g.random(channels, channels), g.random(channels)})})
	x = g.Op("Gemm", []onnx.Value{x, g.random(channels, values), g.random(values)})
	g.Output(name, x, tensor.F32, -1, values)
}

// lips adds SyncNet's stream of the lips, with a sixteenth of its channels.
func (g layers) lips() {
	const thin = 16
	shape := append([]int{-1}, lipShape[1:]...)
	// Like the original's batch normalisation, keep values of 0..255 small.
	x := g.Op("Mul", []onnx.Value{g.Input("lip", tensor.F32, shape...), g.Scalar(1.0 / 255)})
	one := []int64{1, 1, 1}
	x = g.conv(x, 96/thin, 3, []int64{5, 7, 7}, []int64{1, 2, 2}, []int64{0, 0, 0})
	x = g.pool(x, []int64{1, 3, 3}, []int64{1, 2, 2}, []int64{0, 0, 0})
	x = g.conv(x, 256/thin, 96/thin, []int64{1, 5, 5}, []int64{1, 2, 2}, []int64{0, 1, 1})
	x = g.pool(x, []int64{1, 3, 3}, []int64{1, 2, 2}, []int64{0, 1, 1})
	for range 3 {
		x = g.conv(x, 256/thin, 256/thin, []int64{1, 3, 3}, one, []int64{0, 1, 1})
	}
	x = g.pool(x, []int64{1, 3, 3}, []int64{1, 2, 2}, []int64{0, 0, 0})
	x = g.conv(x, 512/thin, 256/thin, []int64{1, 6, 6}, one, []int64{0, 0, 0})
	g.head(x, "lip_embedding", 512/thin, 1024/thin)
}

// sound adds the stream of the sound.
func (g layers) sound() {
	const thin = 16
	shape := append([]int{-1}, soundShape[1:]...)
	x := g.Op("Mul", []onnx.Value{g.Input("aud", tensor.F32, shape...), g.Scalar(1.0 / 20)})
	one, around := []int64{1, 1}, []int64{1, 1}
	x = g.conv(x, 64/thin, 1, []int64{3, 3}, one, around)
	x = g.conv(x, 192/thin, 64/thin, []int64{3, 3}, one, around)
	x = g.pool(x, []int64{3, 3}, []int64{1, 2}, []int64{0, 0})
	x = g.conv(x, 384/thin, 192/thin, []int64{3, 3}, one, around)
	x = g.conv(x, 256/thin, 384/thin, []int64{3, 3}, one, around)
	x = g.conv(x, 256/thin, 256/thin, []int64{3, 3}, one, around)
	x = g.pool(x, []int64{3, 3}, []int64{2, 2}, []int64{0, 0})
	x = g.conv(x, 512/thin, 256/thin, []int64{5, 4}, one, []int64{0, 0})
	g.head(x, "aud_embedding", 512/thin, 1024/thin)
}

// write writes a graph with these streams to a file.
func write(t *testing.T, streams ...func(layers)) string {
	t.Helper()
	g := onnx.New("syncnet")
	for _, add := range streams {
		add(layers{g, rand.New(rand.NewPCG(1, 2))})
	}
	path := filepath.Join(t.TempDir(), "syncnet.onnx")
	if err := os.WriteFile(path, g.Encode(nil), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestNetwork runs a random network of SyncNet's shape on both backends: in one file, in
// two, and with the sound first.
func TestNetwork(t *testing.T) {
	files := [][]string{
		{write(t, layers.lips, layers.sound)}, {write(t, layers.sound), write(t, layers.lips)}, {write(t, layers.sound, layers.lips)},
	}
	var first *Score
	sharedtest.OnEach(t, func(t *testing.T, on sharedtest.Target) {
		for _, paths := range files {
			got := scoreOf(t, on, paths)
			if first == nil {
				first = &got
			}
			if math.Abs(got.Confidence-first.Confidence) > 1e-3 || math.Abs(got.Distance-first.Distance) > 1e-3 || got.Windows != first.Windows {
				t.Errorf("%+v, before %+v", got, *first)
			}
			if !(got.Distance > 0) || !(got.Confidence > 0) || got.Windows != 20 {
				t.Errorf("%+v", got)
			}
		}
	})
}

// scoreOf scores frames of noise.
func scoreOf(t *testing.T, on sharedtest.Target, paths []string) Score {
	t.Helper()
	net, err := Open(t.Context(), on, paths, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = net.Close() }()
	s := net.NewStretch()
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range 25 {
		crop, sound := frame.NewRGB(cropSide, cropSide), make([]int16, FrameSamples)
		for k := range crop.Pix {
			crop.Pix[k] = byte(rng.IntN(1 + 10*i))
		}
		for k := range sound {
			sound[k] = int16(rng.IntN(1+1000*i) - 500*i)
		}
		if err := s.Push(t.Context(), crop, sound); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := s.Score()
	return got
}

// TestWindow checks what the network gets: five frames as blue, green and red, and the 20
// columns of sound that begin with the first of them.
func TestWindow(t *testing.T) {
	n := &Network{lip: tensor.New(tensor.F32, lipShape...), sound: tensor.New(tensor.F32, soundShape...)}
	s := n.NewStretch()
	for i := range clip {
		crop := frame.NewRGB(cropSide, cropSide)
		for k := range cropSide * cropSide {
			copy(crop.Pix[3*k:], []byte{byte(100 + i), byte(50 + i), byte(i)})
		}
		s.crops = append(s.crops, crop)
	}
	for i := range columns {
		s.sound = append(s.sound, column{float32(i), 12: float32(-i)})
	}
	s.fill()
	lip, sound := n.lip.F32(), n.sound.F32()
	for c, want := range []float32{0, 50, 100} { // blue first
		for i := range clip {
			if got := lip[(c*clip+i)*cropSide*cropSide+7]; got != want+float32(i) {
				t.Errorf("plane %d of frame %d is %v", c, i, got)
			}
		}
	}
	if sound[19] != 19 || sound[12*columns+3] != -3 {
		t.Errorf("the sound is %v", sound)
	}
}

func TestOpenRefuses(t *testing.T) {
	b := sharedtest.Open(t, openvino.Name)
	image := func(g layers) {
		g.Output("y", g.Input("x", tensor.F32, 1, 3, 112, 112), tensor.F32, 1, 3, 112, 112)
	}
	text := filepath.Join(t.TempDir(), "text.onnx")
	if err := os.WriteFile(text, []byte("no network"), 0o600); err != nil {
		t.Fatal(err)
	}
	external := filepath.Join(t.TempDir(), "external.onnx")
	if err := os.WriteFile(external, restorertest.External("../../secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), b, []string{external}, 1); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "its weights are in another file") {
		t.Errorf("external weights: %v", err)
	}
	small := func(g layers) { g.Output("y", g.Input("x", tensor.F32, soundShape...), tensor.F32, soundShape...) }
	for name, paths := range map[string][]string{
		"no file": {filepath.Join(t.TempDir(), "none.onnx")}, "no network": {text}, "another network": {write(t, image)},
		"one stream": {write(t, small)}, "a stream twice": {write(t, small), write(t, small)}, "nothing": nil,
	} {
		n, err := Open(t.Context(), b, paths, 1)
		if n != nil || fault.KindOf(err) != fault.Input {
			t.Errorf("%s: %v", name, err)
		}
	}
}
