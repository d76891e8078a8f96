package job

import (
	"cmp"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
)

// Report says where the time and the memory of a job went. Its JSON form is part
// of the public interface, like that of [Event]: durations are in seconds, memory
// in bytes. The report of a job that failed or was cancelled covers what was done
// before.
// See docs/report.md.
type Report struct {
	Engine string `json:"engine"`
	Output string `json:"output"`
	// Backend and Device say where the engine computed: "onnxruntime", "cuda:0".
	// DeviceName is the maker's name of it. They are "" if the job failed before.
	Backend    string `json:"backend,omitempty"`
	Device     string `json:"device,omitempty"`
	DeviceName string `json:"device_name,omitempty"`
	Error      string `json:"error,omitempty"` // why the job failed; "" if it did not

	Frames int64 `json:"frames"`  // written
	NoFace int64 `json:"no_face"` // frames passed through unchanged
	Cuts   int64 `json:"cuts"`    // scene cuts
	// Speakers says how many frames show each of several speakers.
	Speakers []SpeakerReport `json:"speakers,omitempty"`
	FPS      float64         `json:"fps"`       // of the video; 0 without a result
	Elapsed  float64         `json:"elapsed_s"` // of the whole job

	// Plan is the memory plan in use at the end; nil for an engine without one.
	Plan   *memory.Plan  `json:"plan,omitempty"`
	Stages []StageReport `json:"stages"`

	Windows          int64   `json:"windows"`            // windows done; 0 for an engine without windows
	SecondsPerWindow float64 `json:"seconds_per_window"` // mean, all denoising steps; 0 if unknown
	// DeviceBusy is the share of the time between the first window and the last in
	// which the device computed, 0 to 1; 0 if unknown.
	DeviceBusy float64 `json:"device_busy"`

	Memory MemoryReport  `json:"memory"`
	Phases []PhaseReport `json:"phases"` // those that were begun
	Notes  []Note        `json:"notes"`  // the first 1000
}

// The values of StageReport.Part.
const (
	PartPipeline = "pipeline" // a stage of the pipeline; the stages work side by side
	PartEngine   = "engine"   // a part of the work of the engine stage
)

// StageReport says how much time and memory one part of the work took. Stages of the
// pipeline are measured while frames are made, parts of the engine since it was
// loaded.
type StageReport struct {
	Name  string `json:"name"`
	Part  string `json:"part"`
	Calls int64  `json:"calls"` // frames, for a stage of the pipeline
	// Busy is the time in the work itself, without waiting for other stages.
	Busy   float64 `json:"busy_s"`
	Memory int64   `json:"memory"` // bytes held while it worked; 0 if unknown
}

// MemoryReport says how many bytes this process and its children held.
type MemoryReport struct {
	Peak int64 `json:"peak"`
	// PeakAnonymous is the most memory without file pages (heaps and buffers), in
	// readings 250 ms apart; 0 if the system does not report it.
	PeakAnonymous int64          `json:"peak_anonymous"`
	Before        int64          `json:"before"`           // at the beginning of the frames; 0 if there were none
	After         int64          `json:"after"`            // after the engine was closed
	Budget        int64          `json:"budget,omitempty"` // that the plan fits; 0 without a plan
	History       []MemorySample `json:"history"`          // at most 600, oldest first
	Device        *DeviceMemory  `json:"device,omitempty"` // nil if the device has no memory of its own that can be read
}

// DeviceMemory says how much of the memory of a GPU was in use, by all processes, in
// bytes. It is read every half second.
type DeviceMemory struct {
	Total  int64 `json:"total"`
	Before int64 `json:"before"` // before the job loaded anything
	Peak   int64 `json:"peak"`
}

// MemorySample is a reading of memory in bytes.
type MemorySample struct {
	At        float64 `json:"at_s"` // since the job's start
	Total     int64   `json:"total"`
	Self      int64   `json:"self"`      // this process
	Children  int64   `json:"children"`  // the processes of ffmpeg
	Mapped    int64   `json:"mapped"`    // file pages, part of the total
	Anonymous int64   `json:"anonymous"` // the rest of the total
}

