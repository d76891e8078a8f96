package neural

import (
	"cmp"
	"context"
	"fmt"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/sampler"
	"github.com/lipstream/lipstream/internal/settings"
)

// recipe is what differs from one engine to another.
type recipe interface {
	// name returns the value of the setting `engine`.
	name() string
	// describe returns one sentence for people who choose an engine.
	describe() string
	// set sets the options that only this engine has, from settings and profile.
	set(o *Options, s settings.Settings, p profile)
	// identify sets the version and the resolution from the checkpoints.
	identify(ctx context.Context, o *Options, set models.Set) error
	// frames returns how many frames the original makes for a voice.
	frames(v *audio.Voice) int64
	// deviceFrames returns the frames of a window on a GPU, given those on a CPU.
	deviceFrames(onCPU int) int
	// parity lists the behaviours of the original that can be selected.
	parity() []parity
	// detect checks the checkpoint of the UNet and returns its topology.
	detect(f *checkpoint.File) (network.UNetConfig, error)
	// fit returns an error if the UNet does not fit the other checkpoints or the options.
	fit(c configs, o Options) error
	// graphs returns the UNet for a number of windows, of so many frames each, in one
	// call. w is nil if only their sizes matter.
	graphs(c configs, o Options, windows, frames int, w *checkpoint.File, t network.Target) ([]*onnx.Graph, error)
	// streamed reports whether graph i of the UNet's n graphs is loaded only while it runs
	// if the plan is memory.OffloadSequential. The others stay loaded.
	streamed(i, n int) bool
	// state returns the size of the tensors that stay on a device between two runs of the
	// UNet under a plan, in bytes.
	state(n needs, p memory.Plan) int64
	// whisper checks the checkpoint of Whisper and returns the topology of its encoder.
	whisper(f *checkpoint.File) (network.WhisperConfig, error)
	// mel returns columns of the voice's log-mel, as Whisper hears them, and the value of
	// silence in them.
	mel(ctx context.Context, v *audio.Voice, first, columns int64) (mel []float32, silence float32, err error)
	// tokens returns the tokens of a frame, [tokens, State], from the features around it.
	tokens(f *features, frame, rateNum, rateDen int64, at func(k int64) ([]float32, error)) ([]float32, error)
	crops(o Options) crops
	// generator returns what computes the latents, and adds its networks to s.
	generator(c configs, o Options, s *networks) generator
}

// latentSync is the recipe of LatentSync 1.5 and 1.6 (docs/spec/latentsync.md).
type latentSync struct{}

func (latentSync) name() string { return settings.EngineLatentSync }
func (latentSync) describe() string {
	return "Best; generates a new mouth with LatentSync's networks"
}

func (latentSync) set(o *Options, s settings.Settings, p profile) {
	l := s.LatentSync
	o.Sampler = cmp.Or(l.Sampler, p.sampler)
	o.Steps = given(l.Steps, p.steps)
	o.Guidance = given(l.Guidance, p.guidance)
	o.DeepCache = given(l.DeepCache, p.deepCache)
	o.GuidanceFrom, o.GuidanceTo = given(l.GuidanceFrom, 0), given(l.GuidanceTo, 0)
	o.GuidanceThreshold, o.DeepCacheThreshold = given(l.GuidanceThreshold, 0), given(l.DeepCacheThreshold, 0)
	o.GuidanceEvery = given(l.GuidanceEvery, 1)
	if l.GuidanceTo != nil && *l.GuidanceTo == 0 { // no step has guidance
		o.Guidance = 1
	}
	o.Overlap = given(l.Overlap, min(o.Overlap, o.Plan.Frames/2))
}

func (latentSync) identify(ctx context.Context, o *Options, set models.Set) error {
	version, err := models.Identify(ctx, set.UNet)
	if err != nil {
		return err
	}
	if o.Resolution = cmp.Or(o.Resolution, version.Resolution); o.Resolution == 0 {
		// A file that is a web page, half a download or another network deserves a
		// more precise error.
		if _, err := models.Inspect(ctx, set.UNet, models.InspectOptions{}); err != nil {
			return err
		}
		return fault.Usage.New("use the checkpoint "+set.UNet, "it can be LatentSync 1.5 or 1.6, whose tensors are alike",
			"set `resolution` to 256 for 1.5, or to 512 for 1.6")
	}
	o.Version = version.Name
	return version.CheckResolution(o.Resolution)
}

