// Package lipstream gives a video, or a picture, of a person the mouth that
// speaks a given voice.
//
//	result, err := lipstream.Run(ctx, lipstream.Job{
//		Video: "face.mp4", Audio: "voice.wav", Output: "out.mp4",
//	}, lipstream.ObserverFunc(func(e lipstream.Event) { log.Println(e.Phase, e.Frame) }))
//
// Three engines make mouths: the preview moves the speaker's own mouth, MuseTalk and
// LatentSync generate a new one with published checkpoints. By default a job picks
// LatentSync if its checkpoint is installed, else MuseTalk if its checkpoint is, else
// the preview. The [Settings] of a job say more:
//
//	job.Settings = lipstream.Settings{Engine: lipstream.EngineLatentSync}
//	job.Steps = new(10)
//
// Memory does not grow with the length of the video. Cancelling ctx ends the job
// within a second, or when the network that is being compiled is done, and leaves
// nothing behind. Errors are *[Error].
//
// The types are aliases of those in internal packages, where their fields are
// documented: go doc ./internal/job Job.
package lipstream

import (
	"context"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/job"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/settings"
)

// What a job is.
type (
	Job      = job.Job           // what to make
	Speaker  = job.Speaker       // a face with a voice of its own
	Settings = settings.Settings // how to make it
	Time     = settings.Time     // a position in a video
	Size     = settings.Size     // an amount of memory
	Part     = job.Part          // a stretch of frames that is made on its own
	Limits   = job.Limits        // bounds for the inputs of strangers
	Picture  = job.Picture       // a finished frame, scaled down
)

// What a job returns.
type (
	Result          = job.Result
	Report          = job.Report // where time and memory went
	SpeakerReport   = job.SpeakerReport
	StageReport     = job.StageReport  // one stage of the pipeline, or one part of the engine's work
	PhaseReport     = job.PhaseReport  // one phase of the job
	MemoryReport    = job.MemoryReport // the memory of the job
	MemorySample    = job.MemorySample // a reading of it
	MemoryPlan      = memory.Plan      // how the engine uses memory
	Note            = job.Note         // a message during the job
	Estimate        = job.Estimate     // what a dry run returns
	EstimateStage   = lip.EstimateStage
	SpeakerEstimate = job.SpeakerEstimate
	Error           = fault.Error // what every failure of this package is or wraps
)

// What a job reports while it runs.
type (
	Event        = job.Event
	Observer     = job.Observer
	ObserverFunc = job.ObserverFunc
)

// The values of Settings.Engine.
const (
	EngineAuto       = settings.EngineAuto
	EnginePreview    = settings.EnginePreview
	EngineMuseTalk   = settings.EngineMuseTalk
	EngineLatentSync = settings.EngineLatentSync
)

// The values of Event.Type.
const (
	EventStart    = job.EventStart
	EventPhase    = job.EventPhase
	EventProgress = job.EventProgress
	EventWarning  = job.EventWarning
	EventAlert    = job.EventAlert
	EventPlan     = job.EventPlan
	EventDone     = job.EventDone
	EventError    = job.EventError
)

// The values of Event.Phase.
const (
	PhaseProbe  = job.PhaseProbe
	PhaseLoad   = job.PhaseLoad
	PhaseListen = job.PhaseListen
	PhaseFrames = job.PhaseFrames
	PhaseFinish = job.PhaseFinish
)

// The values of StageReport.Part.
const (
	PartPipeline = job.PartPipeline
	PartEngine   = job.PartEngine
)

// Run does one job from beginning to end and reports its progress to o, which
// may be nil. The output appears under its name only when it is complete. When
// Run returns, all goroutines and child processes that it started have ended
// and its temporary files are gone.
func Run(ctx context.Context, j Job, o Observer) (Result, error) { return job.Run(ctx, j, o) }

// ReadyEngines returns the names of the engines that can run on this machine with the
// settings, the best last.
func ReadyEngines(s Settings) []string { return job.ReadyEngines(s) }

// DryRun does everything of a job but the frames and returns what the job would
// do: its engine, its memory and its time. It writes nothing.
func DryRun(ctx context.Context, j Job, o Observer) (Estimate, error) { return job.DryRun(ctx, j, o) }

// Split returns how a job can be made in parts of about the length every (0 means
// 1 minute), each with Run, which Join puts together. It returns nil if the
// output is shorter than two parts or cannot be split.
func Split(ctx context.Context, j Job, every time.Duration) ([]Part, error) {
	return job.Split(ctx, j, every)
}

// Join makes the output of a job from its parts, in their order, and adds the
// sound. It reports its progress to o, which may be nil.
func Join(ctx context.Context, j Job, parts []string, o Observer) (Result, error) {
	return job.Join(ctx, j, parts, o)
}

// EngineInfo describes an engine for people who choose one.
type EngineInfo = job.EngineInfo

// Engines lists the engines that a job can name, auto first.
func Engines() []EngineInfo { return job.Engines() }

// Setting describes one field of Settings.
type Setting = settings.Field

// RemoteSettings lists the settings that a job on a server may have.
func RemoteSettings() []Setting { return settings.Remote() }

// ModelsDir returns the folder in which checkpoints are looked for:
// LIPSTREAM_MODELS_DIR, or lipstream/models in the user's cache folder.
func ModelsDir() (string, error) { return models.Dir() }

// Version returns the version of Lipstream, as built.
func Version() string { return job.Version() }
