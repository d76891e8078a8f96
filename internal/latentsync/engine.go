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
	"github.com/lipstream/lipstream/internal/journal"
	"github.com/lipstream/lipstream/internal/latentsync/network"
	"github.com/lipstream/lipstream/internal/latentsync/sampler"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
)

// Engine implements lip.Engine. Its methods must not be called concurrently, but
// for Report.
type Engine struct {
	o        Options
	stock    *stock
	features *features
	painter  *painter
	denoiser *denoiser
	needs    func(memory.Plan) int64 // about how much memory a plan takes at most, bytes
	longest  int                     // frames of a window, also of an earlier run with more memory
	pace     pace

	shot  shot
	track int
	rest  []float32 // the last picture painted in this shot, which silence goes on with
	out   []lip.Item

	past    *journal.Record // the next window of an earlier run
	present bool            // there is none any more
}

// New opens the checkpoints, checks them, chooses the plan and loads the
// networks that it keeps.
func New(ctx context.Context, o Options) (e *Engine, err error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	e = &Engine{o: o, stock: newStock(o)}
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

// assemble makes the parts of the engine, without loading anything.
func (e *Engine) assemble(c configs) {
	o, s := e.o, e.stock
	side := o.Resolution / c.vae.Factor()
	d := &denoiser{o: o, config: c.unet, latent: side, tokens: c.whisper.Tokens(), noise: make([]float32, c.unet.Out*side*side)}
	sampler.Noise(d.noise, o.Seed, 0, 0)
	d.net = s.add(d.member())
	if o.Batched {
		d.net.batch = s.plan().Windows
	}
	p := newPainter(o, c.vae)
	p.encoder, p.decoder = s.add(p.member(workEncoder, network.VAEEncoder, c.vae.Factor())), s.add(p.member(workDecoder, network.VAEDecoder, 1))
	f := &features{voice: o.Voice, speech: o.Speech, config: c.whisper, overlap: o.WhisperOverlap, windows: map[int64][]float32{}}
	f.net = s.add(f.member(o.Files.Whisper))
	e.denoiser, e.painter, e.features = d, p, f
}

// planned is the precision of UNet and VAE.
func planned(p memory.Plan) backend.Precision { return backend.Precision(p.Precision) }

// exact is the precision of Whisper, which takes no time worth saving.
func exact(p memory.Plan) backend.Precision {
	if planned(p) == backend.BF16 {
		return backend.F32
	}
	return planned(p)
}

// load loads what the plan keeps loaded. The UNet comes first: compiling it
// takes the most memory.
func (e *Engine) load(ctx context.Context) error {
	plan := e.stock.plan()
	if plan.Offload != memory.OffloadNone {
		return nil
	}
	for _, n := range []struct {
		*member
		frames int
	}{{e.denoiser.net, plan.Frames}, {e.painter.encoder, plan.VAEFrames}, {e.painter.decoder, plan.VAEFrames}, {e.features.net, 1}} {
		if err := n.ready(ctx, n.frames); err != nil {
			return err
		}
	}
	return nil
}

// configs are the topologies of the checkpoints.
type configs struct {
	unet    network.UNetConfig
	vae     network.VAEConfig
	whisper network.WhisperConfig
	parts   []int64 // weights of the UNet's graphs
}

// open opens and checks the checkpoints.
func (e *Engine) open() (c configs, err error) {
	precision := planned(e.stock.plan())
	unet, err := e.stock.open(e.o.Files.unet(precision))
	if err != nil {
		return c, err
	}
	vae, err := e.stock.open(e.o.Files.vae(precision))
	if err != nil {
		return c, err
	}
	whisper, err := e.stock.open(e.o.Files.Whisper)
	if err != nil {
		return c, err
	}
	if c.unet, err = network.DetectUNet(unet); err != nil {
		return c, err
	}
	if c.vae, err = network.DetectVAE(vae); err != nil {
		return c, err
	}
	if c.whisper, err = network.DetectWhisper(whisper); err != nil {
		return c, err
	}
	return c, c.count(unet)
}

// count counts the weights of the UNet's graphs.
func (c *configs) count(weights *checkpoint.File) error {
	shape := network.UNetShape{Batch: 1, Frames: 1, Latent: 1 << len(c.unet.Channels), Tokens: c.whisper.Tokens()}
	u, err := network.NewUNet(c.unet, shape, weights, network.Target{})
	if err != nil {
		return fault.Input.Wrap("build network from "+weights.Path(), err)
	}
	for _, g := range u.Graphs {
		n := int64(0)
		for _, w := range g.Weights() {
			n += int64(w.Len())
		}
		c.parts = append(c.parts, n)
	}
	return nil
}

// fit refuses checkpoints that do not belong together.
func (c configs) fit(o Options) error {
	apart := func(subject, cause, hint string) error {
		return fault.Input.New("use checkpoints "+subject, cause, hint)
	}
	switch {
	case c.whisper.Mels != audio.MelBands:
		return apart(o.Files.Whisper, "it listens to "+strconv.Itoa(c.whisper.Mels)+" bands of frequencies, LatentSync to "+strconv.Itoa(audio.MelBands), "take Whisper tiny")
	case c.unet.AudioDim != c.whisper.State:
		return apart(o.Files.Whisper, "its features are "+strconv.Itoa(c.whisper.State)+" wide, the UNet takes "+strconv.Itoa(c.unet.AudioDim),
			"Whisper tiny (384) belongs to LatentSync 1.5 and 1.6, small (768) to some others")
	case c.unet.Out != c.vae.Latent:
		return apart(o.Files.VAE, "its latents have "+strconv.Itoa(c.vae.Latent)+" channels, the UNet takes "+strconv.Itoa(c.unet.Out), "take stabilityai/sd-vae-ft-mse")
	case o.Plan.Frames > c.unet.Positions:
		return apart(o.Files.UNet, "its positional encoding takes "+strconv.Itoa(c.unet.Positions)+" frames, the window has "+strconv.Itoa(o.Plan.Frames), "use a smaller `frames_per_window`")
	case o.Resolution/c.vae.Factor()%(1<<(len(c.unet.Channels)-1)) != 0:
		return apart(o.Files.UNet, "its levels do not divide "+strconv.Itoa(o.Resolution)+" pixels", "set `resolution` to 256 or 512")
	}
	return nil
}

// Name is "latentsync", with the version where it is known.
func (e *Engine) Name() string { return e.o.Name() }

// Hold is what the windows in flight take and the overlap with the one before,
// less one frame. Cheaper plans hold less.
func (e *Engine) Hold() int {
	p := e.stock.governor.Best()
	p.Frames = max(p.Frames, e.longest)
	return e.o.hold(p)
}

// Push takes a frame and gives those whose windows are complete.
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
		return nil, fault.NoFace.New("find a face in frame "+strconv.Itoa(int(it.Frame.Index)), "there is none that can be used",
			"leave faces out of `parity`, and such frames stay as they are")
	}
	if it.Face == nil {
		if err := e.end(ctx); err != nil {
			return nil, err
		}
		e.out = append(e.out, it)
		return e.out, nil
	}
	e.track = it.Face.Track
	if rests, err := e.rests(ctx, it, m); rests || err != nil {
		return e.out, err
	}
	e.shot.add(&held{item: it, index: it.Frame.Index, matrix: m, crop: e.painter.aligner.Crop(it.Frame, m)})
	return e.out, e.advance(ctx, false)
}

