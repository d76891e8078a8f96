// Package neural is the lip engine that runs published checkpoints: those of LatentSync
// (docs/spec/latentsync.md) and MuseTalk (docs/spec/musetalk.md). It generates windows of
// frames. A cut restarts the window, and peak memory does not depend on the length of the
// video.
package neural

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/journal"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/sampler"
	"github.com/lipstream/lipstream/internal/settings"
)

// The values of Options.Sampler.
const (
	DDIM = "ddim"
	DPM  = "dpm++" // DPM-Solver++ 2M
)

// The values of Options.Silence: what happens to the mouth in a long silence.
const (
	SilenceSpeak = "speak" // frames are denoised like all others; the network closes the mouth
	SilenceHold  = "hold"  // the mouth stays as it was when the silence began, which costs nothing
	SilencePass  = "pass"  // frames are not changed
)

// Options configures an engine. Backend, Files, Resolution, Voice and the frame
// rate are required; Defaults returns the rest.
type Options struct {
	Backend backend.Backend
	// Device is one of Backend's. If it is Resident, the latents and all tensors
	// between the graphs of the UNet stay in its memory.
	Device  backend.Device
	Threads int

	// Plan is the best memory plan to use, and Allowed lists the reductions that
	// may be made to it. The engine begins with the best of the resulting plans
	// that fits the budget. The precision of the plan applies to UNet and VAE;
	// Whisper stays in f32 on a CPU.
	Plan    memory.Plan
	Allowed memory.Reductions
	// Budget is the memory that the job may use, in bytes of the memory that the
	// device computes in, and BudgetFrom names where this limit comes from. If both are
	// not set, there is no limit. Reserved is the part of Budget that the rest of the
	// job uses.
	Budget, Reserved int64
	BudgetFrom       string
	// ArenaLimit is the most that the networks' arena takes of a device with memory of
	// its own, in bytes. Allocations beyond it fail, and the job goes on with a cheaper
	// plan. 0 is no limit.
	ArenaLimit int64
	// FrameBytes is the size of a frame that the engine holds, or 0 if frames are not
	// held in the memory that Budget limits.
	FrameBytes int64
	// Speakers is the number of engines that share the networks, each of which holds
	// frames; 0 is the same as 1.
	Speakers int
	// InFlight is the most windows in flight if networks do not stay loaded, because
	// more windows share the loading. Plan.Windows is raised up to it as far as the
	// budget and Allowed permit.
	InFlight int
	// Batched runs the UNet once for all windows in flight, for devices that one
	// window does not keep busy.
	Batched bool
	// Level reports how short memory is; it may be nil.
	Level func() memory.Level
	// Replanned is called when another plan comes into force, with the reason; it
	// may be nil.
	Replanned func(p memory.Plan, why string)
	// ShrinkEvery is the number of windows after which the backend frees memory
	// that it does not use, and ReturnEvery the number after which Go and the C
	// library return theirs to the system; 0 is never.
	ShrinkEvery, ReturnEvery int

	Files      Files
	Version    string // "1.5", "1.6": only for the name
	Resolution int    // of the face: 256 for LatentSync 1.5, 512 for 1.6

	Sampler   string  // DDIM or DPM
	Steps     int     // of denoising, 1 to 100
	Guidance  float64 // classifier-free guidance scale, at least 1; 1 omits the unconditional pass
	DeepCache int     // every how many steps the whole UNet runs; 0 and 1 are every step
	// GuidanceFrom and GuidanceTo are the shares of the steps, 0 to 1, between which there
	// is guidance; 0 and 0 are all steps (Kynkäänniemi et al., Applying guidance in a
	// limited interval, 2024). Guidance also ends once the unconditional prediction
	// differs from the other by less than GuidanceThreshold, relative to the root mean
	// square; 0 is never.
	GuidanceFrom, GuidanceTo float64
	GuidanceThreshold        float64
	// GuidanceEvery is every how many steps with guidance the unconditional pass runs; 0 and
	// 1 are each of them. The steps between use the difference that it made then (Lv et al.,
	// FasterCache, 2024, without their weights for frequencies).
	GuidanceEvery int
	// DeepCacheThreshold is the change of the UNet's first feature map since the last full
	// step, relative to the root mean square, above which a step is full; 0 is none.
	DeepCacheThreshold float64
	Seed               int64 // of the initial latents

	Voice            *audio.Voice
	RateNum, RateDen int64 // frames per second of the video

	// Overlap is the number of frames that a window shares with the one before,
	// where they are crossfaded. Windows with fewer than 2·Overlap frames share half.
	Overlap int
	// Speech returns how much speech there is at a time in seconds, 0 to 1. Where
	// it returns 0, the network hears silence instead of noise. If it is nil, the
	// network hears the voice unchanged.
	Speech func(seconds float64) float64
	// Silence is what happens to frames in a long silence: SilenceSpeak (or ""),
	// SilenceHold or SilencePass.
	Silence string
	// Quiet reports whether a frame lies within a long silence; it may be nil.
	Quiet func(frame int64) bool
	// WhisperOverlap lets Whisper's windows of 30 s overlap, which avoids a jump
	// between them.
	WhisperOverlap bool
	// Whole pastes the whole crop back with LatentSync's own soft border and
	// aligns with its rounding. Otherwise only the generated region is pasted,
	// with a feathered edge.
	Whole bool
	// Short denoises windows at the end of a shot with as many frames as remain, as
	// the original does, and makes the output as long as the original's, which counts
	// Whisper's features. Otherwise such windows are filled up.
	Short bool
	// IgnoreCuts lets windows run across cuts and from one face to another.
	IgnoreCuts bool
	// NeedFace makes a frame without a face an error, of kind NoFace.
	NeedFace bool
	// Sample draws the latents of images from the VAE's posterior, as the original
	// does, instead of taking its mean.
	Sample bool

	// Anchors returns the points by which a face is aligned. If it is nil, they come
	// from the 478 points of the face.
	Anchors func(lip.Item) face.Anchors
	// Progress is called after each denoising step; it may be nil. frame is the
	// first frame of the windows in flight.
	Progress func(frame int64, step, steps int)
	// Journal returns the windows of an earlier run and stores those of this one;
	// it may be nil.
	Journal *journal.Journal

	recipe recipe
	parity []string // behaviours of the original that the settings request
}

