package lipstream

import (
	"context"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/latentsync"
)

// Plan is what a job would do, as DryRun finds out.
type Plan struct {
	Engine string  `json:"engine"`
	Why    string  `json:"why"` // this engine
	Width  int     `json:"width"`
	Height int     `json:"height"`
	FPS    float64 `json:"fps"`
	Frames int64   `json:"frames"` // of the output, as the headers tell it
	Voice  float64 `json:"voice_seconds"`
	Speech float64 `json:"speech_seconds"` // of the voice, in which somebody speaks

	// What follows is 0 or empty for the preview engine.
	Backend    string  `json:"backend,omitempty"`
	Precision  string  `json:"precision,omitempty"`
	Resolution int     `json:"resolution,omitempty"` // of the generated face
	Sampler    string  `json:"sampler,omitempty"`
	Steps      int     `json:"steps,omitempty"`
	FullSteps  int     `json:"full_steps,omitempty"` // of them; the rest takes DeepCache's shortcut
	Guidance   float64 `json:"guidance,omitempty"`
	Overlap    int     `json:"overlap,omitempty"` // frames of a window shared with the one before
	Windows    int64   `json:"windows,omitempty"` // in one shot without cuts; each cut adds one
	// Memory is how memory would be used, Needs what that takes at most in all,
	// by estimate, and Budget what there is, bytes.
	Memory     *MemoryPlan `json:"memory,omitempty"`
	Needs      int64       `json:"needs,omitempty"`
	Budget     int64       `json:"budget,omitempty"`
	BudgetFrom string      `json:"budget_from,omitempty"`
	// Stages tells the memory of each part while it runs, bytes, and its time
	// for the unit that it works on, measured with one try on this machine.
	Stages []PlanStage `json:"stages,omitempty"`
	// Estimate is the time of the engine's work for the whole video, without
	// decoding, faces and encoding, which go on beside it. JSON: seconds.
	Estimate float64 `json:"estimate_seconds,omitempty"`
	// Total is about how long the whole job would take, seconds: of the preview,
	// from some frames tried; of LatentSync, the engine's work.
	Total float64 `json:"total_seconds,omitempty"`
	// MemoryPeak is the most that this process held while it found all this out.
	MemoryPeak int64 `json:"memory_peak"`
}

// PlanStage is one part of the engine's work.
type PlanStage struct {
	Name    string  `json:"name"`
	Memory  int64   `json:"memory"` // bytes held, as far as the backend can tell
	Seconds float64 `json:"seconds"`
	Per     string  `json:"per"` // what the seconds are for
}

// DryRun does everything of a job but the frames: it checks the options, looks
// at the inputs, loads the networks, listens to the voice, tries a step, and
// says what the job would do. It writes nothing.
func DryRun(ctx context.Context, job Job, o Observer) (Plan, error) {
	r := newReporter(ctx, o)
	plan, err := dryRun(ctx, job, r)
	plan.MemoryPeak = r.meter.Peak()
	if err != nil {
		err = asError(ctx, err)
	}
	r.end(&Result{Engine: plan.Engine, FPS: plan.FPS, Width: plan.Width, Height: plan.Height}, err)
	return plan, err
}

func dryRun(ctx context.Context, job Job, r *reporter) (Plan, error) {
	job, err := job.withDefaults()
	if err != nil {
		return Plan{}, err
	}
	chosen, err := chooseEngine(ctx, job)
	if err != nil {
		return Plan{}, err
	}
	in, nets, err := begin(ctx, job, chosen, r)
	if err != nil {
		return Plan{}, err
	}
	defer nets.close()
	v := in.video.Video
	plan := Plan{
		Engine: nets.engine.Name(), Why: chosen.why, Width: v.Width, Height: v.Height, FPS: in.rate.Float(),
		Frames: max(in.expected, in.atLeast), Voice: in.voice.Duration(), Speech: in.voice.SpeechSeconds(),
	}
	e, ok := nets.engine.(*latentsync.Engine)
	if !ok {
		plan.Total, err = in.try(ctx, job, nets, plan.Frames)
		return plan, err
	}
	cost, err := e.Measure(ctx)
	if err != nil {
		return plan, fault.KindOf(err).Wrap("try a step of "+plan.Engine, err)
	}
	plan.add(e, cost)
	plan.Total = plan.Estimate
	return plan, nil
}

// add fills in what the latentsync engine tells.
func (p *Plan) add(e *latentsync.Engine, c latentsync.Cost) {
	o := e.Options()
	p.Backend, p.Precision, p.Resolution = o.Backend.Name(), o.Plan.Precision, o.Resolution
	p.Memory, p.Needs, p.Budget, p.BudgetFrom = publicPlan(o.Plan), e.Needs(), o.Budget, o.BudgetFrom
	p.Sampler, p.Steps, p.Guidance = o.Sampler, o.Steps, o.Guidance
	p.FullSteps = o.FullSteps()
	p.Overlap, p.Windows = o.Overlap, o.Windows(p.Frames)
	seconds := func(d time.Duration) float64 { return thousandths(d.Seconds()) }
	p.Stages = []PlanStage{
		{"UNet", c.UNet, seconds(c.Full), "full step of a window"},
		{"Whisper", c.Whisper, seconds(c.Voice), "30 s of voice"},
		{"VAE", c.VAE, seconds(c.Frame), "frame, encoded twice and decoded"},
	}
	if c.Cheap > 0 {
		p.Stages = append(p.Stages, PlanStage{"UNet with DeepCache", 0, seconds(c.Cheap), "step of a window"})
	}
	p.Estimate = seconds(c.Time(o, p.Frames, p.Voice))
}
