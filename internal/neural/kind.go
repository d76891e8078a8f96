package neural

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/journal"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/settings"
)

// LatentSync is the kind of engine that runs the checkpoints of LatentSync 1.5 and 1.6.
func LatentSync() lip.Kind { return kind{latentSync{}} }

// MuseTalk is the kind of engine that runs the checkpoints of MuseTalk 1.0 and 1.5.
func MuseTalk() lip.Kind { return kind{museTalk{}} }

// kind implements lip.Kind.
type kind struct{ recipe recipe }

// Name returns the value of the setting `engine`.
func (k kind) Name() string { return k.recipe.name() }

// Describe returns one sentence for people.
func (k kind) Describe() string { return k.recipe.describe() }

// Install returns the command that downloads the checkpoints.
func (k kind) Install() string { return k.engine().Pull() }

// Check returns an error if the settings are invalid.
func (k kind) Check(s settings.Settings) error {
	_, err := newOptions(k.recipe, s.WithDefaults())
	return err
}

// engine returns the engine as package models names it.
func (k kind) engine() models.Engine { return models.Engine(k.recipe.name()) }

// Ready reports whether checkpoints are installed.
func (k kind) Ready(s settings.Settings) (why string, ok bool) {
	dir, err := modelsDir(s)
	if err != nil {
		return "the folder of the checkpoints is not known", false
	}
	set, err := models.Find(dir, k.engine())
	if err != nil {
		return fmt.Sprintf("there is no %v checkpoint in %s", k.engine(), dir), false
	}
	if !disk.Within(dir, set.UNet) {
		dir = filepath.Dir(set.UNet) // one of the other places
	}
	return fmt.Sprintf("the %v checkpoint is in %s", k.engine(), dir), true
}

// Find finds and identifies the checkpoints.
func (k kind) Find(ctx context.Context, s settings.Settings) (lip.Model, error) {
	s = s.WithDefaults()
	o, err := newOptions(k.recipe, s)
	if err != nil {
		return lip.Model{}, err
	}
	if err := o.find(ctx, s); err != nil {
		return lip.Model{}, err
	}
	m := lip.Model{
		Name: o.Name(), UsesDevice: true, Needs: audio.Needs{Mel: true},
		Window: o.Plan.Frames, Overlap: o.Overlap, FrameLatents: latentChannels * (o.Resolution / vaeFactor) * (o.Resolution / vaeFactor),
		Open: func(ctx context.Context, h lip.Host) (lip.Engine, error) { return o.open(ctx, s, h) },
	}
	if o.Short {
		m.Unsplittable = true
		m.Frames = k.recipe.frames
	}
	return m, nil
}

// The latents of the published networks, for estimates before a checkpoint is opened.
const (
	latentChannels = 4
	vaeFactor      = 8 // pixels of the side of a latent
)

// newOptions returns the options that follow from settings with defaults. find and open
// fill in what depends on the checkpoints and on the job.
func newOptions(r recipe, s settings.Settings) (Options, error) {
	o, n, m := Defaults(), s.Networks, s.Memory
	p := findProfile(n.Profile)
	o.recipe = r
	o.Silence = cmp.Or(n.Silence, p.silence)
	o.Plan, o.Allowed = plans(m, p, o.Plan)
	r.set(&o, s, p)
	o.ShrinkEvery = given(m.ShrinkEvery, o.ShrinkEvery)
	o.ReturnEvery = given(m.ReturnEvery, o.ReturnEvery)
	o.Seed, o.Threads, o.Resolution = *s.Seed, given(s.Threads, 0), given(n.Resolution, 0)
	o.Plan.Precision = ""
	if n.Precision != "auto" {
		o.Plan.Precision = n.Precision
	}
	var err error
	if o.parity, err = parseParity(n.Parity, r.parity()); err != nil {
		return o, err
	}
	o = o.withParity(o.parity)
	return o, o.Check()
}

// given returns the value of a setting, or another if the setting is nil.
func given[T any](setting *T, otherwise T) T {
	if setting == nil {
		return otherwise
	}
	return *setting
}

// plans returns the plan that a job begins with, and the allowed reductions, which are
// those of values that the user has not set.
func plans(m settings.Memory, p profile, usual memory.Plan) (memory.Plan, memory.Reductions) {
	best := func(set *int, profile, usual int) int { return given(set, cmp.Or(profile, usual)) }
	plan := memory.Plan{
		Windows:   best(m.Windows, p.plan.Windows, usual.Windows),
		Frames:    best(m.FramesPerWindow, p.plan.Frames, usual.Frames),
		VAEFrames: best(m.VAEFrames, p.plan.VAEFrames, usual.VAEFrames),
		Tile:      given(m.VAETile, p.plan.Tile),
		Slices:    best(m.AttentionSlices, p.plan.Slices, usual.Slices),
		Offload:   cmp.Or(memory.Offload(m.Offload), p.plan.Offload, usual.Offload),
	}
	allowed := memory.Reductions{
		Windows: m.Windows == nil && p.plan.Windows == 0, Frames: m.FramesPerWindow == nil,
		VAEFrames: m.VAEFrames == nil && p.plan.VAEFrames == 0, Offload: m.Offload == "",
	}
	if m.VAETile == nil {
		allowed.Tile = reducedTile
	}
	if m.AttentionSlices == nil {
		allowed.Slices = reducedSlices
	}
	return plan, allowed
}

// The values of a job that is short of memory.
const (
	reducedTile   = 256 // pixels
	reducedSlices = 4   // only on devices that do not fuse attention
)

// modelsDir returns the folder of the checkpoints.
func modelsDir(s settings.Settings) (string, error) {
	if s.Models != "" {
		return s.Models, nil
	}
	return models.Dir()
}

