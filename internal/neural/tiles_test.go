package neural

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

func TestTiling(t *testing.T) {
	for _, c := range []struct {
		side, tile, overlap int
		want                []int
	}{
		{64, 0, 8, []int{0}}, {64, 64, 8, []int{0}}, {64, 80, 8, []int{0}},
		{64, 36, 8, []int{0, 28}},     // just fits
		{64, 32, 8, []int{0, 16, 32}}, // more overlap than asked for
		{64, 48, 8, []int{0, 16}},
		{64, 32, 0, []int{0, 32}},
		{4, 3, 9, []int{0, 1}},
	} {
		if got := newTiling(c.side, c.tile, c.overlap); !slices.Equal(got.starts, c.want) {
			t.Errorf("%+v: %v", c, got.starts)
		}
	}
	for side := 1; side <= 40; side++ {
		for tile := 1; tile <= side; tile++ {
			for overlap := range tile {
				g := newTiling(side, tile, overlap)
				for i, start := range g.starts {
					if i > 0 && g.starts[i-1]+tile-start < overlap {
						t.Fatalf("%d, %d, %d: tiles at %v", side, tile, overlap, g.starts)
					}
				}
				if g.starts[0] != 0 || g.starts[len(g.starts)-1]+g.tile != side {
					t.Fatalf("%d, %d, %d: tiles at %v", side, tile, overlap, g.starts)
				}
			}
		}
	}
}

// layouts are tilings with adjacent tiles, with two tiles over one place and with three.
var layouts = []tiling{newTiling(16, 16, 0), newTiling(16, 8, 0), newTiling(16, 9, 2), newTiling(16, 7, 5), newTiling(5, 4, 3)}

func TestTilingWeights(t *testing.T) {
	for _, g := range layouts {
		for _, unit := range []int{1, 8} {
			sums := make([]float64, unit*g.side)
			for i, w := range g.weights(unit) {
				for k, v := range w {
					if v <= 0 {
						t.Errorf("%+v: tile %d has the weight %g at %d", g, i, v, k)
					}
					sums[unit*g.starts[i]+k] += float64(v)
				}
			}
			for at, s := range sums {
				if math.Abs(s-1) > 1e-6 {
					t.Errorf("%+v: the weights at %d add up to %g", g, at, s)
				}
			}
		}
	}
	// Linear: over an overlap of 4 pixels a tile's share is 1/8, 3/8, 5/8, 7/8.
	w := newTiling(7, 4, 1).weights(4)[1]
	if !slices.Equal(w[:5], []float32{0.125, 0.375, 0.625, 0.875, 1}) {
		t.Errorf("weights %v", w)
	}
}

// enlarge repeats each value of (1, c, h, h) f times each way.
func enlarge(x *tensor.Tensor, f int) *tensor.Tensor {
	c, h := x.Shape[1], x.Shape[2]
	y := tensor.New(tensor.F32, 1, c, f*h, f*h)
	for i := range y.F32() {
		row, column := i/(f*h), i%(f*h)
		y.F32()[i] = x.F32()[(row/(f*h)*h+row%(f*h)/f)*h+column/f]
	}
	return y
}

// reduce takes the first value of each square of f by f.
func reduce(x *tensor.Tensor, f int) *tensor.Tensor {
	c, h := x.Shape[1], x.Shape[2]/f
	y := tensor.New(tensor.F32, 1, c, h, h)
	for i := range y.F32() {
		y.F32()[i] = x.F32()[i/h*f*h*f+i%h*f]
	}
	return y
}

