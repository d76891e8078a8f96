// Package latentsync is the lip engine that runs the published LatentSync
// checkpoints (docs/spec/latentsync.md). It denoises windows of frames; with
// overlapping windows, a cut restarts the window, and peak memory does not
// depend on the length of the video.
package latentsync

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
	"github.com/lipstream/lipstream/internal/latentsync/sampler"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
)

// Samplers by name.
const (
	DDIM = "ddim"
	DPM  = "dpm++" // DPM-Solver++ 2M
)

// Options of an engine. Backend, Files, Resolution, Voice and the rate are
// required; Defaults gives the rest.
type Options struct {
	Backend backend.Backend
	Device  string
	Threads int

	// Plan is the best that there should be, and May what may be given up of
	// it. The plan in force is the best of those that need no more than Budget,
	// bytes of the memory that the device computes in, less Besides, which others
	// take of it; 0 takes Plan. BudgetFrom says for people who set it. The plan's
	// precision is that of UNet and VAE; Whisper stays in f32 on a CPU.
	//
	// Where networks do not stay loaded, and May lets it, as many windows are in
	// flight as fit the budget, up to InFlight: they share the loading.
	Plan            memory.Plan
	May             memory.Reductions
	InFlight        int
	Batched         bool // windows in flight are one call of the UNet: for devices that are not full with one
	Budget, Besides int64
	BudgetFrom      string
	FrameBytes      int64 // of a frame that the engine holds, where it is held in the same memory
	// Level tells how short memory is; it may be nil.
	Level func() memory.Level
	// Replanned is told when another plan comes into force, and why; it may be
	// nil.
	Replanned func(p memory.Plan, why string)
	// ShrinkEvery and ReturnEvery are after how many windows the backend gives
	// memory that it does not use back, and Go and the C library give theirs
	// back to the system; 0 is never.
	ShrinkEvery, ReturnEvery int

	Files      Files
	Version    string // "1.5", "1.6": for the name only
	Resolution int    // of the face: 256 for LatentSync 1.5, 512 for 1.6

	Sampler   string  // DDIM or DPM
	Steps     int     // of denoising, 1 to 100
	Guidance  float64 // classifier-free guidance scale, at least 1; 1 does without the unconditional pass
	DeepCache int     // a full pass every so many steps; 0 and 1: each step
	Seed      int64   // of the initial latents

	Voice            *audio.Voice
	RateNum, RateDen int64 // frames per second of the video

	Overlap int // frames of a window shared with the one before, and blended; of small windows at most half
	// Speech tells how much speech there is at a time in seconds, 0 to 1. Where
	// there is none the network hears silence, whatever noise the voice holds.
	// nil gives it everything.
	Speech func(seconds float64) float64
	// Silence says what happens in the frames that Quiet tells to lie within a
	// long silence: SilenceSpeak (or ""), SilenceHold or SilencePass.
	Silence string
	Quiet   func(frame int64) bool
	// WhisperOverlap lets Whisper's windows of 30 s overlap, so that no seam is
	// heard between them.
	WhisperOverlap bool
	// Whole pastes the whole crop back with LatentSync's own soft border and
	// aligns with its roundings. Otherwise only the generated region is pasted,
	// with a feathered edge.
	Whole bool
	// Short denoises windows at the end of a shot with as many frames as are
	// left, as the original does; otherwise they are filled up.
	Short bool
	// IgnoreCuts lets windows run across cuts and from one face to another.
	IgnoreCuts bool
	// NeedFace makes a frame without a face an error, of kind NoFace.
	NeedFace bool
	// Sample draws the latents of pictures from the VAE's posterior, as the
	// original does, instead of taking its mean.
	Sample bool

	// Anchors gives the points that a face is aligned by; nil takes them from
	// its 478 points.
	Anchors func(lip.Item) face.Anchors
	// Progress is told of each finished denoising step; it may be nil. frame
	// is the first frame of the windows in flight.
	Progress func(frame int64, step, steps int)
	// Journal gives the windows of an earlier run, and keeps this one's; it may
	// be nil.
	Journal *journal.Journal
}