// Flush finishes the last shot.
func (e *Engine) Flush(ctx context.Context) ([]lip.Item, error) {
	e.out = e.out[:0]
	return e.out, e.end(ctx)
}

// end finishes the shot.
func (e *Engine) end(ctx context.Context) error {
	if err := e.complete(ctx); err != nil {
		return err
	}
	if !e.o.IgnoreCuts {
		e.rest = nil
		e.painter.aligner.Reset()
	}
	return nil
}

// complete finishes the frames that the shot has.
func (e *Engine) complete(ctx context.Context) error {
	if err := e.advance(ctx, true); err != nil {
		return err
	}
	err := e.finish(ctx, len(e.shot.waiting))
	e.shot.reset()
	return err
}

// advance denoises the windows that the shot's frames fill, as many in flight
// as the plan says, and finishes the frames that no later window will change.
// Short of memory it goes on with the next cheaper plan.
func (e *Engine) advance(ctx context.Context, end bool) error {
	for {
		size, err := e.size()
		if err != nil {
			return err
		}
		overlap := e.o.overlap(size)
		list := e.shot.windows(size, overlap, end)
		inFlight := e.stock.plan().Windows
		if len(list) == 0 || !end && len(list) < inFlight {
			return nil
		}
		list = list[:alike(list, inFlight)]
		latents, err := e.chunk(ctx, list)
		if fault.KindOf(err) == fault.Memory {
			if err := e.retreat(err); err != nil {
				return err
			}
			continue // in windows of the size that the new plan has
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

// alike is how many of the first windows, at most n, have the same length.
func alike(list []window, n int) int {
	for i, w := range list {
		if i == n || len(w.frames) != len(list[0].frames) {
			return i
		}
	}
	return len(list)
}

// chunk gives the latents of some windows: an earlier run's, or denoised now.
func (e *Engine) chunk(ctx context.Context, list []window) ([][][]float32, error) {
	latents := make([][][]float32, len(list))
	known := 0
	for known < len(list) {
		l, err := e.recall(list[known])
		if err != nil {
			return nil, err
		}
		if l == nil {
			break
		}
		latents[known] = l
		known++
	}
	if known == len(list) {
		return latents, nil
	}
	list = list[known:]
	tasks := make([]task, len(list))
	for i, w := range list {
		if err := e.observe(ctx, w.frames); err != nil {
			return nil, err
		}
		tasks[i].first = w.frames[0].index
		for _, h := range w.frames {
			tasks[i].frames = append(tasks[i].frames, h.condition)
		}
	}
	fresh, err := e.denoiser.windows(ctx, e.painter.latent, tasks)
	if err != nil {
		return nil, err
	}
	for i, w := range list {
		if err := e.record(w, fresh[i]); err != nil {
			return nil, err
		}
		latents[known+i] = fresh[i]
	}
	return latents, nil
}

// observe gives frames their conditions.
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

// finish paints the first n frames that wait and gives them out.
func (e *Engine) finish(ctx context.Context, n int) error {
	frames := e.shot.take(n)
	if len(frames) == 0 {
		return nil
	}
	latents := make([][]float32, len(frames))
	for i, h := range frames {
		latents[i] = h.result
	}
	var pictures [][]float32
	err := e.try(func() (err error) {
		pictures, err = e.painter.decode(ctx, latents)
		return err
	})
	if err != nil {
		return err
	}
	for i, h := range frames {
		e.out = append(e.out, e.paint(h.item, h.matrix, h.crop, pictures[i]))
		e.rest = pictures[i]
		h.item, h.result = lip.Item{}, nil // a later window conditions on h, no more
	}
	return nil
}

// paint returns the item with the generated image as its layer.
func (e *Engine) paint(it lip.Item, m frame.Affine, crop *frame.RGB, image []float32) lip.Item {
	it.Layer = layer{e.painter, m, crop, image}
	if e.painter.o.Whole { // the aligner, which the next crop uses too, takes part
		it.Composite()
	}
	return it
}

// Close releases networks and checkpoints. It may be called more than once.
func (e *Engine) Close() error { return e.stock.Close() }

// held is a frame on its way through the engine.
type held struct {
	condition
	item   lip.Item
	index  int64
	matrix frame.Affine
	crop   *frame.RGB
	result []float32 // its latents, once a window has given them
}
