package job

import (
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/pipeline"
)

// Report tells where the time and the memory of a job went. Its JSON form is
// part of the public interface, as that of [Event]: durations are seconds,
// memory is bytes. A job that failed or was cancelled has one too, as far as it
// went; see docs/report.md.
type Report struct {
	Engine string `json:"engine"`
	Output string `json:"output"`
	Error  string `json:"error,omitempty"` // why there is no result; "" when there is

	Frames  int64   `json:"frames"`    // written
	NoFace  int64   `json:"no_face"`   // of them, passed through unchanged
	Cuts    int64   `json:"cuts"`      // scene cuts
	FPS     float64 `json:"fps"`       // of the video; 0 without a result
	Elapsed float64 `json:"elapsed_s"` // of the whole job

	// Plan is how the job used memory in the end; nil for an engine without one.
	Plan   *MemoryPlan   `json:"plan,omitempty"`
	Stages []StageReport `json:"stages"`

	Windows          int64   `json:"windows"`            // of frames, done; 0 for an engine without windows
	SecondsPerWindow float64 `json:"seconds_per_window"` // all denoising steps of one, mean; 0 unknown
	// DeviceBusy is the share of the time from the first window to the last in
	// which the device computed, 0 to 1; 0 unknown.
	DeviceBusy float64 `json:"device_busy"`

	Memory MemoryReport  `json:"memory"`
	Phases []PhaseReport `json:"phases"` // the values of Event.Phase, as far as the job came
	Notes  []Note        `json:"notes"`  // the first 1000
}

// MemoryPlan is how a job uses memory; docs/report.md says more.
type MemoryPlan struct {
	Windows         int    `json:"windows"`             // in flight together
	FramesPerWindow int    `json:"frames_per_window"`   // denoised together
	VAEFrames       int    `json:"vae_frames"`          // frames a call of the VAE
	VAETile         int    `json:"vae_tile,omitempty"`  // side of the VAE's tiles in pixels; 0: whole pictures
	AttentionSlices int    `json:"attention_slices"`    // parts that an attention is computed in
	Offload         string `json:"offload"`             // none, model or sequential
	Precision       string `json:"precision,omitempty"` // of UNet and VAE
}

// The values of StageReport.Part.
const (
	PartPipeline = "pipeline" // a stage of the pipeline; they work side by side
	PartEngine   = "engine"   // a part of the work of the pipeline's engine stage
)

// StageReport is what one part of the work took. The stages of the pipeline
// count while frames are made, the parts of the engine from its loading on.
type StageReport struct {
	Name  string `json:"name"`
	Part  string `json:"part"`
	Calls int64  `json:"calls"` // for stages of the pipeline: frames
	// Busy is the time in the work itself, without waiting for other stages.
	Busy   float64 `json:"busy_s"`
	Memory int64   `json:"memory"` // bytes held while it worked; 0 unknown
}

// MemoryReport is what this process and its children held, bytes.
type MemoryReport struct {
	Peak int64 `json:"peak"`
	// PeakAnonymous is the most that no file stood behind (heaps and buffers),
	// as seen in readings 250 ms apart; 0 where the system does not tell.
	PeakAnonymous int64          `json:"peak_anonymous"`
	Before        int64          `json:"before"`           // when the frames began; 0 if they did not
	After         int64          `json:"after"`            // when the engine was closed
	Budget        int64          `json:"budget,omitempty"` // that the plan keeps within; 0 none
	History       []MemorySample `json:"history"`          // at most 600, oldest first
}

// MemorySample is a reading of memory, bytes.
type MemorySample struct {
	At        float64 `json:"at_s"` // since the job's start
	Total     int64   `json:"total"`
	Self      int64   `json:"self"`      // this process
	Children  int64   `json:"children"`  // ffmpeg's processes
	Mapped    int64   `json:"mapped"`    // the part of the total that is file pages
	Anonymous int64   `json:"anonymous"` // the part that no file stands behind
}

// PhaseReport is one of the values of Event.Phase.
type PhaseReport struct {
	Name    string  `json:"name"`
	At      float64 `json:"at_s"` // when it began
	Seconds float64 `json:"seconds"`
	Begin   int64   `json:"memory_begin"` // bytes held then
	End     int64   `json:"memory_end"`   // and at its end
	Peak    int64   `json:"memory_peak"`  // the most within it
}

// Note is something that was said during the job.
type Note struct {
	At      float64 `json:"at_s"`
	Kind    string  `json:"kind"` // EventWarning, EventAlert or EventPlan
	Message string  `json:"message"`
}

const (
	maxSamples = 600
	maxNotes   = 1000
	// windowWork is the name of the work that is a window as a whole.
	windowWork = "window"
)

// record gathers a job's report. The reporter's lock guards it.
type record struct {
	report Report
	stats  pipeline.Stats
	engine []StageReport
	began  time.Duration // when the phase began
}

