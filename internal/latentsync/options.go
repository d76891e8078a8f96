// Package latentsync is the lip engine that runs the published LatentSync
// checkpoints (spec/latentsync.md). It denoises windows of frames; with
// overlapping windows, a cut restarts the window, and peak memory does not
// depend on the length of the video.
package latentsync

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/latentsync/sampler"
	"github.com/lipstream/lipstream/internal/lip"
)

// Samplers by name.
const (
	DDIM = "ddim"
	DPM  = "dpm++" // DPM-Solver++ 2M
)

// Options of an engine. Backend, Files, Resolution, Voice and the rate are
// required; Defaults gives the rest.
type Options struct {
	Backend   backend.Backend
	Device    string
	Precision backend.Precision // of UNet and VAE; Whisper stays in f32 on a CPU
	Threads   int

	Files      Files
	Version    string // "1.5", "1.6": for the name only
	Resolution int    // of the face: 256 for LatentSync 1.5, 512 for 1.6

	Sampler   string  // DDIM or DPM
	Steps     int     // of denoising, 1 to 100
	Guidance  float64 // classifier-free guidance scale, at least 1; 1 does without the unconditional pass
	DeepCache int     // a full pass every so many steps; 0 and 1: each step
	Seed      int64   // of the initial latents

	Voice            *audio.Spool
	RateNum, RateDen int64 // frames per second of the video

	Window  int // frames denoised together, 1 to the checkpoint's 24; trained with 16
	Overlap int // of them shared with the window before, and blended
	// Speech tells how much speech there is at a time in seconds, 0 to 1. Where
	// there is none the network hears silence, whatever noise the voice holds.
	// nil gives it everything.
	Speech func(seconds float64) float64
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
	// is the first frame of the window.
	Progress func(frame int64, step, steps int)
}

// Files are the paths of the checkpoints.
type Files struct{ UNet, VAE, Whisper string }

// Defaults are the options that do not depend on the job.
func Defaults() Options {
	return Options{
		Precision: backend.F32, Sampler: DDIM, Steps: 20, Guidance: 1.5, DeepCache: 3, Seed: 1247,
		Window: 16, Overlap: 4, WhisperOverlap: true,
	}
}

// Parity gives o the original's behaviour where Lipstream would do better.
func (o Options) Parity() Options {
	o.Overlap, o.WhisperOverlap, o.Speech = 0, false, nil
	o.Whole, o.Short, o.Sample, o.IgnoreCuts, o.NeedFace = true, true, true, true, true
	return o
}

// Name is what the engine calls itself.
func (o Options) Name() string { return strings.TrimSpace("latentsync " + o.Version) }

// Check refuses options that make no sense, as usage errors.
func (o Options) Check() error {
	bad := func(option, value, cause, hint string) error {
		return fault.New(fault.Usage, "option", option+" "+value, cause, hint)
	}
	switch {
	case o.Steps < 1 || o.Steps > 100:
		return bad("--steps", strconv.Itoa(o.Steps), "is out of range", "1 to 100; 20 is usual")
	case !(o.Guidance >= 1 && o.Guidance <= 20):
		return bad("--guidance", fmt.Sprint(o.Guidance), "is out of range", "1 to 20; 1.5 is usual, 1 takes half the time")
	case o.DeepCache < 0 || o.DeepCache > 100:
		return bad("--deepcache", strconv.Itoa(o.DeepCache), "is out of range", "1 does every step in full, 3 is usual")
	case o.Window < 1 || o.Window > 24:
		return bad("--window", strconv.Itoa(o.Window), "is out of range", "1 to 24; the checkpoints were trained with 16")
	case o.Overlap < 0 || o.Overlap > o.Window/2:
		return bad("--overlap", strconv.Itoa(o.Overlap), fmt.Sprintf("is out of range for windows of %d frames", o.Window), "0 to half of the window")
	case o.Resolution < 64 || o.Resolution > 1024 || o.Resolution%64 != 0:
		return bad("--resolution", strconv.Itoa(o.Resolution), "is out of range", "256 for LatentSync 1.5, 512 for 1.6")
	case o.RateNum <= 0 || o.RateDen <= 0:
		return fault.New(fault.Internal, "set up latentsync", "", "there is no frame rate", "")
	}
	_, err := o.sampler()
	return err
}

func (o Options) sampler() (sampler.Sampler, error) {
	switch o.Sampler {
	case DDIM:
		return sampler.NewDDIM(o.Steps)
	case DPM:
		return sampler.NewDPMSolver(o.Steps, sampler.Linspace)
	}
	return nil, fault.New(fault.Usage, "option", "--sampler "+strconv.Quote(o.Sampler), "is not known", "choose one of "+DDIM+", "+DPM)
}

// Precision settles what Auto means on a device: f32 on a CPU, where every
// backend gives the same result, f16 on a GPU.
func Precision(b backend.Backend, device string, p backend.Precision) (backend.Precision, error) {
	if p != backend.Auto {
		return p, nil
	}
	if device == "" {
		list, err := b.Devices()
		if err != nil {
			return p, err
		}
		device = list[0].ID
	}
	if device == "cpu" {
		return backend.F32, nil
	}
	return backend.F16, nil
}
