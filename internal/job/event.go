package job

import (
	"bytes"
	"encoding/json"
	"math"
	"time"
)

// The values of Event.Type. A job sends one start, then any number of phase,
// progress, warning, alert and plan events, and finally one done or error. A
// job with a wrong setting sends only the error.
const (
	EventStart    = "start"    // the job starts; Engine and Output are set
	EventPhase    = "phase"    // Phase has changed
	EventProgress = "progress" // frames are done, or time has passed in a phase
	EventWarning  = "warning"  // Message says what is wrong; the job continues
	EventAlert    = "alert"    // Message says which memory threshold was crossed; the job continues
	EventPlan     = "plan"     // the memory plan has changed; Message says how and why
	EventDone     = "done"     // the result is complete at Output
	EventError    = "error"    // the job has ended without a result; Message says why
)

// The values of Event.Phase, in the order in which a job goes through them.
const (
	PhaseProbe  = "probe"  // looking at the inputs and settings
	PhaseLoad   = "load"   // loading the networks
	PhaseListen = "listen" // analysing the voice
	PhaseFrames = "frames" // making the frames; Frame and Frames count
	PhaseFinish = "finish" // closing and checking the output
)

// Event is one step of the progress of a job, sent to an [Observer]. Fields that
// do not apply have their zero value.
//
// Its JSON form is one object on one line and part of the public interface:
// fields may be added, but names, units and meanings stay. Durations are in
// seconds, memory in bytes, times in RFC 3339 in UTC. Empty strings are left
// out, and so are eta_s while the end cannot be estimated and exit_code unless
// the type is "error". The other numbers are always present, except the steps.
//
//	{"type":"progress","time":"2026-01-02T03:04:05.678Z","phase":"frames",
//	 "frame":105,"frames":250,"fps":24.6,"memory_now":1288490188,
//	 "memory_peak":1610612736,"no_face":3,"eta_s":5.9,"elapsed_s":4.3}
type Event struct {
	Type  string    `json:"type"`
	Time  time.Time `json:"time"`
	Phase string    `json:"phase,omitempty"`

	Frame  int64 `json:"frame"`  // frames done
	Frames int64 `json:"frames"` // frames in all, 0 while not known
	// FPS is frames per second, a moving average over the last seconds.
	FPS float64 `json:"fps"`
	// ETA is the time left until the end of the job; 0 or less while it is not
	// known and when nothing is left. In JSON it is eta_s.
	ETA     time.Duration `json:"-"`
	Elapsed time.Duration `json:"-"` // since the job's start; in JSON elapsed_s

	// Step of Steps denoising steps are done in the current window; both are 0 if
	// the engine does not denoise.
	Step  int `json:"step,omitempty"`
	Steps int `json:"steps,omitempty"`

	MemoryNow  int64 `json:"memory_now"`  // bytes held by this process and its children
	MemoryPeak int64 `json:"memory_peak"` // the most they held since the job's start

	// NoFace counts the frames passed through unchanged because they had no
	// usable face.
	NoFace int64 `json:"no_face"`

	// Message is one line for people, for warnings, alerts, changes of the plan and
	// errors; in the start event it says why this engine was chosen.
	Message  string `json:"message,omitempty"`
	Hint     string `json:"hint,omitempty"`      // what to do about the message, one sentence
	ExitCode int    `json:"exit_code,omitempty"` // of the command line, for errors only
	Engine   string `json:"engine,omitempty"`    // "preview", "latentsync 1.6"
	Output   string `json:"output,omitempty"`    // path of the result
}

// plain is an Event without methods.
type plain Event

// eventJSON is the JSON form of Event, with durations in seconds.
type eventJSON struct {
	plain
	ETA     float64 `json:"eta_s,omitempty"`
	Elapsed float64 `json:"elapsed_s"`
}

// MarshalJSON returns the documented JSON form. Numbers are rounded to
// thousandths, the time to milliseconds.
func (e Event) MarshalJSON() ([]byte, error) {
	e.Time, e.FPS = e.Time.UTC().Truncate(time.Millisecond), thousandths(e.FPS)
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	// The encoder around this one decides whether < and > are escaped: it can add
	// the escapes, but not remove them.
	enc.SetEscapeHTML(false)
	err := enc.Encode(eventJSON{plain(e), max(0, thousandths(e.ETA.Seconds())), thousandths(e.Elapsed.Seconds())})
	return b.Bytes(), err
}

// UnmarshalJSON reads the documented JSON form. It skips unknown fields, so that
// an older client understands a newer server.
func (e *Event) UnmarshalJSON(data []byte) error {
	var j eventJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*e = Event(j.plain)
	e.ETA, e.Elapsed = duration(j.ETA), duration(j.Elapsed)
	return nil
}

// thousandths rounds v. NaN and infinities, which JSON cannot write, become 0.
func thousandths(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return math.Round(v*1000) / 1000
}

func duration(s float64) time.Duration {
	return time.Duration(math.Round(s*1000)) * time.Millisecond
}

// Observer receives the progress of a job. Observe is called from one goroutine
// at a time, in order, and should return soon: the job waits for it.
type Observer interface{ Observe(Event) }

// ObserverFunc is a function used as an [Observer].
type ObserverFunc func(Event)

// Observe calls f.
func (f ObserverFunc) Observe(e Event) { f(e) }