// find finds the checkpoints and sets the version and the resolution.
func (o *Options) find(ctx context.Context, s settings.Settings) error {
	dir, err := modelsDir(s)
	if err != nil {
		return err
	}
	set, err := models.Find(dir, models.Engine(o.recipe.name()))
	if err != nil {
		return err
	}
	if err := o.recipe.identify(ctx, o, set); err != nil {
		return err
	}
	o.Files = Files{UNet: set.UNet, VAE: set.VAE, Whisper: set.Whisper}
	return o.Files.setVAE(s.VAE, dir, set)
}

// open loads the engine for a job.
func (o Options) open(ctx context.Context, s settings.Settings, h lip.Host) (lip.Engine, error) {
	o.Backend, o.Device = h.Backend, h.Device
	o.RateNum, o.RateDen, o.Voice = h.Rate.Num, h.Rate.Den, h.Voice
	o.Level, o.Replanned = h.Level, h.Planned
	o.Progress = func(_ int64, step, steps int) { h.Step(step, steps) }
	o.Speech = h.Voice.Speech
	o.Quiet = func(frame int64) bool {
		at := h.Rate.Time(frame).Seconds()
		return h.Voice.Quiet(at-quietMargin, at+quietMargin)
	}
	o = o.withParity(o.parity) // it removes Speech and Quiet
	peer, _ := h.Peer.(*Engine)
	if peer != nil {
		voice, speech, quiet := o.Voice, o.Speech, o.Quiet
		o = peer.o
		o.Voice, o.Speech, o.Quiet = voice, speech, quiet
	} else {
		if o.recipe == recipe(latentSync{}) {
			for _, w := range o.unused(s.LatentSync) {
				h.Warn(w)
			}
		}
		requested := o.Plan.Precision != "" || o.Short
		o.setPrecision(ctx, findProfile(s.Profile).half, requested, h.Warn)
		if err := o.setWeights(ctx, s.Weights, findProfile(s.Profile).weights, h.Warn); err != nil {
			return nil, err
		}
		for _, tile := range []*int{&o.Plan.Tile, &o.Allowed.Tile} {
			if o.Resolution <= *tile {
				*tile = 0 // the face is no larger than a tile
			}
		}
		o.share(h)
	}
	id := journal.Identity{o.recipe.name(): strings.TrimSpace(fmt.Sprint(o.Resolution, " ", o.Plan.Precision, " ", o.Plan.Weights))}
	var err error
	for name, path := range map[string]string{"unet": o.Files.UNet, "vae": o.Files.VAE, "decoder": o.Files.decoder(), "whisper": o.Files.Whisper} {
		if id[name], err = journal.Mark(path); err != nil {
			return nil, err
		}
	}
	if o.Journal, err = h.Resume(id); err != nil {
		return nil, err
	}
	if peer != nil {
		return peer.twin(o), nil
	}
	return New(ctx, o)
}

// share sets the options that follow from the budget of the job.
func (o *Options) share(h lip.Host) {
	b := h.Budget
	o.Budget, o.BudgetFrom, o.Reserved, o.Speakers = b.Bytes, b.From, b.Reserved, h.Speakers
	if b.GPU > 0 {
		o.ArenaLimit = b.Arena()
		if o.Batched = !o.sparing(); o.Allowed.Windows { // windows may differ in their passes
			o.Plan.Windows = memory.Windows(b.GPU)
		}
		if o.Allowed.VAEFrames {
			o.Plan.VAEFrames = deviceVAEFrames
		}
		if o.Allowed.Frames {
			o.Plan.Frames = o.recipe.deviceFrames(o.Plan.Frames)
		}
	} else {
		o.FrameBytes = int64(h.Format.Bytes())
	}
	o.InFlight = max(2, memory.Windows(o.Budget))
}

// deviceVAEFrames is the most frames in one call of the VAE on a GPU. The job begins with
// as many as fit the budget. The new frames of a window, 12 or 16, fill calls of 4.
const deviceVAEFrames = 4

// setPrecision sets the precision of the plan: the requested one, or one that depends on
// the profile and the device. It uses half-precision copies of the checkpoints if they
// exist. Otherwise it warns that they can be made. A plan in f32 may be reduced to
// existing copies.
func (o *Options) setPrecision(ctx context.Context, half, requested bool, warn func(string)) {
	p := cmp.Or(backend.Precision(o.Plan.Precision), autoPrecision(o.Device, half))
	o.Plan.Precision = string(p)
	lower := p
	if p == backend.F32 && !requested {
		lower = autoPrecision(o.Device, true)
	}
	if lower == backend.F32 {
		return
	}
	missing, files := "", o.Files
	copyOf := func(path string) string {
		file, ok := models.Prepared(ctx, path, lower.DType())
		if ok {
			return file
		}
		missing = cmp.Or(missing, path)
		return path
	}
	files.Lower, files.LowerUNet, files.LowerVAE = lower, copyOf(files.UNet), files.VAE
	if !files.tinyEncoder {
		files.LowerVAE = copyOf(files.VAE)
	}
	switch {
	case missing == "":
		o.Allowed.Precision = string(lower)
	case lower == p:
		warn(fmt.Sprintf("%s is converted to %s while loading, which takes twice the memory and longer; to convert it once, run lipstream models prepare %s --dtype %s",
			missing, p, filepath.Dir(files.UNet), p))
	default:
		return
	}
	o.Files = files
}

// quietMargin is the least distance of a frame in a long silence from any speech, in
// seconds: lips begin to open before speech and close after it.
const quietMargin = 0.4
