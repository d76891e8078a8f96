package lipstream

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/latentsync"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/models"
)

// LatentSync are the options of the latentsync engine. The zero value is the
// default. Those that say "the original" give a behaviour of the original
// program back where Lipstream does better; Parity sets all of them.
type LatentSync struct {
	Models     string // folder of the checkpoints; default: ModelsDir
	Resolution int    // 256 or 512 pixels; default: what the checkpoint was made for
	Precision  string // auto, f32, bf16 or f16; auto is f32 on a CPU and f16 on a GPU
	Device     string // as lipstream doctor lists them: cpu, gpu:0, cuda:0; default: the backend's

	Profile   string  // what those of the following that are 0 or empty are; ProfileAuto by default
	Sampler   string  // ddim or dpm++
	Steps     int     // 1 to 100
	Guidance  float64 // classifier-free guidance scale, 1 to 20; 1 halves the work
	DeepCache int     // a full pass every so many steps; 1 is all of them
	Silence   string  // in pauses of speech: speak (denoise all the same), hold (the mouth stays) or pass (the frames stay)

	// How memory is used. The zero values leave it to the job, which takes the
	// best that its memory allows and changes it when memory gets short; what is
	// set is kept.
	FramesPerWindow int    // frames denoised together, to 24; 16 or 8 by default
	Windows         int    // denoised side by side, to 16; 4, 2 or 1 by default
	Offload         string // none, model (one network at a time) or sequential (and of the UNet one part at a time)
	VAEFrames       int    // pictures a call of the VAE, to 16
	VAETile         *int   // side of the VAE's overlapping tiles in pixels; 0 is whole pictures
	AttentionSlices int    // parts that an attention is computed in, to 16
	ShrinkEvery     *int   // windows after which the runtime gives unused memory back; default 2, 0 is never
	ReturnEvery     *int   // windows after which Go and the C library do; default 3, 0 is never

	Overlap *int // frames of a window shared with the one before and blended; default 4, the original 0

	WhisperApart bool // Whisper's windows of 30 s do not overlap: the original
	Whole        bool // the whole crop is pasted back, not only the mouth's region with a feathered edge: the original
	Noise        bool // the network hears what is there in silence, too: the original
	IgnoreCuts   bool // windows run across scene cuts: the original
	NeedFace     bool // a frame without a face fails the job: the original

	// Parity is the original's behaviour in all of the above, its rounding and
	// random numbers, short windows at the end, 25 frames a second and as many
	// frames as it would make.
	Parity bool
}

// options turns the job's options into the engine's, as far as they do not
// need the inputs.
func (j Job) options() (latentsync.Options, error) {
	l, o := j.LatentSync, latentsync.Defaults()
	p, err := findProfile(l.Profile)
	if err != nil {
		return o, err
	}
	o.Sampler = cmp.Or(l.Sampler, p.sampler)
	o.Steps = cmp.Or(l.Steps, p.steps)
	o.Guidance = cmp.Or(l.Guidance, p.guidance)
	o.DeepCache = cmp.Or(l.DeepCache, p.deepCache)
	o.Silence = cmp.Or(l.Silence, p.silence)
	o.Plan, o.May = l.plan(p, o.Plan)
	o.Overlap = min(o.Overlap, o.Plan.Frames/2)
	if l.Overlap != nil {
		o.Overlap = *l.Overlap
	}
	if l.ShrinkEvery != nil {
		o.ShrinkEvery = *l.ShrinkEvery
	}
	if l.ReturnEvery != nil {
		o.ReturnEvery = *l.ReturnEvery
	}
	o.WhisperOverlap = !l.WhisperApart
	o.Whole, o.IgnoreCuts, o.NeedFace = l.Whole, l.IgnoreCuts, l.NeedFace
	if l.Parity {
		o = o.Parity()
	}
	o.Seed, o.Device, o.Threads = j.Seed, l.Device, j.Threads
	o.Resolution = l.Resolution
	switch l.Precision {
	case "", "auto":
		o.Plan.Precision = ""
	case "f32", "bf16", "f16":
		o.Plan.Precision = l.Precision
	default:
		return o, fault.Usage.New("option "+fmt.Sprintf("--precision %q", l.Precision), "is not known", "choose one of auto, f32, bf16, f16")
	}
	check := o // what comes from the inputs is known to be good
	check.Resolution, check.RateNum, check.RateDen = cmp.Or(o.Resolution, 256), 1, 1
	return o, check.Check()
}

// plan is what the job begins with, and what it may give up of it: what the job
// sets is kept.
func (l LatentSync) plan(p profile, usual memory.Plan) (memory.Plan, memory.Reductions) {
	plan := memory.Plan{
		Windows:   cmp.Or(l.Windows, p.plan.Windows, usual.Windows),
		Frames:    cmp.Or(l.FramesPerWindow, p.plan.Frames, usual.Frames),
		VAEFrames: cmp.Or(l.VAEFrames, p.plan.VAEFrames, usual.VAEFrames),
		Tile:      p.plan.Tile,
		Slices:    cmp.Or(l.AttentionSlices, p.plan.Slices, usual.Slices),
		Offload:   cmp.Or(memory.Offload(l.Offload), p.plan.Offload, usual.Offload),
	}
	may := memory.Reductions{Windows: l.Windows == 0 && p.plan.Windows == 0, Frames: l.FramesPerWindow == 0, VAEFrames: l.VAEFrames == 0, Offload: l.Offload == ""}
	if l.VAETile == nil {
		may.Tile = usualTile
	} else {
		plan.Tile = *l.VAETile
	}
	if l.AttentionSlices == 0 {
		may.Slices = usualSlices
	}
	return plan, may
}

