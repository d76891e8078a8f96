package lip

import (
	"context"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/journal"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/settings"
)

// Kind is a kind of engine, which the setting `engine` names. internal/job has
// the list of all kinds.
type Kind interface {
	// Name returns the value of the setting.
	Name() string
	// Describe returns one sentence for people who choose an engine.
	Describe() string
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