// phase ends the phase so far and begins another, or none for "". The figures
// are the meter's at this time.
func (r *record) phase(name string, at time.Duration, now, peak int64) {
	phases := &r.report.Phases
	if n := len(*phases); n > 0 {
		p := &(*phases)[n-1]
		p.Seconds, p.End, p.Peak = exactly(at-r.began), now, peak
	}
	if name != "" {
		r.began = at
		*phases = append(*phases, PhaseReport{Name: name, At: exactly(at), Begin: now})
	}
	if name == PhaseFrames {
		r.report.Memory.Before = now
	}
}

func (r *record) note(kind, message string, at time.Duration) {
	if len(r.report.Notes) < maxNotes {
		r.report.Notes = append(r.report.Notes, Note{exactly(at), kind, message})
	}
}

// work takes what an engine tells of its work.
func (r *record) work(w lip.Worker) {
	r.engine = nil
	for _, k := range w.Work() {
		if k.Name == windowWork { // the sum of the others
			r.report.Windows = k.Calls
			if k.Calls > 0 {
				r.report.SecondsPerWindow = exactly(k.Busy / time.Duration(k.Calls))
			}
			continue
		}
		r.engine = append(r.engine, StageReport{Name: k.Name, Part: PartEngine, Calls: k.Calls, Busy: exactly(k.Busy), Memory: k.Memory})
	}
	if wall, busy := w.Steady(); wall > 0 {
		r.report.DeviceBusy = thousandths(busy.Seconds() / wall.Seconds())
	}
}

// complete gives the report. The meter has stopped.
func (r *record) complete(m *memory.Meter, began time.Time) *Report {
	p := r.report
	p.Frames, p.NoFace, p.Cuts = r.stats.Frames, r.stats.NoFace, r.stats.Cuts
	p.Stages = []StageReport{}
	for _, s := range r.stats.Stages {
		p.Stages = append(p.Stages, StageReport{Name: s.Name, Part: PartPipeline, Calls: s.Calls, Busy: exactly(s.Busy)})
	}
	p.Stages = append(p.Stages, r.engine...)
	p.Memory.Peak, p.Memory.PeakAnonymous, p.Memory.After = m.Peak(), m.PeakAnonymous(), m.Now().Total()
	p.Memory.History = thin(m.History(), began, maxSamples)
	// In JSON a list is [], never null.
	p.Phases, p.Notes = append([]PhaseReport{}, p.Phases...), append([]Note{}, p.Notes...)
	return &p
}

// thin keeps at most limit samples: of neighbours the one with the most
// memory, so that no peak is lost.
func thin(history []memory.Sample, began time.Time, limit int) []MemorySample {
	each := max(1, (len(history)+limit-1)/limit)
	thinned := make([]MemorySample, 0, min(len(history), limit))
	for ; len(history) > 0; history = history[min(each, len(history)):] {
		most := history[0]
		for _, s := range history[:min(each, len(history))] {
			if s.Usage.Total() > most.Usage.Total() {
				most = s
			}
		}
		u := most.Usage
		thinned = append(thinned, MemorySample{
			At: exactly(most.Time.Sub(began)), Total: u.Total(), Self: u.Self, Children: u.Children, Mapped: u.Mapped, Anonymous: u.Anonymous,
		})
	}
	return thinned
}

// exactly gives seconds to the microsecond: a call can take less than a
// thousandth.
func exactly(d time.Duration) float64 {
	return float64(max(0, d.Round(time.Microsecond).Microseconds())) / 1e6
}

// useMemory tells how the job uses memory: the plan, and the bytes that it
// keeps within, 0 for none. The last one counts.
func (r *reporter) useMemory(p memory.Plan, budget int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.report.Memory.Budget = budget
	r.record.report.Plan = publicPlan(p)
}

// String is a line for people.
func (m MemoryPlan) String() string {
	return memory.Plan{
		Windows: m.Windows, Frames: m.FramesPerWindow, VAEFrames: m.VAEFrames, Tile: m.VAETile,
		Slices: m.AttentionSlices, Offload: memory.Offload(m.Offload), Precision: m.Precision,
	}.String()
}

func publicPlan(p memory.Plan) *MemoryPlan {
	return &MemoryPlan{
		Windows: p.Windows, FramesPerWindow: p.Frames, VAEFrames: p.VAEFrames, VAETile: p.Tile,
		AttentionSlices: p.Slices, Offload: string(p.Offload), Precision: p.Precision,
	}
}

// worked takes an engine's figures. It comes before the engine is closed.
func (r *reporter) worked(e lip.Engine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.report.Engine = e.Name()
	if w, ok := e.(lip.Worker); ok {
		r.record.work(w)
	}
}

// report ends the record; everything of the job is closed. mu is held.
func (r *reporter) report(result *Result, err error) *Report {
	now, peak := r.meter.Lap()
	at := time.Since(r.began)
	r.record.phase("", at, now.Total(), peak)
	p := r.record.complete(r.meter, r.began)
	p.Elapsed, p.Output, p.FPS = exactly(at), r.now.Output, thousandths(result.FPS)
	if p.Engine == "" { // it was not loaded
		p.Engine = r.now.Engine
	}
	if err != nil {
		p.Error = fault.Message(err)
	}
	return p
}
