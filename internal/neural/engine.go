package neural

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/journal"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/network"
)

// Engine implements lip.Engine. Only Report may be called while another method runs.
type Engine struct {
	o         Options
	networks  *networks
	features  *features
	painter   *painter
	generator generator
	needs     func(memory.Plan) int64 // estimates the most memory that a plan takes, in bytes
	longest   int                     // most frames of a window, also in an earlier run with more memory
	pace      pace

	shot  shot
	track int
	last  []float32 // the last image painted in this shot, which SilenceHold repeats
	out   []lip.Item

	peer      *Engine         // whose networks these are; nil if they are this engine's own
	pending   *journal.Record // the next window of an earlier run
	exhausted bool            // the journal has no more of them
}

// New opens and checks the checkpoints, chooses a plan, and loads the networks that the
// plan keeps loaded.
func New(ctx context.Context, o Options) (e *Engine, err error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	e = &Engine{o: o, networks: newNetworks(o)}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	c, err := e.open()
	if err != nil {
		return e, err
	}
	if err := c.fit(o); err != nil {
		return e, err
	}
	if err := e.plan(c); err != nil {
		return e, err
	}
	e.longest = o.Plan.Frames
	e.shot = shot{keep: e.longest, short: o.Short}
	e.assemble(c)
	return e, e.try(func() error { return e.load(ctx) })
}

// twin returns an engine for another face in the same frames, which works with the
// networks and under the memory plan of e.
func (e *Engine) twin(o Options) *Engine {
	t := &Engine{o: o, peer: e, networks: e.networks, generator: e.generator, needs: e.needs, longest: e.longest}
	t.shot = shot{keep: t.longest, short: o.Short}
	t.painter = newPainter(o, e.painter.configs, o.recipe.crops(o))
	t.painter.encoder, t.painter.decoder = e.painter.encoder, e.painter.decoder
	t.features = newFeatures(o, e.features.config)
	t.features.net = e.features.net
	return t
}

// assemble creates the parts of the engine. It loads nothing.
func (e *Engine) assemble(c configs) {
	o, s := e.o, e.networks
	e.generator = o.recipe.generator(c, o, s)
	e.painter = newPainter(o, c, o.recipe.crops(o))
	e.painter.addTo(s)
	e.features = newFeatures(o, c.whisper)
	e.features.net = s.add(e.features.model())
}

// planned returns the precision of the UNet and the VAE.
func planned(p memory.Plan) backend.Precision { return backend.Precision(p.Precision) }

// exact returns the precision of Whisper, which is f32 on a CPU: half precision would not
// make it noticeably faster.
func exact(p memory.Plan) backend.Precision {
	if planned(p) == backend.BF16 {
		return backend.F32
	}
	return planned(p)
}

// load loads the networks that the plan keeps loaded.
func (e *Engine) load(ctx context.Context) error {
	plan := e.networks.plan()
	if plan.Offload != memory.OffloadNone {
		return nil
	}
	p := e.painter
	return e.networks.load(ctx, e.generator.network(plan.Frames), use{p.encoder.model, p.batch()}, use{p.decoder.model, p.batch()}, use{e.features.net, 1})
}

// generator computes the latents of frames.
type generator interface {
	// network returns the network that it needs for windows of a number of frames.
	network(frames int) use
	// windows returns the latents of each frame of each window, [Latent, side, side]. All
	// windows have the same number of frames.
	windows(ctx context.Context, list []input) ([][][]float32, error)
	// estimate tries its networks once. It returns how long a window takes, and adds
	// what it has measured, and its settings, to e.
	estimate(ctx context.Context, e *lip.Estimate) (window time.Duration, err error)
}

// configs holds the topologies of the checkpoints.
type configs struct {
	unet             network.UNetConfig
	encoder, decoder network.Autoencoder
	whisper          network.WhisperConfig
}

// side returns the side of the latents.
func (c configs) side(o Options) int { return o.Resolution / c.encoder.Factor }

// open opens and checks the checkpoints.
func (e *Engine) open() (c configs, err error) {
	plan := e.networks.plan()
	files := e.o.Files.in(planned(plan), plan)
	if c.unet, err = detect(e.networks, files.UNet, e.o.recipe.detect); err != nil {
		return c, err
	}
	if c.encoder, err = detect(e.networks, files.VAE, network.DetectAutoencoder); err != nil {
		return c, err
	}
	if c.decoder, err = detect(e.networks, files.decoder(), network.DetectAutoencoder); err != nil {
		return c, err
	}
	c.whisper, err = detect(e.networks, files.Whisper, e.o.recipe.whisper)
	return c, err
}

