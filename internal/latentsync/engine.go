package latentsync

import (
	"context"
	"errors"
	"strconv"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/latentsync/network"
	"github.com/lipstream/lipstream/internal/latentsync/sampler"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/onnx"
)

// Engine implements lip.Engine. It is not for concurrent use.
type Engine struct {
	o        Options
	files    []*checkpoint.File
	features *features
	painter  *painter
	denoiser *denoiser

	shot  shot
	track int
	out   []lip.Item
}

// New opens the checkpoints, checks them and compiles the networks.
func New(ctx context.Context, o Options) (e *Engine, err error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	e = &Engine{o: o, shot: shot{window: o.Window, overlap: o.Overlap, short: o.Short}}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	configs, err := e.open()
	if err != nil {
		return e, err
	}
	if err := configs.fit(o); err != nil {
		return e, err
	}
	unet, vae, whisper := e.files[0], e.files[1], e.files[2]

	// The UNet comes first: compiling it takes the most memory.
	side := o.Resolution / configs.vae.Factor()
	e.denoiser = &denoiser{o: o, weights: unet, config: configs.unet, latent: side, tokens: configs.whisper.Tokens()}
	e.denoiser.noise = make([]float32, configs.unet.Out*side*side)
	sampler.Noise(e.denoiser.noise, o.Seed, 0, 0)
	if err := e.denoiser.load(ctx, o.Window); err != nil {
		return e, err
	}
	load := func(weights *checkpoint.File, precision backend.Precision, g *onnx.Graph, err error) (*network.Chain, error) {
		if err != nil {
			return nil, fault.Wrap(fault.Input, "build network from", weights.Path(), err, "")
		}
		options := backend.Options{Device: o.Device, Precision: precision, Threads: o.Threads}
		return network.Load(ctx, o.Backend, []*onnx.Graph{g}, options, func(*onnx.Graph) { weights.Release() })
	}
	target := network.For(o.Backend.Name(), o.Precision.DType())
	e.painter = newPainter(o, configs.vae)
	g, err := network.VAEEncoder(configs.vae, 1, o.Resolution, o.Resolution, vae, target)
	if e.painter.encoder, err = load(vae, o.Precision, g, err); err != nil {
		return e, err
	}
	g, err = network.VAEDecoder(configs.vae, 1, side, side, vae, target)
	if e.painter.decoder, err = load(vae, o.Precision, g, err); err != nil {
		return e, err
	}
	e.features = &features{voice: o.Voice, speech: o.Speech, config: configs.whisper, overlap: o.WhisperOverlap, windows: map[int64][]float32{}}
	g, err = network.Whisper(configs.whisper, whisper, network.For(o.Backend.Name(), exact(o).DType()))
	e.features.chain, err = load(whisper, exact(o), g, err)
	return e, err
}

// exact is the precision of Whisper, which takes no time worth saving.
func exact(o Options) backend.Precision {
	if o.Precision == backend.BF16 {
		return backend.F32
	}
	return o.Precision
}

// configs are the topologies of the checkpoints.
type configs struct {
	unet    network.UNetConfig
	vae     network.VAEConfig
	whisper network.WhisperConfig
}

// open opens and checks the checkpoints: UNet, VAE, Whisper.
func (e *Engine) open() (c configs, err error) {
	for _, path := range []string{e.o.Files.UNet, e.o.Files.VAE, e.o.Files.Whisper} {
		f, err := checkpoint.Open(path)
		if err != nil {
			return c, err
		}
		e.files = append(e.files, f)
	}
	if c.unet, err = network.DetectUNet(e.files[0]); err != nil {
		return c, err
	}
	if c.vae, err = network.DetectVAE(e.files[1]); err != nil {
		return c, err
	}
	c.whisper, err = network.DetectWhisper(e.files[2])
	return c, err
}

// fit refuses checkpoints that do not belong together.
func (c configs) fit(o Options) error {
	apart := func(subject, cause, hint string) error {
		return fault.New(fault.Input, "use checkpoints", subject, cause, hint)
	}
	switch {
	case c.whisper.Mels != audio.MelBands:
		return apart(o.Files.Whisper, "it listens to "+strconv.Itoa(c.whisper.Mels)+" bands of frequencies, LatentSync to "+strconv.Itoa(audio.MelBands), "take Whisper tiny")
	case c.unet.AudioDim != c.whisper.State:
		return apart(o.Files.Whisper, "its features are "+strconv.Itoa(c.whisper.State)+" wide, the UNet takes "+strconv.Itoa(c.unet.AudioDim),
			"Whisper tiny (384) belongs to LatentSync 1.5 and 1.6, small (768) to some others")
	case c.unet.Out != c.vae.Latent:
		return apart(o.Files.VAE, "its latents have "+strconv.Itoa(c.vae.Latent)+" channels, the UNet takes "+strconv.Itoa(c.unet.Out), "take stabilityai/sd-vae-ft-mse")
	case o.Window > c.unet.Positions:
		return apart(o.Files.UNet, "its positional encoding takes "+strconv.Itoa(c.unet.Positions)+" frames, the window has "+strconv.Itoa(o.Window), "use a smaller --window")
	case o.Resolution/c.vae.Factor()%(1<<(len(c.unet.Channels)-1)) != 0:
		return apart(o.Files.UNet, "its levels do not divide "+strconv.Itoa(o.Resolution)+" pixels", "use --resolution 256 or 512")
	}
	return nil
}

