package queue

import (
	"time"

	"github.com/lipstream/lipstream"
)

// State is the state of a job.
type State string

// The states of a job. Done, Failed and Cancelled are final, except that Retry
// restarts failed and cancelled jobs.
const (
	Queued    State = "queued"
	Running   State = "running"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Ended reports whether the state is final.
func (s State) Ended() bool { return s == Done || s == Failed || s == Cancelled }

// Priority is the priority of a job. Jobs of a higher priority are taken first.
type Priority string

// The priorities. The empty string means Normal.
const (
	High   Priority = "high"
	Normal Priority = "normal"
	Low    Priority = "low"
)

// priorities lists the priorities, the highest first.
var priorities = []Priority{High, Normal, Low}

// Media is an input of a job. Exactly one of Object and Path is set.
type Media struct {
	Name   string `json:"name"`             // as the client calls it; never used as a path
	Object string `json:"object,omitempty"` // its name in the store
	Path   string `json:"path,omitempty"`   // a file that the workers can read
	Size   int64  `json:"size"`             // bytes
}

// Source names an input of a job in a request: an upload's id, or a path under
// a folder that the server allows.
type Source struct {
	Upload string `json:"upload,omitempty"`
	Path   string `json:"path,omitempty"`
}

// Spec is what to make: the body of a request for a job. The settings stand beside
// the other fields in its JSON; those that were not given have their defaults.
type Spec struct {
	Video Source `json:"video"`
	Audio Source `json:"audio"` // the voice; empty if there are speakers
	// Speakers gives several faces a voice each.
	Speakers []Speaker `json:"speakers,omitempty"`
	// Soundtrack is the sound of the result; nil takes the voice.
	Soundtrack *Source  `json:"soundtrack,omitempty"`
	Mask       *Source  `json:"mask,omitempty"` // where the video may change; nil: everywhere
	Name       string   `json:"name,omitempty"` // of the file of the result; its extension chooses the container
	Priority   Priority `json:"priority,omitempty"`
	// Split is the length of the parts into which a long video is split, in
	// seconds; 0 leaves it to the worker, -1 does not split.
	Split float64 `json:"split,omitempty"`

	lipstream.Settings
}

// Job is a job as the queue stores it and the API shows it.
type Job struct {
	ID       string   `json:"id"`
	State    State    `json:"state"`
	Priority Priority `json:"priority"`
	Engine   string   `json:"engine"` // preview, musetalk or latentsync: selects the workers that may take it
	Spec     Spec     `json:"spec"`
	Video    Media    `json:"video"`
	Audio    Media    `json:"audio"`
	// Voices are those of Spec.Speakers, in their order. Then Audio is empty.
	Voices     []Media   `json:"voices,omitempty"`
	Soundtrack *Media    `json:"soundtrack,omitempty"`
	Mask       *Media    `json:"mask,omitempty"`
	Created    time.Time `json:"created"`
	Started    time.Time `json:"started,omitzero"` // the first time
	Ended      time.Time `json:"ended,omitzero"`

	// Cancelling is set while a running job is being cancelled.
	Cancelling bool     `json:"cancelling,omitempty"`
	Tasks      []Task   `json:"tasks"`
	Result     *Result  `json:"result,omitempty"`  // of a job that is done
	Problem    *Problem `json:"problem,omitempty"` // of one that failed
	// Generation counts the retries of the job.
	Generation int `json:"generation"`
	// Protocol is what a worker must understand to do the job; 0 is the same as 1.
	Protocol int `json:"protocol,omitempty"`
	// Revision is the revision of the record; it increases with every change.
	Revision uint64 `json:"revision"`

	raw []byte // the record; it may have fields that this version does not know
}

// Kind is the kind of a task.
type Kind string

// The kinds of tasks. A job starts as one task of KindWhole. The worker that takes
// it may split it into parts and a join instead of doing it.
const (
	KindWhole Kind = "whole"
	KindPart  Kind = "part"
	KindJoin  Kind = "join"
)

// Task is the piece of a job that one worker does.
type Task struct {
	Kind  Kind  `json:"kind"`
	State State `json:"state"` // Queued, Running or Done; the job has the rest
	Part  *Part `json:"part,omitempty"`
	// Attempts counts how often the task was taken, except when a worker that
	// was shutting down gave it back.
	Attempts int    `json:"attempts"`
	Worker   string `json:"worker,omitempty"`  // the current or last worker
	Object   string `json:"object,omitempty"`  // name of its output in the store
	Frames   int64  `json:"frames,omitempty"`  // frames of its output
	NoFace   int64  `json:"no_face,omitempty"` // frames without a usable face
	// Speakers says how many frames of a part show each of several speakers.
	Speakers []lipstream.SpeakerReport `json:"speakers,omitempty"`

	Sequence uint64 `json:"sequence,omitempty"` // of its message in the work stream; 0: not sent yet
	Lease    string `json:"lease,omitempty"`
}

// Part is a stretch of a job's output, in frames: [From, To). Frames from Lead to
// Tail are computed as well, so that neighbouring parts match. -1 in To and Tail
// means the end of the output.
type Part struct {
	Lead int64 `json:"lead"`
	From int64 `json:"from"`
	To   int64 `json:"to"`
	Tail int64 `json:"tail"`
}

// Result is the video that a job made.
type Result struct {
	Object   string  `json:"object,omitempty"` // its name in the store
	Name     string  `json:"name"`             // what to call the file
	Size     int64   `json:"size"`             // bytes
	SHA256   string  `json:"sha256"`
	Engine   string  `json:"engine"` // as the video's metadata names it
	Frames   int64   `json:"frames"`
	NoFace   int64   `json:"no_face"`
	FPS      float64 `json:"fps"`
	Width    int     `json:"width"`
	Height   int     `json:"height"`
	Duration float64 `json:"duration"` // seconds
	Elapsed  float64 `json:"elapsed"`  // seconds of work, of all tasks together
	// MemoryPeak is the most that a worker's process for it held, bytes.
	MemoryPeak int64 `json:"memory_peak"`
	// Speakers says how many frames show each of several speakers.
	Speakers []lipstream.SpeakerReport `json:"speakers,omitempty"`
}

// Problem is why a job failed.
type Problem struct {
	Message  string `json:"message"`
	Hint     string `json:"hint,omitempty"`
	ExitCode int    `json:"exit_code"` // same as that of the command line
	// Dead is set when the job was given up after too many attempts.
	Dead bool `json:"dead,omitempty"`
}

// Worker is a process that does tasks, as it describes itself.
type Worker struct {
	ID      string    `json:"id"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Seen    time.Time `json:"seen"` // its last heartbeat
	Engines []string  `json:"engines"`
	Slots   int       `json:"slots"` // tasks at a time, at most
	Busy    int       `json:"busy"`
	// Draining workers finish their tasks and take no new ones.
	Draining bool     `json:"draining,omitempty"`
	Devices  []Device `json:"devices"`
	// Memory is what all tasks together may use, and Reserved what the running
	// ones were promised, in bytes.
	Memory   int64 `json:"memory"`
	Reserved int64 `json:"reserved"`
}

// Device is a device that computes.
type Device struct {
	Name    string `json:"name"`    // cpu, gpu:0, cuda:0
	Backend string `json:"backend"` // openvino, onnxruntime
	Detail  string `json:"detail"`  // its product name
	// Total and Used are bytes of its own memory; 0 where it uses the host's.
	Total int64 `json:"memory_total,omitempty"`
	Used  int64 `json:"memory_used,omitempty"`
}
