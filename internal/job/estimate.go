package job

import (
	"context"
	"time"

	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
)

// Estimate says what a job would do. DryRun returns it.
type Estimate struct {
	Engine string  `json:"engine"`
	Why    string  `json:"why"` // why this engine was chosen
	Width  int     `json:"width"`
	Height int     `json:"height"`
	FPS    float64 `json:"fps"`
	Frames int64   `json:"frames"`         // of the output, according to the headers
	Voice  float64 `json:"voice_seconds"`  // length of the voice
	Speech float64 `json:"speech_seconds"` // of the voice, while somebody speaks; of several voices, the sum

	// Speakers has the voice of each of several speakers. Voice is the length of the
	// longest then.
	Speakers []SpeakerEstimate `json:"speakers,omitempty"`

	// Estimate is that of the engine. Its fields are 0 or empty for the preview.
	lip.Estimate

	// Disk says what the job writes where.
	Disk []DiskUse `json:"disk,omitempty"`

	// Total is about how many seconds the whole job takes.
	Total float64 `json:"total_seconds,omitempty"`
	// MemoryPeak is the most memory that this process held during the dry run.
	MemoryPeak int64 `json:"memory_peak"`
}

// SpeakerEstimate says how long a speaker's voice is.
type SpeakerEstimate struct {
	Face   string  `json:"face"`
	Voice  float64 `json:"voice_seconds"`
	Speech float64 `json:"speech_seconds"`
}

// DryRun does all of a job except for the frames: it checks the settings, probes
// the inputs, loads the networks, listens to the voice, tries a step, and returns
// what the job would do. It writes nothing. It reports its progress to o, which may
// be nil.
func DryRun(ctx context.Context, job Job, o Observer) (e Estimate, err error) {
	r := newReporter(ctx, o)
	err = do(ctx, job, r, func(s *session) error {
		s.dry = true
		if err := s.prepare(ctx); err != nil {
			return err
		}
		e, err = s.estimate(ctx)
		return err
	})
	e.MemoryPeak = r.meter.Peak()
	r.end(&Result{Engine: e.Engine, FPS: e.FPS, Width: e.Width, Height: e.Height}, err)
	return e, err
}

func (s *session) estimate(ctx context.Context) (e Estimate, err error) {
	v := s.video.Video
	e = Estimate{
		Engine: s.engine.Name(), Why: s.why, Width: v.Width, Height: v.Height, FPS: s.rate.Float(),
		Frames: max(s.expected, s.atLeast), Disk: s.disk,
	}
	for i, v := range s.voices {
		e.Voice, e.Speech = max(e.Voice, v.Duration()), e.Speech+v.SpeechSeconds()
		if len(s.voices) > 1 {
			e.Speakers = append(e.Speakers, SpeakerEstimate{s.job.Speakers[i].Face, v.Duration(), v.SpeechSeconds()})
		}
	}
	if e.Estimate, err = s.engine.Estimate(ctx, e.Frames, e.Voice); err != nil {
		return e, err
	}
	engine := e.Estimate.Seconds
	s.addRestorer(&e)
	if e.Total = e.Estimate.Seconds; engine == 0 {
		var rest float64
		rest, err = s.try(ctx, e.Frames)
		e.Total += rest
	}
	return e, err
}

// sampleFrames is the number of frames made to estimate how long all of them take.
const sampleFrames = 30

// try makes some frames, throws them away, and returns the seconds that all
// frames would take.
func (s *session) try(ctx context.Context, frames int64) (float64, error) {
	source, err := s.sequence(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = source.Close() }()
	began := time.Now()
	stats, err := s.pipeline(&bounded{seq: source, atLeast: s.atLeast, cut: s.cut, end: sampleFrames, path: s.job.Video}, discard{}).Run(ctx)
	if err != nil || stats.Frames == 0 {
		return 0, err
	}
	return thousandths(time.Since(began).Seconds() / float64(stats.Frames) * float64(frames)), nil
}

// discard is a sink that drops its frames.
type discard struct{}

func (discard) Write(*frame.Frame) error { return nil }