// Files holds the paths of the checkpoints. LowerUNet and LowerVAE are copies of
// UNet and VAE in the precision Lower, for plans that use it.
type Files struct {
	UNet, VAE, Whisper string
	// Decoder is the file of another decoder than that of VAE; "" is none.
	Decoder     string
	tinyEncoder bool // VAE is the file of TAESD
	Lower       backend.Precision
	LowerUNet   string
	LowerVAE    string
	// StoredUNet and StoredVAE are copies whose weights are as the plan stores them.
	StoredUNet, StoredVAE string
}

// decoder returns the file of the decoder.
func (f Files) decoder() string { return cmp.Or(f.Decoder, f.VAE) }

// The values of the setting `vae`.
const (
	vaeTiny        = "tiny"         // TAESD instead of the VAE
	vaeTinyDecoder = "tiny-decoder" // TAESD's decoder only
)

// setVAE sets the files for a value of the setting `vae`. TAESD's files are in the set, if
// they exist in the folder.
func (f *Files) setVAE(value, dir string, set models.Set) error {
	if value != vaeTiny && value != vaeTinyDecoder {
		return nil
	}
	if f.Decoder = set.TAESDDecoder; value == vaeTiny {
		f.VAE, f.tinyEncoder = set.TAESDEncoder, true
	}
	cause := ""
	switch {
	case set.TAESDDecoder == "" && set.TAESDEncoder == "":
		cause = "it is not installed"
	case f.Decoder == "":
		cause = "its decoder is not installed"
	case f.VAE == "":
		cause = "its encoder is not installed"
	default:
		return nil
	}
	return fault.Missing.New("find TAESD in "+dir, cause, "run: lipstream models pull taesd")
}

// in returns the files for networks in a precision under a plan.
func (f Files) in(p backend.Precision, plan memory.Plan) Files {
	if plan.Weights != "" {
		f.UNet, f.VAE = f.StoredUNet, f.StoredVAE
	} else if f.Lower != "" && p == f.Lower {
		f.UNet, f.VAE = f.LowerUNet, f.LowerVAE
	}
	return f
}

// Defaults returns the options that do not depend on the job.
func Defaults() Options {
	return Options{
		recipe:  latentSync{},
		Plan:    memory.Plan{Windows: 1, Frames: 16, VAEFrames: 1, Slices: 1, Offload: memory.OffloadNone, Precision: string(backend.F32)},
		Sampler: DDIM, Steps: 20, Guidance: 1.5, DeepCache: 3, Seed: 1247,
		Overlap: 4, WhisperOverlap: true, ShrinkEvery: 2, ReturnEvery: 3,
	}
}

// Name returns the name of the engine: "latentsync 1.6".
func (o Options) Name() string { return strings.TrimSpace(o.recipe.name() + " " + o.Version) }

