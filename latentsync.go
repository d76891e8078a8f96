package lipstream

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/latentsync"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/tensor"
)

// LatentSync are the options of the latentsync engine. The zero value is the
// default. Those that say "the original" give a behaviour of the original
// program back where Lipstream does better; Parity sets all of them.
type LatentSync struct {
	Models     string // folder of the checkpoints; default: ModelsDir
	Resolution int    // 256 or 512 pixels; default: what the checkpoint was made for
	Precision  string // auto, f32, bf16 or f16; auto is f32 on a CPU and f16 on a GPU
	Device     string // as lipstream doctor lists them: cpu, gpu:0, cuda:0; default: the backend's

	Sampler   string  // ddim (default) or dpm++
	Steps     int     // 1 to 100; default 20
	Guidance  float64 // classifier-free guidance scale, 1 to 20; default 1.5; 1 halves the work
	DeepCache int     // a full pass every so many steps; default 3; 1 is all of them

	Window  int  // frames denoised together, to 24; default 16
	Overlap *int // of them shared with the window before and blended; default 4, the original 0

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
	o.Sampler = cmp.Or(l.Sampler, o.Sampler)
	o.Steps = cmp.Or(l.Steps, o.Steps)
	o.Guidance = cmp.Or(l.Guidance, o.Guidance)
	o.DeepCache = cmp.Or(l.DeepCache, o.DeepCache)
	o.Window = cmp.Or(l.Window, o.Window)
	o.Overlap = min(o.Overlap, o.Window/2)
	if l.Overlap != nil {
		o.Overlap = *l.Overlap
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
		o.Precision = backend.Auto
	case "f32", "bf16", "f16":
		o.Precision = backend.Precision(l.Precision)
	default:
		return o, fault.New(fault.Usage, "option", fmt.Sprintf("--precision %q", l.Precision), "is not known", "choose one of auto, f32, bf16, f16")
	}
	check := o // what comes from the inputs is known to be good
	check.Resolution, check.RateNum, check.RateDen = cmp.Or(o.Resolution, 256), 1, 1
	return o, check.Check()
}

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
		return fault.New(fault.Usage, "use checkpoint", set.UNet, "nothing tells whether it is LatentSync 1.5 or 1.6, whose tensors have the same shapes",
			"say --resolution 256 for 1.5, --resolution 512 for 1.6")
	}
	if err := version.CheckResolution(o.Resolution); err != nil {
		return err
	}
	o.Version = version.Name
	o.Files = latentsync.Files{UNet: set.UNet, VAE: set.VAE, Whisper: set.Whisper}
	return nil
}

// prepared takes the half-precision copies of UNet and VAE where there are
// some, and says what to do where there are none.
func prepared(ctx context.Context, o *latentsync.Options, warn func(string)) {
	dtype := o.Precision.DType()
	if dtype == tensor.F32 {
		return
	}
	dir := filepath.Dir(o.Files.UNet)
	for _, path := range []*string{&o.Files.UNet, &o.Files.VAE} {
		file, ok := models.Prepared(ctx, *path, dtype)
		if !ok {
			warn(fmt.Sprintf("%s is converted to %s on the fly, which takes twice the memory and longer to load; once and for all: lipstream models prepare %s --dtype %s",
				*path, o.Precision, dir, o.Precision))
			return
		}
		*path = file
	}
}

// voice is where the latentsync engine reads the voice from: it is filled
// while the job listens, and knows then where there is speech.
type voice struct {
	spool  *audio.Spool
	speech *audio.Track
}

// newLatentSync loads the checkpoints.
func newLatentSync(ctx context.Context, job Job, o latentsync.Options, nets backend.Backend, rate media.Rational, v *voice, r *reporter) (*latentsync.Engine, error) {
	o.Backend, o.RateNum, o.RateDen, o.Voice, o.Progress = nets, rate.Num, rate.Den, v.spool, r.step
	if l := job.LatentSync; !l.Noise && !l.Parity {
		o.Speech = func(at float64) float64 { return v.speech.Speech(at) }
	}
	var err error
	if o.Precision, err = latentsync.Precision(nets, o.Device, o.Precision); err != nil {
		return nil, err
	}
	prepared(ctx, &o, r.warn)
	return latentsync.New(ctx, o)
}