// PhaseReport says how much time and memory a phase of the job took.
type PhaseReport struct {
	Name    string  `json:"name"`
	At      float64 `json:"at_s"` // when it began
	Seconds float64 `json:"seconds"`
	Begin   int64   `json:"memory_begin"` // bytes held at its beginning
	End     int64   `json:"memory_end"`   // and at its end
	Peak    int64   `json:"memory_peak"`  // the most during it
}

// Note is a message of the job.
type Note struct {
	At      float64 `json:"at_s"`
	Kind    string  `json:"kind"` // EventWarning, EventAlert or EventPlan
	Message string  `json:"message"`
}

const (
	maxSamples = 600
	maxNotes   = 1000
)

// measure ends the current phase of the report and begins another, or none if name is
// "". It returns the time since the start of the job. The caller holds mu.
func (r *reporter) measure(name string) time.Duration {
	usage, peak := r.meter.Lap()
	at, now := time.Since(r.began), usage.Total()
	phases := &r.report.Phases
	if n := len(*phases); n > 0 {
		p := &(*phases)[n-1]
		p.Seconds, p.End, p.Peak = seconds(at-r.phaseBegan), now, peak
	}
	if name != "" {
		r.phaseBegan = at
		*phases = append(*phases, PhaseReport{Name: name, At: seconds(at), Begin: now})
	}
	if name == PhaseFrames {
		r.report.Memory.Before = now
	}
	return at
}

// thin returns at most limit samples. Of several neighbours it keeps the one with the
// most memory, so that no peak is lost.
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
			At: seconds(most.Time.Sub(began)), Total: u.Total(), Self: u.Self, Children: u.Children, Mapped: u.Mapped, Anonymous: u.Anonymous,
		})
	}
	return thinned
}

// seconds returns d in seconds, rounded to microseconds: a call can take less than a
// millisecond.
func seconds(d time.Duration) float64 {
	return float64(max(0, d.Round(time.Microsecond).Microseconds())) / 1e6
}

// worked records the report of an engine, which must still be open.
func (r *reporter) worked(e lip.Engine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := e.Report()
	r.report.Engine, r.report.Plan, r.report.Memory.Budget, r.report.Windows = e.Name(), of.Plan, of.Budget, of.Windows
	if of.Windows > 0 {
		r.report.SecondsPerWindow = seconds(of.Window / time.Duration(of.Windows))
	}
	if of.Wall > 0 {
		r.report.DeviceBusy = thousandths(of.Busy.Seconds() / of.Wall.Seconds())
	}
	r.engine = nil
	r.add(of.Work...)
}

// alsoWorked records work beside that of the engine.
func (r *reporter) alsoWorked(w lip.Work) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(w)
}

// add records work. The caller holds mu.
func (r *reporter) add(work ...lip.Work) {
	for _, w := range work {
		if w.Calls > 0 {
			r.engine = append(r.engine, StageReport{Name: w.Name, Part: PartEngine, Calls: w.Calls, Busy: seconds(w.Busy), Memory: w.Memory})
		}
	}
}

// complete returns the finished report, after the session was closed and the meter was
// stopped. The caller holds mu.
func (r *reporter) complete(result *Result, err error) *Report {
	p := &r.report
	p.Elapsed, p.Output, p.FPS = seconds(r.measure("")), r.now.Output, thousandths(result.FPS)
	p.Engine = cmp.Or(p.Engine, r.now.Engine) // if the engine was not opened
	if err != nil {
		p.Error = fault.Message(err)
	}
	p.Frames, p.NoFace, p.Cuts = r.stats.Frames, r.stats.NoFace, r.stats.Cuts
	p.Speakers = r.job.speakerReports(r.stats)
	// In JSON an empty list is [], not null.
	p.Stages, p.Phases, p.Notes = []StageReport{}, append([]PhaseReport{}, p.Phases...), append([]Note{}, p.Notes...)
	for _, s := range r.stats.Stages {
		p.Stages = append(p.Stages, StageReport{Name: s.Name, Part: PartPipeline, Calls: s.Calls, Busy: seconds(s.Busy)})
	}
	p.Stages = append(p.Stages, r.engine...)
	p.Memory.Peak, p.Memory.PeakAnonymous, p.Memory.After = r.meter.Peak(), r.meter.PeakAnonymous(), r.meter.Now().Total()
	p.Memory.History = thin(r.meter.History(), r.began, maxSamples)
	return p
}