// Name is "latentsync", with the version where it is known.
func (e *Engine) Name() string { return e.o.Name() }

// Hold is a window less one frame.
func (e *Engine) Hold() int { return e.o.Window - 1 }

// Push takes a frame and gives those whose window is complete.
func (e *Engine) Push(ctx context.Context, it lip.Item) ([]lip.Item, error) {
	e.out = e.out[:0]
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cut := it.Cut || it.Face != nil && it.Face.Track != e.track
	if cut && !e.o.IgnoreCuts {
		if err := e.end(ctx); err != nil {
			return nil, err
		}
	}
	var m frame.Affine
	if it.Face != nil {
		m = e.painter.matrix(it)
		if _, ok := m.Invert(); !ok {
			it.Face = nil
		}
	}
	if it.Face == nil && e.o.NeedFace {
		return nil, fault.New(fault.NoFace, "find a face in", "frame "+strconv.Itoa(int(it.Frame.Index)), "there is none that can be used",
			"without --need-face and --parity such frames stay as they are")
	}
	if it.Face == nil {
		if err := e.end(ctx); err != nil {
			return nil, err
		}
		e.out = append(e.out, it)
		return e.out, nil
	}
	e.track = it.Face.Track
	h := &held{item: it, index: it.Frame.Index, matrix: m}
	var err error
	if h.crop, h.latents, err = e.painter.see(ctx, it.Frame, h.index, m); err != nil {
		return nil, err
	}
	if h.tokens, err = e.features.frame(ctx, h.index, e.o.RateNum, e.o.RateDen); err != nil {
		return nil, err
	}
	e.shot.add(h)
	if w, ok := e.shot.next(); ok {
		if err := e.window(ctx, w); err != nil {
			return nil, err
		}
	}
	return e.out, nil
}

// Flush finishes the last shot.
func (e *Engine) Flush(ctx context.Context) ([]lip.Item, error) {
	e.out = e.out[:0]
	return e.out, e.end(ctx)
}

// end finishes the shot.
func (e *Engine) end(ctx context.Context) error {
	if w, ok := e.shot.last(); ok {
		if err := e.window(ctx, w); err != nil {
			return err
		}
	}
	err := e.finish(ctx, len(e.shot.waiting))
	e.shot.reset()
	if !e.o.IgnoreCuts {
		e.painter.aligner.Reset()
	}
	return err
}

// window denoises w and finishes the frames that no later window will change.
func (e *Engine) window(ctx context.Context, w window) error {
	conditions := make([]condition, len(w.frames))
	for i, k := range w.frames {
		conditions[i] = k.condition
	}
	latents, err := e.denoiser.window(ctx, w.frames[0].index, e.painter.latent, conditions)
	if err != nil {
		return err
	}
	return e.finish(ctx, e.shot.blend(w, latents))
}

// finish paints the first n frames that wait and gives them out.
func (e *Engine) finish(ctx context.Context, n int) error {
	for _, h := range e.shot.take(n) {
		picture, err := e.painter.decode(ctx, h.result)
		if err != nil {
			return err
		}
		e.painter.paint(h.item.Frame, h.matrix, h.crop, picture)
		h.crop = nil
		e.out = append(e.out, h.item)
	}
	return nil
}

// Close releases networks and checkpoints. It may be called more than once.
func (e *Engine) Close() error {
	var errs []error
	if e.denoiser != nil {
		errs = append(errs, e.denoiser.Close())
	}
	if e.painter != nil {
		errs = append(errs, e.painter.Close())
	}
	if e.features != nil && e.features.chain != nil {
		errs = append(errs, e.features.chain.Close())
		e.features.chain = nil
	}
	// Sessions read the weights in place: the files are closed last.
	for _, f := range e.files {
		errs = append(errs, f.Close())
	}
	e.files = nil
	return errors.Join(errs...)
}

// held is a frame on its way through the engine.
type held struct {
	condition
	item   lip.Item
	index  int64
	matrix frame.Affine
	crop   *frame.RGB
	result []float32 // its latents, once a window has given them
}