// detect opens a checkpoint, checks it, and returns the topology of its network.
func detect[C any](s *networks, path string, config func(*checkpoint.File) (C, error)) (c C, err error) {
	f, err := s.open(path)
	if err != nil {
		return c, err
	}
	return config(f)
}

// fit returns an error if the checkpoints do not fit each other or the options.
func (c configs) fit(o Options) error {
	switch {
	case c.whisper.Mels != audio.MelBands:
		return misfit(o.Files.Whisper, "choose Whisper tiny", "it takes %d frequency bands, but the UNet was trained with %d", c.whisper.Mels, audio.MelBands)
	case c.unet.AudioDim != c.whisper.State:
		return misfit(o.Files.Whisper, "use Whisper tiny (384); some UNets of others take small (768)",
			"its features are %d wide, but the UNet takes %d", c.whisper.State, c.unet.AudioDim)
	case c.encoder.Encoder == nil:
		return misfit(o.Files.VAE, "use a file with both halves, or set `vae` to full", "it has no encoder")
	case c.decoder.Decoder == nil:
		return misfit(o.Files.decoder(), "use a file with both halves, or set `vae` to full", "it has no decoder")
	case c.unet.Out != c.encoder.Latent || c.unet.Out != c.decoder.Latent || c.encoder.Factor != c.decoder.Factor:
		return misfit(o.Files.VAE, "choose stabilityai/sd-vae-ft-mse", "its latents have %d channels, but the UNet takes %d", c.encoder.Latent, c.unet.Out)
	case c.side(o)%(1<<(len(c.unet.Channels)-1)) != 0:
		return misfit(o.Files.UNet, "set `resolution` to 256 or 512", "its levels do not divide %d pixels", o.Resolution)
	}
	return o.recipe.fit(c, o)
}

// Name implements lip.Engine: "latentsync", and the version if it is known.
func (e *Engine) Name() string { return e.o.Name() }

// Hold implements lip.Engine: the frames of the windows in flight and of the overlap
// with the window before them, less one. Cheaper plans hold less.
func (e *Engine) Hold() int {
	p := e.networks.governor.Best()
	p.Frames = max(p.Frames, e.longest)
	return e.o.hold(p)
}

// Push implements lip.Engine. It returns the frames whose windows are complete.
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
		m = e.painter.Matrix(it)
		if _, ok := m.Invert(); !ok {
			it.Face = nil
		}
	}
	if it.Face == nil && e.o.NeedFace {
		return nil, fault.NoFace.New(fmt.Sprintf("find a face in frame %d", it.Frame.Index), "it has no usable face",
			"leave faces out of `parity` to keep such frames unchanged")
	}
	if it.Face == nil {
		if err := e.end(ctx); err != nil {
			return nil, err
		}
		e.out = append(e.out, it)
		return e.out, nil
	}
	e.track = it.Face.Track
	if passed, err := e.passSilence(ctx, it, m); passed || err != nil {
		return e.out, err
	}
	e.shot.add(&held{item: it, index: it.Frame.Index, matrix: m, crop: e.painter.Crop(it.Frame, m)})
	return e.out, e.advance(ctx, false)
}

// passSilence outputs a frame of a long silence without denoising it, if the options say
// so. It reports whether it did.
func (e *Engine) passSilence(ctx context.Context, it lip.Item, m frame.Affine) (bool, error) {
	hold := e.o.Silence == SilenceHold
	switch {
	case !hold && e.o.Silence != SilencePass, e.o.Quiet == nil, !e.o.Quiet(it.Frame.Index):
		return false, nil
	case hold && e.last == nil && len(e.shot.covered) == 0:
		return false, nil // no mouth has been painted yet
	}
	if err := e.complete(ctx); err != nil {
		return false, err
	}
	if hold {
		it = e.paint(it, m, e.painter.Crop(it.Frame, m), e.last)
	}
	e.out = append(e.out, it)
	e.networks.note(workRest, 1, 0, 0)
	return true, nil
}

// Flush implements lip.Engine. It finishes the last shot.
func (e *Engine) Flush(ctx context.Context) ([]lip.Item, error) {
	e.out = e.out[:0]
	return e.out, e.end(ctx)
}

// end finishes the shot and forgets it.
func (e *Engine) end(ctx context.Context) error {
	if err := e.complete(ctx); err != nil {
		return err
	}
	if !e.o.IgnoreCuts {
		e.last = nil
		e.painter.Reset()
	}
	return nil
}