func randoms(seed uint64, n int) []float32 {
	r, v := rand.New(rand.NewPCG(seed, 1)), make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

// eachOf runs a network over the tiles of one square.
func eachOf(ctx context.Context, g tiling, in []float32, channels, unit int, run func(*tensor.Tensor) ([]*tensor.Tensor, error)) ([]float32, error) {
	got, err := g.each(ctx, 1, 1, channels, unit, func(dst []float32, _ int) { copy(dst, in) }, run)
	if err != nil {
		return nil, err
	}
	return got[0], nil
}

// TestTilesLocal checks that tiles do not change the result of a network whose values
// depend only on their own place.
func TestTilesLocal(t *testing.T) {
	const f = 4
	for _, g := range layouts {
		z := tensor.FromF32(randoms(1, 3*g.side*g.side), 1, 3, g.side, g.side)
		calls := 0
		got, err := eachOf(t.Context(), g, z.F32(), 3, 1, func(x *tensor.Tensor) ([]*tensor.Tensor, error) {
			calls++
			return []*tensor.Tensor{enlarge(x, f)}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if whole := enlarge(z, f); !slices.Equal(got, whole.F32()) || calls != g.count() {
			t.Errorf("%+v: decoding in %d tiles differs", g, calls)
		}
		image := tensor.FromF32(randoms(2, 3*f*f*g.side*g.side), 1, 3, f*g.side, f*g.side)
		got, err = eachOf(t.Context(), g, image.F32(), 3, f, func(x *tensor.Tensor) ([]*tensor.Tensor, error) {
			mean, logvar := reduce(x, f), reduce(x, f)
			for i := range logvar.F32() {
				logvar.F32()[i] *= 2
			}
			return []*tensor.Tensor{mean, logvar}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		mean := reduce(image, f).F32()
		want := slices.Clone(mean)
		for _, v := range mean {
			want = append(want, 2*v)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: encoding in tiles differs", g)
		}
	}
}

// TestTilesBatched runs several tiles per call, over the border between two squares.
func TestTilesBatched(t *testing.T) {
	const n, batch = 5, 3
	for _, g := range layouts {
		squares := make([][]float32, n)
		for i := range squares {
			squares[i] = randoms(uint64(i), 2*g.side*g.side)
		}
		calls := 0
		got, err := g.each(t.Context(), n, batch, 2, 1, func(dst []float32, i int) { copy(dst, squares[i]) }, func(x *tensor.Tensor) ([]*tensor.Tensor, error) {
			calls++
			if !slices.Equal(x.Shape, []int{batch, 2, g.tile, g.tile}) {
				t.Errorf("%+v: a call with %v", g, x.Shape)
			}
			return []*tensor.Tensor{x}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := range squares {
			if !slices.Equal(got[i], squares[i]) {
				t.Errorf("%+v: square %d differs", g, i)
			}
		}
		if want := (n*g.count() + batch - 1) / batch; calls != want {
			t.Errorf("%+v: %d calls, want %d", g, calls, want)
		}
	}
}

func TestTilesFail(t *testing.T) {
	g := newTiling(8, 4, 0)
	z := make([]float32, 3*64)
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	_, err := eachOf(ctx, g, z, 3, 1, func(x *tensor.Tensor) ([]*tensor.Tensor, error) {
		calls++
		cancel()
		return []*tensor.Tensor{x}, nil
	})
	if !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("cancelled in the first tile: %v after %d", err, calls)
	}
	broken := errors.New("no memory")
	if _, err = eachOf(t.Context(), g, z, 3, 1, func(*tensor.Tensor) ([]*tensor.Tensor, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("a failed tile: %v", err)
	}
}

// photo returns an image with smooth light and fine detail, [3, r, r] in -1..1.
func photo(r int) []float32 {
	v, fine := make([]float32, 3*r*r), randoms(3, 3*r*r)
	for i := range v {
		c, y, x := float64(i/(r*r)), float64(i/r%r)/float64(r), float64(i%r)/float64(r)
		s := 0.5*math.Sin(5*x+3*y+c) + 0.3*math.Cos(9*y-4*x+2*c) + 0.1*math.Sin(90*x)*math.Cos(70*y) + 0.03*float64(fine[i])
		v[i] = float32(min(max(s, -1), 1))
	}
	return v
}

// coder is a VAE for squares of one size.
type coder struct {
	config network.VAEConfig
	run    func(graph int, flow network.Flow) error // 0 encodes, 1 decodes
}

func newCoder(t testing.TB, b backend.Backend, w *checkpoint.File, precision backend.Precision, latents int, only ...int) coder {
	t.Helper()
	c, err := network.DetectVAE(w)
	if err != nil {
		t.Fatal(err)
	}
	to, side := network.For(b.Name(), backend.Device{ID: "cpu"}, precision.DType()), latents*c.Factor()
	chains := map[int]*network.Chain{}
	for _, i := range only {
		var g *onnx.Graph
		if i == 0 {
			g, err = network.VAEEncoder(c, 1, side, side, w, to)
		} else {
			g, err = network.VAEDecoder(c, 1, latents, latents, w, to)
		}
		if err != nil {
			t.Fatal(err)
		}
		load := network.Loader{Backend: b, Options: backend.Options{Device: "cpu", Precision: precision, Threads: 1}}
		if chains[i], err = load.Load(t.Context(), []*onnx.Graph{g}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = chains[i].Close() })
	}
	return coder{c, func(i int, flow network.Flow) error { return chains[i].Run(t.Context(), 0, 1, flow) }}
}

func (c coder) encode(t testing.TB, picture []float32, g tiling) []float32 {
	t.Helper()
	got, err := eachOf(t.Context(), g, picture, 3, c.config.Factor(), func(x *tensor.Tensor) ([]*tensor.Tensor, error) {
		flow := network.Flow{"image": x}
		err := c.run(0, flow)
		return []*tensor.Tensor{flow["mean"], flow["logvar"]}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (c coder) decode(t testing.TB, latents []float32, g tiling) []float32 {
	t.Helper()
	got, err := eachOf(t.Context(), g, latents, c.config.Latent, 1, func(x *tensor.Tensor) ([]*tensor.Tensor, error) {
		flow := network.Flow{"latents": x}
		err := c.run(1, flow)
		return []*tensor.Tensor{flow["image"]}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestTilesTiny compares tiles of the tiny VAE, whose weights are random, with the whole,
// and checks that a single tile equals the whole.
func TestTilesTiny(t *testing.T) {
	onEach(t, func(t *testing.T, b *backendtest.Cached) {
		w := openPath(t, tinyFiles.VAE)
		for _, c := range []struct {
			side, tile     int     // pixels
			encode, decode float64 // dB
		}{{128, 96, 0, 0}, {256, 160, 0, 0}} {
			whole := newCoder(t, b, w, backend.F32, c.side/8, 0, 1)
			part := newCoder(t, b, w, backend.F32, c.tile/8, 0, 1)
			f := whole.config.Factor()
			if f != 8 {
				t.Fatalf("the tiny VAE has a factor of %d", f)
			}
			one, g := newTiling(c.side/f, 0, 0), newTiling(c.side/f, c.tile/f, 4)
			latents := whole.encode(t, photo(c.side), one)
			mean := latents[:len(latents)/2]
			flow := network.Flow{"latents": tensor.FromF32(mean, 1, 4, c.side/f, c.side/f)}
			if err := whole.run(1, flow); err != nil {
				t.Fatal(err)
			}
			picture := whole.decode(t, mean, one)
			if !slices.Equal(picture, flow["image"].F32()) {
				t.Error("one tile is not the whole")
			}
			for _, m := range []struct {
				what             string
				got, want, limit float64
			}{
				{"mean encoded", golden.Ratio(part.encode(t, photo(c.side), g)[:len(mean)], mean), 0, c.encode},
				{"decoded", golden.Ratio(part.decode(t, mean, g), picture), 0, c.decode},
			} {
				t.Logf("%d pixels %s in tiles of %d: PSNR %.2f dB (limit %g)", c.side, m.what, c.tile, m.got, m.limit)
				if !(m.got >= m.limit) {
					t.Errorf("%d pixels %s in tiles of %d: PSNR %.2f dB, the limit is %g", c.side, m.what, c.tile, m.got, m.limit)
				}
			}
		}
	})
}

// TestTilesFull measures the full-size VAE at 512 pixels, whole and in tiles
// that overlap by 64 pixels or more: PSNR against the whole, seconds, memory.
// It needs a folder with the checkpoint (lipstream models synth makes one):
//
//	LIPSTREAM_FULL=DIR/vae/diffusion_pytorch_model.safetensors go test -run TilesFull -v ./internal/neural
func TestTilesFull(t *testing.T) {
	path := os.Getenv("LIPSTREAM_FULL")
	if path == "" {
		t.Skip("LIPSTREAM_FULL does not name a VAE")
	}
	if how := os.Getenv("LIPSTREAM_FULL_CHILD"); how != "" {
		fullChild(t, path, how)
		return
	}
	dir := t.TempDir()
	child := func(graph int, precision backend.Precision, tile int, in []float32) []float32 {
		file := filepath.Join(dir, "values")
		if err := os.WriteFile(file, tensor.FromF32(in, len(in)).Data, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTilesFull$", "-test.v")
		cmd.Env = append(os.Environ(), fmt.Sprintf("LIPSTREAM_FULL_CHILD=%d %s %d %s", graph, precision, tile, file))
		out, err := cmd.CombinedOutput()
		_, told, found := strings.Cut(string(out), "measured: ")
		if err != nil || !found {
			t.Fatalf("%v\n%s", err, out)
		}
		told, _, _ = strings.Cut(told, "\n")
		t.Log(told)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return (&tensor.Tensor{DType: tensor.F32, Shape: []int{len(data) / 4}, Data: data}).F32()
	}
	var exactly [2][]float32
	for _, precision := range []backend.Precision{backend.F32, backend.BF16} {
		in := photo(512)
		for graph, name := range []string{"encoder", "decoder"} {
			var whole []float32
			for _, tile := range []int{0, 256, 288, 384} {
				got := child(graph, precision, tile, in)
				if graph == 0 {
					got = got[:len(got)/2]
				}
				if tile == 0 {
					whole = got
					if precision == backend.F32 {
						exactly[graph] = got
					}
				}
				t.Logf("%s %s, tiles of %d: PSNR %.2f dB against the whole, %.2f dB against the whole in f32",
					name, precision, tile, golden.Ratio(got, whole), golden.Ratio(got, exactly[graph]))
			}
			in = exactly[graph] // what the decoder gets
		}
	}
}

// fullChild runs a graph of the full-size VAE in a separate process.
func fullChild(t *testing.T, path, how string) {
	var graph, size int
	var precision backend.Precision
	var file string
	if _, err := fmt.Sscan(how, &graph, &precision, &size, &file); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	in := (&tensor.Tensor{DType: tensor.F32, Shape: []int{len(data) / 4}, Data: data}).F32()
	g := newTiling(64, size/8, 8)
	w := openPath(t, path)
	c := newCoder(t, openBackend(t, openvino.Name).Backend, w, precision, g.tile, graph)
	w.Release()
	compiled, held := status(t, "VmHWM:"), status(t, "VmRSS:")
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Fatal(err) // this resets VmHWM
	}
	began := time.Now()
	var out []float32
	if graph == 0 {
		out = c.encode(t, in, g)
	} else {
		out = c.decode(t, in, g)
	}
	took := time.Since(began)
	fmt.Printf("measured: graph %d, %s, %d tiles of %d: %.2f s, peak while computing %d MiB, of which %d before; peak while compiling %d MiB\n",
		graph, precision, g.count(), g.tile*8, took.Seconds(), status(t, "VmHWM:")>>10, held>>10, compiled>>10)
	if err := os.WriteFile(file, tensor.FromF32(out, len(out)).Data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// status returns a figure of /proc/self/status in KiB.
func status(t *testing.T, key string) (kib int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	_, line, _ := strings.Cut(string(text), key)
	if _, err := fmt.Sscan(line, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}