// Check returns an error of kind Usage if the options are invalid. Package settings
// checks the ranges that do not depend on other settings.
func (o Options) Check() error {
	p := o.Plan
	switch {
	case o.Overlap < 0 || o.Overlap > p.Frames/2:
		return fault.Field("overlap", strconv.Itoa(o.Overlap), fmt.Sprintf("is out of range for windows of %d frames", p.Frames), "choose a value from 0 to half of `frames_per_window`")
	case p.Tile != 0 && p.Tile < minTile:
		return fault.Field("vae_tile", strconv.Itoa(p.Tile), "is too small", fmt.Sprintf("set it to 0 for whole frames, or to a multiple of 64 from %d", minTile))
	}
	if o.GuidanceFrom > o.guidanceTo() {
		return fault.Field("guidance_from", strconv.FormatFloat(o.GuidanceFrom, 'g', -1, 64), "is greater than `guidance_to`", "make it smaller")
	}
	_, err := o.sampler()
	return err
}

func (o Options) guidanceTo() float64 {
	if o.GuidanceTo == 0 {
		return 1
	}
	return o.GuidanceTo
}

// guides reports whether step k may have guidance.
func (o Options) guides(k int) bool {
	at := float64(k) / float64(o.Steps)
	return o.Guidance > 1 && at >= o.GuidanceFrom && at < o.guidanceTo()
}

// compares reports whether the unconditional pass runs in step k, which may have compared
// both predictions in a step before.
func (o Options) compares(k int, before bool) bool {
	return o.guides(k) && (!before || k%max(1, o.GuidanceEvery) == 0)
}

// sparing reports whether steps differ in what they compute beyond DeepCache's interval,
// and may do so from window to window.
func (o Options) sparing() bool {
	return o.Guidance > 1 && (o.GuidanceFrom > 0 || o.guidanceTo() < 1 || o.GuidanceThreshold > 0 || o.GuidanceEvery > 1) || o.reused()
}

// reused reports whether DeepCacheThreshold has an effect.
func (o Options) reused() bool { return o.DeepCacheThreshold > 0 && o.DeepCache > 1 }

// unused returns warnings about settings that have no effect with the others.
func (o Options) unused(l settings.LatentSync) (warnings []string) {
	for _, s := range []struct {
		name  string
		value *float64
		none  float64 // the value that asks for nothing
	}{{"guidance_from", l.GuidanceFrom, 0}, {"guidance_to", l.GuidanceTo, 1}, {"guidance_threshold", l.GuidanceThreshold, 0}} {
		// A guidance_to of 0 turns guidance off itself.
		if v := given(s.value, s.none); o.Guidance <= 1 && v != s.none && (v != 0 || s.none == 0) {
			warnings = append(warnings, fmt.Sprintf("`%s` has no effect without guidance: set `guidance` to more than 1", s.name))
		}
	}
	if o.GuidanceEvery > 1 && o.Guidance <= 1 {
		warnings = append(warnings, "`guidance_every` has no effect without guidance: set `guidance` to more than 1")
	}
	if o.DeepCacheThreshold > 0 && !o.reused() {
		warnings = append(warnings, "`deepcache_threshold` has no effect if all layers are computed at every step: set `deepcache` to more than 1")
	}
	return warnings
}

// resident reports whether the latents stay on the device.
func (o Options) resident() bool { return o.Device.Resident && !o.sparing() }

// minTile is the smallest side of the VAE's tiles, in pixels.
const minTile = 128

// overlap returns the overlap of windows of so many frames.
func (o Options) overlap(frames int) int { return min(o.Overlap, frames/2) }

// hold returns how many frames the engine holds under a plan.
func (o Options) hold(p memory.Plan) int {
	overlap := o.overlap(p.Frames)
	return overlap + p.Windows*(p.Frames-overlap) - 1
}

func (o Options) sampler() (sampler.Sampler, error) {
	switch o.Sampler {
	case DDIM:
		return sampler.NewDDIM(o.Steps)
	case DPM:
		return sampler.NewDPMSolver(o.Steps)
	}
	return nil, fault.Field("sampler", strconv.Quote(o.Sampler), "is not one of its values", "choose one of "+DDIM+", "+DPM)
}

// target returns what a network in a precision is built for under a plan.
func (o Options) target(precision backend.Precision, p memory.Plan) network.Target {
	t := network.For(o.Backend.Name(), o.Device, precision.DType())
	t.Slices = p.Slices
	return t
}

// autoPrecision returns the precision that Auto stands for on a device: on a GPU its half
// precision, if it has one; on a CPU f32, in which every backend computes the same
// result, or with half the half precision of the CPU, if it has one.
func autoPrecision(d backend.Device, half bool) backend.Precision {
	if half || d.ID != "cpu" {
		return cmp.Or(d.Half, backend.F32)
	}
	return backend.F32
}