// What a job short of memory goes over to.
const (
	usualTile   = 256 // pixels
	usualSlices = 4
)

// modelsDir is where the job's checkpoints are looked for.
func (j Job) modelsDir() (string, error) {
	if j.LatentSync.Models != "" {
		return j.LatentSync.Models, nil
	}
	return ModelsDir()
}

// checkpoints finds the files and settles the resolution.
func (j Job) checkpoints(ctx context.Context, o *latentsync.Options) error {
	dir, err := j.modelsDir()
	if err != nil {
		return err
	}
	set, err := models.Find(dir)
	if err != nil {
		return err
	}
	version, err := models.Identify(ctx, set.UNet)
	if err != nil {
		return err
	}
	if o.Resolution == 0 {
		o.Resolution = version.Resolution
	}
	if o.Resolution == 0 {
		// Of a web page, half a download or another network, the version is not
		// what is missing.
		if _, err := models.Inspect(ctx, set.UNet, models.InspectOptions{}); err != nil {
			return err
		}
		return fault.Usage.New("use checkpoint "+set.UNet, "nothing tells whether it is LatentSync 1.5 or 1.6, whose tensors have the same shapes",
			"say --resolution 256 for 1.5, --resolution 512 for 1.6")
	}
	if err := version.CheckResolution(o.Resolution); err != nil {
		return err
	}
	o.Version = version.Name
	o.Files = latentsync.Files{UNet: set.UNet, VAE: set.VAE, Whisper: set.Whisper}
	return nil
}

// precision settles that of the plan: as asked, or as the profile and the
// device have it. Where there are half-precision copies of the checkpoints, they
// are taken for it; where there are none, a warning says what to do. An f32
// plan may go down to copies that are there.
func precision(ctx context.Context, o *latentsync.Options, half, asked bool, warn func(string)) error {
	p, err := latentsync.Precision(o.Backend, o.Device, backend.Precision(o.Plan.Precision), half)
	if err != nil {
		return err
	}
	o.Plan.Precision = string(p)
	lower := p
	if p == backend.F32 && !asked {
		if lower, err = latentsync.Precision(o.Backend, o.Device, backend.Auto, true); err != nil {
			return err
		}
	}
	if lower == backend.F32 {
		return nil
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
	files.Lower, files.LowerUNet, files.LowerVAE = lower, copyOf(files.UNet), copyOf(files.VAE)
	switch {
	case missing == "":
		o.May.Precision = string(lower)
	case lower == p:
		warn(fmt.Sprintf("%s is converted to %s on the fly, which takes twice the memory and longer to load; once and for all: lipstream models prepare %s --dtype %s",
			missing, p, filepath.Dir(files.UNet), p))
	default:
		return nil
	}
	o.Files = files
	return nil
}

// newLatentSync loads the checkpoints.
func (in *inputs) newLatentSync(ctx context.Context, job Job, o latentsync.Options, nets *networks, r *reporter) (*latentsync.Engine, error) {
	o.Backend, o.RateNum, o.RateDen, o.Voice, o.Progress = nets.backend, in.rate.Num, in.rate.Den, nets.voice, r.step
	if l := job.LatentSync; !l.Noise && !l.Parity {
		o.Speech = nets.voice.Speech
		o.Quiet = func(frame int64) bool {
			at := in.rate.Time(frame).Seconds()
			return nets.voice.Quiet(at-quietMargin, at+quietMargin)
		}
	}
	p, err := findProfile(job.LatentSync.Profile)
	if err != nil {
		return nil, err
	}
	asked := job.LatentSync.Parity || job.LatentSync.Precision != "" && job.LatentSync.Precision != "auto"
	if err := precision(ctx, &o, p.half, asked, r.warn); err != nil {
		return nil, err
	}
	for _, tile := range []*int{&o.Plan.Tile, &o.May.Tile} {
		if o.Resolution <= *tile {
			*tile = 0 // a picture is no larger than a tile
		}
	}
	nets.budget.limit(&o, in)
	o.Level = nets.level
	o.Replanned = func(p memory.Plan, why string) {
		r.useMemory(p, o.Budget)
		r.planned(why + ": goes on with " + p.String())
	}
	if o.Journal, err = nets.resume(job, in, o, r); err != nil {
		return nil, err
	}
	e, err := latentsync.New(ctx, o)
	if err == nil {
		r.useMemory(e.Options().Plan, o.Budget)
	}
	return e, err
}

// quietMargin is how far from any speech a frame lies within a long silence,
// seconds: lips begin to open and end to close within it.
const quietMargin = 0.4
