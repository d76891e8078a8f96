// Package lip defines what makes mouths: an Engine, and the Kind of engine that a
// job chooses. internal/preview and internal/neural implement both, and
// lip/liptest is their conformance suite.
package lip

import (
	"context"
	"time"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/journal"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/settings"
)

// Engine turns faces into speaking faces, in order.
//
// It changes frames inside the face mask only: in place, or by a Layer. Items
// without a face stay as they are. If the engine finds that it cannot use a face,
// it removes it from its item (Face = nil) and leaves the frame as it is.
type Engine interface {
	// Name returns what the metadata of the result says: "preview",
	// "latentsync 1.6".
	Name() string
	// Hold returns the most items that the engine keeps back because it has to
	// see them before it can finish an earlier one.
	Hold() int
	// Push takes the next item and returns the items that are done, oldest first.
	// The slice is valid until the next call.
	Push(ctx context.Context, it Item) ([]Item, error)
	// Flush returns the items that are still held, at the end of the video.
	Flush(ctx context.Context) ([]Item, error)
	// Report returns what the work took so far. It may be called at any time, from
	// any goroutine.
	Report() Report
	// Estimate tries each kind of work once and returns what a job of so many
	// frames and so many seconds of voice takes. It must not be called between
	// Push and Flush.
	Estimate(ctx context.Context, frames int64, voice float64) (Estimate, error)
	Close() error
}

// Item is one frame of work.
type Item struct {
	Frame *frame.Frame
	// Face is the face in this frame; nil if there is none that can be used.
	Face *face.Face
	// Cut is set where a new shot begins. Nothing learned from the frames before may be
	// used then, nor where a new track of the face begins.
	Cut bool
	// Others are the faces of further speakers, which this engine passes on.
	Others []*face.Face
	// Layer is what the engine puts over the frame; nil if the frame is finished.
	// The composite stage pastes it, so that a device does not wait for what a CPU
	// does to frames.
	Layer Layer
	// Regions are where the frame was changed: in place, and by layers that Composite has
	// pasted.
	Regions []Region
	// Source is a copy of the frame from before the engine; nil if nobody asked for it.
	// Engines leave it alone.
	Source *frame.Frame

	under []Layer // of the engines before, to be pasted first
}

// Layer is an image to be put over a frame.
type Layer interface {
	// Paste changes f, inside the face mask only, and returns where. It may be called
	// from any goroutine, once.
	Paste(f *frame.Frame) Region
}

// Composite pastes the item's layer, if it has one, into its frame.
func (it *Item) Composite() {
	for _, l := range it.under {
		it.Regions = append(it.Regions, l.Paste(it.Frame))
	}
	it.under = nil
	if it.Layer != nil {
		it.Regions = append(it.Regions, it.Layer.Paste(it.Frame))
		it.Layer = nil
	}
}

// Report says what the work of an engine took so far. An engine fills in what
// applies to it.
type Report struct {
	Work []Work // the parts of the work, in the order in which a frame meets them

	Windows int64         // windows of frames that are done
	Window  time.Duration // all denoising steps of all windows together
	// Wall is the time between the first window and the last, and Busy the part of
	// it in which the device computed; 0 before the second window is done.
	Wall, Busy time.Duration

	Plan   *memory.Plan // in force; nil for an engine without one
	Budget int64        // that the plan fits, bytes; 0 is no limit
}

// Work says what one part of the work of an engine took so far.
type Work struct {
	Name   string        // "UNet", "VAE decoder"
	Calls  int64         // how often it ran
	Busy   time.Duration // how long, all calls together
	Memory int64         // bytes held while it ran, as far as the backend can tell; 0 if unknown
}

// Estimate says what an engine would do in a job. An engine fills in what applies
// to it. The JSON form is part of the public interface.
type Estimate struct {
	Backend    string  `json:"backend,omitempty"`
	Precision  string  `json:"precision,omitempty"`
	Resolution int     `json:"resolution,omitempty"` // of the generated face, pixels
	Sampler    string  `json:"sampler,omitempty"`
	Steps      int     `json:"steps,omitempty"`
	FullSteps  int     `json:"full_steps,omitempty"` // without DeepCache's shortcut
	Guidance   float64 `json:"guidance,omitempty"`
	Overlap    int     `json:"overlap,omitempty"` // frames that a window shares with the one before
	Windows    int64   `json:"windows,omitempty"` // in a shot without cuts; each cut adds one

	// Plan says how memory would be used, Needs what that takes at most, and
	// Budget what there is, bytes.
	Plan       *memory.Plan `json:"plan,omitempty"`
	Needs      int64        `json:"needs,omitempty"`
	Budget     int64        `json:"budget,omitempty"`
	BudgetFrom string       `json:"budget_from,omitempty"`

	Stages []EstimateStage `json:"stages,omitempty"`

	// Seconds is how long the engine works on the whole video, without decoding,
	// faces and encoding, which run beside it; 0 if the engine is so fast that the
	// rest takes longer.
	Seconds float64 `json:"estimate_seconds,omitempty"`
}