// complete finishes all frames of the shot so far.
func (e *Engine) complete(ctx context.Context) error {
	if err := e.advance(ctx, true); err != nil {
		return err
	}
	err := e.finish(ctx, len(e.shot.waiting))
	e.shot.reset()
	return err
}

// advance denoises the windows that are full, or at the end of the shot all, with as
// many in flight as the plan says. It finishes the frames that no later window changes.
// If an allocation fails, it continues with the next cheaper plan.
func (e *Engine) advance(ctx context.Context, end bool) error {
	for {
		size, err := e.size()
		if err != nil {
			return err
		}
		overlap := e.o.overlap(size)
		list := e.shot.windows(size, overlap, end)
		inFlight := e.networks.plan().Windows
		if len(list) == 0 || !end && len(list) < inFlight {
			return nil
		}
		list = list[:sameLength(list, inFlight)]
		latents, err := e.chunk(ctx, list)
		if fault.KindOf(err) == fault.Memory {
			if err := e.retreat(err); err != nil {
				return err
			}
			continue // the new plan may have windows of another size
		}
		if err != nil {
			return err
		}
		for i, w := range list {
			if err := e.finish(ctx, e.shot.blend(w, latents[i], overlap)); err != nil {
				return err
			}
		}
		if err := e.settle(len(list)); err != nil {
			return err
		}
	}
}

// sameLength returns how many windows at the beginning of list, at most n, have as many
// frames as the first.
func sameLength(list []window, n int) int {
	for i, w := range list {
		if i == n || len(w.frames) != len(list[0].frames) {
			return i
		}
	}
	return len(list)
}

// chunk returns the latents of windows. It takes them from an earlier run or denoises
// them.
func (e *Engine) chunk(ctx context.Context, list []window) ([][][]float32, error) {
	latents := make([][][]float32, len(list))
	recalled := 0
	for recalled < len(list) {
		l, err := e.recall(list[recalled])
		if err != nil {
			return nil, err
		}
		if l == nil {
			break
		}
		latents[recalled] = l
		recalled++
	}
	if recalled == len(list) {
		return latents, nil
	}
	list = list[recalled:]
	inputs := make([]input, len(list))
	for i, w := range list {
		if err := e.observe(ctx, w.frames); err != nil {
			return nil, err
		}
		inputs[i].first = w.frames[0].index
		for _, h := range w.frames {
			inputs[i].frames = append(inputs[i].frames, h.condition)
		}
	}
	fresh, err := e.generator.windows(ctx, inputs)
	if err != nil {
		return nil, err
	}
	for i, w := range list {
		toHalf(fresh[i])
		if err := e.record(w, fresh[i]); err != nil {
			return nil, err
		}
		latents[recalled+i] = fresh[i]
	}
	return latents, nil
}

// observe computes the conditions of frames.
func (e *Engine) observe(ctx context.Context, frames []*held) error {
	for _, h := range frames {
		if h.tokens != nil {
			continue
		}
		var err error
		if h.tokens, err = e.features.frame(ctx, h.index, e.o.RateNum, e.o.RateDen); err != nil {
			return err
		}
	}
	return e.painter.encode(ctx, frames)
}

// finish paints the first n waiting frames and adds them to the output.
func (e *Engine) finish(ctx context.Context, n int) error {
	frames := e.shot.take(n)
	if len(frames) == 0 {
		return nil
	}
	latents := make([][]float32, len(frames))
	for i, h := range frames {
		latents[i] = h.result
	}
	var images [][]float32
	err := e.try(func() (err error) {
		images, err = e.painter.decode(ctx, latents)
		return err
	})
	if err != nil {
		return err
	}
	for i, h := range frames {
		e.out = append(e.out, e.paint(h.item, h.matrix, h.crop, images[i]))
		e.last = images[i]
		h.item, h.result = lip.Item{}, nil // later windows need only the condition
	}
	return nil
}

// paint returns the item with the generated image as its layer.
func (e *Engine) paint(it lip.Item, m frame.Affine, crop *frame.RGB, image []float32) lip.Item {
	it.Layer = e.painter.Layer(it, m, crop, image)
	if e.o.Whole { // this uses the aligner, which has a state, as the next crop does
		it.Composite()
	}
	return it
}

// Close releases the networks and checkpoints, if they are its own. It may be called more
// than once.
func (e *Engine) Close() error {
	if e.peer != nil {
		return nil
	}
	return e.networks.Close()
}

// held is a frame on its way through the engine.
type held struct {
	condition
	item   lip.Item
	index  int64
	matrix frame.Affine
	crop   *frame.RGB
	result []float32 // denoised latents; nil before
}