// Files are the paths of the checkpoints. UNet and VAE may be there in a lower
// precision as well, for a plan that has it.
type Files struct {
	UNet, VAE, Whisper string
	Lower              backend.Precision
	LowerUNet          string
	LowerVAE           string
}

func (f Files) unet(p backend.Precision) string {
	if f.Lower != "" && p == f.Lower {
		return f.LowerUNet
	}
	return f.UNet
}

func (f Files) vae(p backend.Precision) string {
	if f.Lower != "" && p == f.Lower {
		return f.LowerVAE
	}
	return f.VAE
}

// Defaults are the options that do not depend on the job.
func Defaults() Options {
	return Options{
		Plan:    memory.Plan{Windows: 1, Frames: 16, VAEFrames: 1, Slices: 1, Offload: memory.OffloadNone, Precision: string(backend.F32)},
		Sampler: DDIM, Steps: 20, Guidance: 1.5, DeepCache: 3, Seed: 1247,
		Overlap: 4, WhisperOverlap: true, ShrinkEvery: 2, ReturnEvery: 3,
	}
}

// Parity gives o the original's behaviour where Lipstream would do better.
func (o Options) Parity() Options {
	o.Overlap, o.WhisperOverlap, o.Speech = 0, false, nil
	o.Whole, o.Short, o.Sample, o.IgnoreCuts, o.NeedFace = true, true, true, true, true
	o.May.Frames, o.May.Tile, o.May.Precision = false, 0, "" // all of them change pictures
	return o
}

// Name is what the engine calls itself.
func (o Options) Name() string { return strings.TrimSpace("latentsync " + o.Version) }

// Check returns an error of kind Usage if the options make no sense. Ranges that
// do not depend on other settings are checked by package settings.
func (o Options) Check() error {
	p := o.Plan
	switch {
	case o.Overlap < 0 || o.Overlap > p.Frames/2:
		return fault.Field("overlap", strconv.Itoa(o.Overlap), fmt.Sprintf("is out of range for windows of %d frames", p.Frames), "choose a value from 0 to half of `frames_per_window`")
	case p.Tile != 0 && p.Tile < minTile:
		return fault.Field("vae_tile", strconv.Itoa(p.Tile), "is too small", fmt.Sprintf("set it to 0 for whole frames, or to a multiple of 64 from %d", minTile))
	case o.RateNum <= 0 || o.RateDen <= 0:
		return fault.Internal.New("set up latentsync", "there is no frame rate")
	}
	_, err := o.sampler()
	return err
}

// minTile is the smallest side of the VAE's tiles, in pixels.
const minTile = 128

// overlap of windows of so many frames.
func (o Options) overlap(frames int) int { return min(o.Overlap, frames/2) }

// hold is how many frames the engine keeps back under a plan.
func (o Options) hold(p memory.Plan) int {
	overlap := o.overlap(p.Frames)
	return overlap + p.Windows*(p.Frames-overlap) - 1
}

func (o Options) sampler() (sampler.Sampler, error) {
	switch o.Sampler {
	case DDIM:
		return sampler.NewDDIM(o.Steps)
	case DPM:
		return sampler.NewDPMSolver(o.Steps, sampler.Linspace)
	}
	return nil, fault.Field("sampler", strconv.Quote(o.Sampler), "is not one of its values", "choose one of "+DDIM+", "+DPM)
}

// Precision settles what Auto means on a device: f16 on a GPU; on a CPU f32,
// where every backend gives the same result, or with half the half precision
// that the CPU computes in, if there is one.
func Precision(b backend.Backend, device string, p backend.Precision, half bool) (backend.Precision, error) {
	if p != backend.Auto {
		return p, nil
	}
	list, err := b.Devices()
	if err != nil {
		return p, err
	}
	for _, d := range list {
		switch {
		case d.ID != cmp.Or(device, list[0].ID):
		case d.ID != "cpu":
			return backend.F16, nil
		case half && d.Half != "":
			return d.Half, nil
		}
	}
	return backend.F32, nil
}
