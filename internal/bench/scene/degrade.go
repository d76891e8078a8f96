package scene

import (
	"bytes"
	"context"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"

	"github.com/lipstream/lipstream/internal/bench/ffmpeg"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
)

// light multiplies the brightness by gain and adds offset.
func light(gain, offset float64) func(*frame.RGB, *rand.Rand) {
	return func(p *frame.RGB, _ *rand.Rand) {
		for i, v := range p.Pix {
			p.Pix[i] = byte(min(max(gain*float64(v)+offset+0.5, 0), 255))
		}
	}
}

// noise adds normally distributed noise, in levels.
func noise(deviation float64) func(*frame.RGB, *rand.Rand) {
	return func(p *frame.RGB, rng *rand.Rand) {
		for i, v := range p.Pix {
			p.Pix[i] = byte(min(max(float64(v)+deviation*rng.NormFloat64()+0.5, 0), 255))
		}
	}
}

// both does one after the other.
func both(a, b func(*frame.RGB, *rand.Rand)) func(*frame.RGB, *rand.Rand) {
	return func(p *frame.RGB, rng *rand.Rand) { a(p, rng); b(p, rng) }
}

// blur is a Gaussian with the given deviations in pixels, to the side and downwards.
func blur(sx, sy float64) func(*frame.RGB, *rand.Rand) {
	return func(p *frame.RGB, _ *rand.Rand) {
		pass(p, sx, 1, 0)
		pass(p, sy, 0, 1)
	}
}

// pass blurs in one direction.
func pass(p *frame.RGB, s float64, dx, dy int) {
	if s == 0 {
		return
	}
	n := int(3 * s)
	var kernel []float64
	sum := 0.0
	for k := -n; k <= n; k++ {
		kernel = append(kernel, math.Exp(-float64(k*k)/(2*s*s)))
		sum += kernel[len(kernel)-1]
	}
	src := bytes.Clone(p.Pix)
	for y := range p.H {
		for x := range p.W {
			var v [3]float64
			for k, w := range kernel {
				u := min(max(x+(k-n)*dx, 0), p.W-1)
				t := min(max(y+(k-n)*dy, 0), p.H-1)
				for c := range v {
					v[c] += w * float64(src[3*(t*p.W+u)+c])
				}
			}
			for c := range v {
				p.Pix[3*(y*p.W+x)+c] = byte(v[c]/sum + 0.5)
			}
		}
	}
}

// jpegQuality compresses each frame.
func jpegQuality(q int) func(*frame.RGB, *rand.Rand) {
	return func(p *frame.RGB, _ *rand.Rand) {
		var b bytes.Buffer
		// Neither can fail: the image is small, and what is decoded was just encoded.
		_ = jpeg.Encode(&b, p.Image(), &jpeg.Options{Quality: q})
		m, err := jpeg.Decode(&b)
		if err == nil {
			copy(p.Pix, FromImage(m).Pix)
		}
	}
}

// blocks covers the frame with rectangles of random colours.
func blocks(p *frame.RGB, rng *rand.Rand) {
	for range 400 {
		x, y, w, h := rng.IntN(p.W), rng.IntN(p.H), 5+rng.IntN(60), 5+rng.IntN(60)
		rgb := [3]byte{byte(rng.IntN(256)), byte(rng.IntN(256)), byte(rng.IntN(256))}
		for v := y; v < min(y+h, p.H); v++ {
			for u := x; u < min(x+w, p.W); u++ {
				copy(p.Pix[3*(v*p.W+u):], rgb[:])
			}
		}
	}
}

// waves fills the frame with a pattern of light and shade.
func waves(p *frame.RGB, _ *rand.Rand) {
	for i := range p.Pix {
		x, y := float64(i/3%p.W), float64(i/3/p.W)
		p.Pix[i] = byte(128 + 60*math.Sin(x/17)*math.Cos(y/23) + 40*math.Sin((x+y)/31))
	}
}

// transcode encodes the frames and decodes them again.
func transcode(ctx context.Context, tools media.Tools, codec []string, shots []Shot) error {
	dir, err := os.MkdirTemp("", "lipstream-bench-*")
	if err != nil {
		return fault.Output.Wrap("make a temporary folder", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var raw []byte
	for _, s := range shots {
		raw = append(raw, s.Image.Pix...)
	}
	in, coded, out := filepath.Join(dir, "in.rgb"), filepath.Join(dir, "coded.mkv"), filepath.Join(dir, "out.rgb")
	if err := os.WriteFile(in, raw, 0o600); err != nil {
		return fault.Output.Wrap("write "+in, fault.WithoutPath(err))
	}
	format := []string{"-f", "rawvideo", "-pix_fmt", "rgb24"}
	size := strconv.Itoa(Side) + "x" + strconv.Itoa(Side)
	for _, args := range [][]string{
		append(append(append(format, "-s", size, "-r", "25", "-i", in), codec...), coded),
		append(append([]string{"-i", coded}, format...), out),
	} {
		if _, err := ffmpeg.Run(ctx, tools, args...); err != nil {
			return err
		}
	}
	decoded, err := os.ReadFile(out)
	if err != nil {
		return fault.Output.Wrap("read "+out, fault.WithoutPath(err))
	}
	if len(decoded) != len(raw) {
		return fault.Internal.New("compress the test clip", "ffmpeg returned another number of frames")
	}
	for i, s := range shots {
		copy(s.Image.Pix, decoded[i*len(s.Image.Pix):])
	}
	return nil
}