// EstimateStage is one part of the work of an engine, measured once.
type EstimateStage struct {
	Name    string  `json:"name"`
	Memory  int64   `json:"memory"` // bytes held, as far as the backend can tell
	Seconds float64 `json:"seconds"`
	Per     string  `json:"per"` // the unit of work that takes Seconds
}

// Kind is a kind of engine, which the setting `engine` names. internal/job has
// the list of all kinds.
type Kind interface {
	// Name returns the value of the setting.
	Name() string
	// Describe returns one sentence for people who choose an engine.
	Describe() string
	// Install returns the command that installs what the engine needs, or "" if it
	// needs nothing.
	Install() string
	// Check returns an error if the settings make no sense for this kind. It
	// opens no file.
	Check(s settings.Settings) error
	// Ready reports whether `engine` auto may pick this kind, and why or why not.
	Ready(s settings.Settings) (why string, ok bool)
	// Find looks for what the engine needs, such as checkpoints, and returns the
	// model to open. It loads nothing.
	Find(ctx context.Context, s settings.Settings) (Model, error)
}

// Model is an engine that can be opened, with what a job has to know before it
// does.
type Model struct {
	Name  string // for the metadata of the result: "latentsync 1.6"
	Needs audio.Needs
	// UsesDevice is set if the engine computes on the job's device. The others need
	// the CPU only.
	UsesDevice bool
	// Window and Overlap are the frames of a window and the frames that it shares
	// with the one before; 0 without windows. Parts of a job begin on their grid.
	Window, Overlap int
	// Ahead is how far the engine looks ahead at most, besides its windows. A part of a job
	// is computed so far beyond its end.
	Ahead time.Duration
	// AheadBytes bounds the frames that it holds back for that.
	AheadBytes int64
	// FrameLatents is the number of latents of a frame that the engine puts into the
	// journal; 0 without one.
	FrameLatents int
	// InPlace is set if the engine changes frames before it returns them, not by a Layer.
	InPlace bool
	// Unsplittable is set if the frames of a part would differ from those of the
	// whole job.
	Unsplittable bool
	// Frames returns how many frames the voice asks for; nil means as many as it
	// lasts.
	Frames func(v *audio.Voice) int64
	// Open loads the engine. Closing it is up to the caller.
	Open func(ctx context.Context, h Host) (Engine, error)
}

// Host is what a job provides to its engine.
type Host struct {
	Backend backend.Backend
	Device  backend.Device // of the backend, for the engine's networks
	Rate    media.Rational // of the output, frames per second
	Format  frame.Format   // of the frames
	Voice   *audio.Voice   // is listened to after the engine was opened, before the first frame
	Budget  Budget
	// Speakers is the number of engines that work on the same frames, each on a face of
	// its own; 0 is the same as 1. The second and further ones get the first as Peer:
	// they use its networks, and are closed before it.
	Speakers int
	Peer     Engine
	// Level reports how short of memory the job is.
	Level func() memory.Level
	// Resume opens the journal of the job, which an interrupted run may have left.
	// identity holds what the latents depend on besides the settings and inputs.
	// It returns nil if the user wants no journal.
	Resume func(identity journal.Identity) (*journal.Journal, error)

	// Step is called after each denoising step of a window.
	Step func(step, steps int)
	// Warn is called if something is wrong but the job continues.
	Warn func(message string)
	// Planned is called when another memory plan comes into force, and why.
	Planned func(p memory.Plan, why string)
}

// Budget is the memory that an engine may use.
type Budget struct {
	Bytes    int64  // of the memory that the device computes in; 0 is no limit
	Reserved int64  // that others take of it
	From     string // where the limit comes from, for people
	// GPU is the size of the memory of the GPU that the engine computes on; 0 if
	// it computes in the memory of the host, where frames are held as well.
	GPU int64
}

// DeviceContext is what CUDA's context with the kernels of the libraries, and the
// handles of cuBLAS and cuDNN with their workspaces take of a card. It is a guess:
// no card was at hand. PyTorch's context alone takes 0.4 to 0.6 GB.
const DeviceContext = 900 << 20

// Arena returns the most that the networks' arena may take of a device with memory of its
// own, which all networks share; 0 is no limit.
func (b Budget) Arena() int64 {
	if b.GPU == 0 {
		return 0
	}
	return max(b.Bytes-DeviceContext, 0)
}
