package neural

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/musetalk"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/settings"
	"github.com/lipstream/lipstream/internal/tensor"
)

// museTalk is the recipe of MuseTalk 1.0 and 1.5 (docs/spec/musetalk.md).
type museTalk struct{}

func (museTalk) name() string { return settings.EngineMuseTalk }
func (museTalk) describe() string {
	return "Fast; generates a new mouth with MuseTalk's networks, in one step a frame"
}

// The frames that are computed together: more take more memory and, on a CPU, hardly less
// time (docs/benchmarks.md).
const (
	museTalkFrames       = 4
	museTalkDeviceFrames = 16
)

func (museTalk) set(o *Options, s settings.Settings, _ profile) {
	if s.FramesPerWindow == nil {
		o.Plan.Frames = museTalkFrames
	}
	// One step without guidance; frames do not depend on each other.
	o.Steps, o.Guidance, o.DeepCache, o.Overlap = 1, 1, 1, 0
}

func (museTalk) identify(_ context.Context, o *Options, set models.Set) error {
	o.Version, o.Resolution = set.Version.Name, cmp.Or(o.Resolution, musetalk.Side)
	if o.Resolution != musetalk.Side {
		return fault.Field("resolution", fmt.Sprint(o.Resolution), fmt.Sprintf("does not suit MuseTalk, which is made for %d pixels", musetalk.Side), "leave `resolution` out")
	}
	return nil
}

func (museTalk) frames(v *audio.Voice) int64 {
	frames, _ := musetalk.OriginalFrames(int64(math.Round(v.Duration()*audio.SampleRate)), 25)
	return frames
}

func (museTalk) deviceFrames(int) int { return museTalkDeviceFrames }

func (museTalk) parity() []parity { return museTalkParity }

func (museTalk) detect(f *checkpoint.File) (network.UNetConfig, error) {
	return network.DetectMuseTalk(f)
}

func (museTalk) fit(c configs, o Options) error {
	if o.Resolution != musetalk.Side {
		return misfit(o.Files.UNet, fmt.Sprintf("leave out `resolution`, or set it to %d", musetalk.Side), "MuseTalk's images have %d pixels, not %d", musetalk.Side, o.Resolution)
	}
	return nil
}

func (museTalk) graphs(c configs, o Options, windows, frames int, w *checkpoint.File, t network.Target) ([]*onnx.Graph, error) {
	return network.MuseTalkUNet(c.unet, network.MuseTalkShape{Frames: windows * frames, Height: c.side(o), Width: c.side(o), Tokens: c.whisper.Tokens()}, w, t)
}

// streamed includes all graphs: each runs once for all windows in flight.
func (museTalk) streamed(int, int) bool { return true }

// state is 0: inputs go to the device with each call, and latents come back.
func (museTalk) state(needs, memory.Plan) int64 { return 0 }

// whisper returns a topology whose last state is normalised (docs/spec/musetalk.md, section
// 3.3).
func (museTalk) whisper(f *checkpoint.File) (network.WhisperConfig, error) {
	return network.DetectMuseTalkWhisper(f)
}

func (museTalk) mel(ctx context.Context, v *audio.Voice, first, columns int64) ([]float32, float32, error) {
	return v.MelSegment(ctx, first, columns)
}

func (museTalk) tokens(f *features, frame, rateNum, rateDen int64, at func(k int64) ([]float32, error)) ([]float32, error) {
	w := musetalk.FrameWindow(frame, rateNum, rateDen, f.voice.MelFrames()/2)
	tokens, err := w.Tokens(f.config.Features()*f.config.State, at)
	if err != nil {
		return nil, err
	}
	if f.code == nil {
		f.code = musetalk.Positions(len(tokens)/f.config.State, f.config.State)
	}
	for i, v := range f.code {
		tokens[i] += v
	}
	return tokens, nil
}

func (museTalk) crops(o Options) crops { return &musetalk.Crops{Original: o.Whole} }

func (museTalk) generator(c configs, o Options, s *networks) generator {
	g := &oneStep{o: o, configs: c}
	g.net = s.add(model{name: workUNet, streamed: museTalk{}.streamed, batch: 1, file: func(f Files) string { return f.UNet }, precision: planned, stored: storedUNet,
		build: func(w *checkpoint.File, frames int, t network.Target) ([]*onnx.Graph, error) {
			return museTalk{}.graphs(c, o, g.net.batch, frames, w, t)
		}})
	return g
}

// oneStep computes latents with one run of MuseTalk's UNet. Frames do not depend on each
// other; a window is only a number of them.
type oneStep struct {
	configs
	o   Options
	net *model
}

// network implements generator.
func (g *oneStep) network(frames int) use {
	if g.o.Batched {
		g.net.batch = g.net.networks.plan().Windows
	}
	return use{g.net, frames}
}

// windows implements generator.
func (g *oneStep) windows(ctx context.Context, list []input) ([][][]float32, error) {
	size := len(list[0].frames)
	if err := g.net.networks.load(ctx, g.network(size)); err != nil {
		return nil, err
	}
	began := time.Now()
	var frames []condition
	for _, w := range list {
		frames = append(frames, w.frames...)
	}
	latents, err := g.run(ctx, frames, size*g.net.batch)
	if err != nil {
		return nil, err
	}
	for i, x := range latents {
		if err := finite(x); err != nil {
			return nil, broken("generate", fmt.Sprintf("frame %d", list[i/size].first+int64(i%size)), err)
		}
	}
	g.net.networks.note(workWindow, int64(len(list)), time.Since(began), 0)
	return slices.Collect(slices.Chunk(latents, size)), nil
}

// run returns the latents of frames. Each call of the UNet takes n of them. If fewer are
// left, the last frame is repeated.
func (g *oneStep) run(ctx context.Context, frames []condition, n int) ([][]float32, error) {
	side := g.side(g.o)
	var flows []network.Flow
	for part := range slices.Chunk(frames, n) {
		sample, tokens := tensor.New(tensor.F32, n, g.unet.In, side, side), tensor.New(tensor.F32, n, g.whisper.Tokens(), g.unet.AudioDim)
		for i := range n {
			f := part[min(i, len(part)-1)]
			copy(batchItem(sample, i), f.latents)
			copy(batchItem(tokens, i), f.tokens)
		}
		flows = append(flows, network.Flow{"sample": sample, "audio": tokens})
	}
	if err := g.net.whole(ctx, flows...); err != nil {
		return nil, err
	}
	out := make([][]float32, len(frames))
	for i := range out {
		out[i] = batchItem(flows[i/n]["latents"], i%n)
	}
	return out, nil
}

// estimate implements generator.
func (g *oneStep) estimate(ctx context.Context, e *lip.Estimate) (window time.Duration, err error) {
	size := g.net.networks.plan().Frames
	if err := g.net.networks.load(ctx, g.network(size)); err != nil {
		return 0, err
	}
	side := g.side(g.o)
	empty := condition{make([]float32, g.unet.In*side*side), make([]float32, g.whisper.Tokens()*g.unet.AudioDim)}
	took, err := second(func() error {
		_, err := g.run(ctx, []condition{empty}, size*g.net.batch)
		return err
	})
	if err != nil {
		return 0, err
	}
	took /= time.Duration(g.net.batch)
	e.Stages = append(e.Stages, lip.EstimateStage{Name: "UNet", Memory: g.net.networks.most(workUNet), Seconds: rounded(took), Per: fmt.Sprintf("%d frames", size)})
	return took, nil
}