func (latentSync) frames(v *audio.Voice) int64 { return audio.Windows(v.MelFrames() / 2) }

func (latentSync) deviceFrames(onCPU int) int { return onCPU }

func (latentSync) parity() []parity { return latentSyncParity }

func (latentSync) detect(f *checkpoint.File) (network.UNetConfig, error) {
	return network.DetectUNet(f)
}

func (latentSync) fit(c configs, o Options) error {
	if o.Plan.Frames > c.unet.Positions {
		return misfit(o.Files.UNet, "use a smaller `frames_per_window`", "its positional encoding takes %d frames, but the window has %d", c.unet.Positions, o.Plan.Frames)
	}
	return nil
}

func (latentSync) graphs(c configs, o Options, windows, frames int, w *checkpoint.File, t network.Target) ([]*onnx.Graph, error) {
	u, err := network.NewUNet(c.unet, network.UNetShape{
		Batch: windows * o.halves(), Frames: frames, Latent: c.side(o), Tokens: c.whisper.Tokens(), Hears: o.hears(),
	}, w, t)
	if err != nil {
		return nil, err
	}
	return u.Graphs, nil
}

// streamed excludes the first and the last graph. They are small, and DeepCache runs them
// alone.
func (latentSync) streamed(i, n int) bool { return i > 0 && i < n-1 }

// state counts the latents, the UNet's input, the noise, the audio and DeepCache's
// features.
func (latentSync) state(n needs, p memory.Plan) int64 {
	frames, halves, pixels := n.shape(p)
	c, activations := n.configs.unet, n.o.target(planned(p), p).Activations.Size()
	state := 4 * pixels * (c.In*halves + c.In + 2*c.Out + c.Out*halves)
	if n.o.DeepCache > 1 {
		state += activations * pixels * c.Channels[0] * halves
	}
	return int64(frames) * int64(state+4*n.configs.whisper.Tokens()*c.AudioDim*halves)
}

func (latentSync) whisper(f *checkpoint.File) (network.WhisperConfig, error) {
	return network.DetectWhisper(f)
}

func (latentSync) mel(ctx context.Context, v *audio.Voice, first, columns int64) ([]float32, float32, error) {
	mel, err := v.Mel(ctx, first, columns)
	return mel, v.Silence(), err
}

// tokens joins the features around the frame (docs/spec/latentsync.md, section 2.5).
func (latentSync) tokens(f *features, frame, rateNum, rateDen int64, at func(k int64) ([]float32, error)) ([]float32, error) {
	out := make([]float32, 0, f.config.Tokens()*f.config.State)
	for _, k := range audio.FeatureIndices(frame, rateNum, rateDen, f.voice.MelFrames()/2) {
		v, err := at(k)
		if err != nil {
			return nil, err
		}
		out = append(out, v...)
	}
	return out, nil
}

func (latentSync) crops(o Options) crops { return newAligned(o) }

func (latentSync) generator(c configs, o Options, s *networks) generator {
	side := c.side(o)
	d := &denoiser{
		o: o, configs: c, latent: side,
		mask: face.LatentMask(o.Resolution, c.encoder.Factor), noise: make([]float32, c.unet.Out*side*side),
	}
	sampler.Noise(d.noise, o.Seed, 0, 0)
	d.net, d.steps = s.add(d.model()), s.add(d.stepModel())
	if o.Batched {
		d.net.batch = s.plan().Windows
	}
	return d
}

// misfit returns the error for checkpoints that do not fit each other or the options.
func misfit(path, hint, format string, a ...any) error {
	return fault.Input.New("use the checkpoint "+path, fmt.Sprintf(format, a...), hint)
}
