package queue

import (
	"time"
)

// State of a job.
type State string

// The states. Done, Failed and Cancelled are ends, out of which only Retry
// leads (not of Done).
const (
	Queued    State = "queued"
	Running   State = "running"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Ended tells whether nothing more will happen to a job by itself.
func (s State) Ended() bool { return s == Done || s == Failed || s == Cancelled }

// Priority of a job: all of a higher one are taken before any of a lower.
type Priority string

// The priorities; "" is Normal.
const (
	High   Priority = "high"
	Normal Priority = "normal"
	Low    Priority = "low"
)

// priorities in the order in which they are served.
var priorities = []Priority{High, Normal, Low}

// Media is an input of a job. Exactly one of Object and Path is set.
type Media struct {
	Name   string `json:"name"`             // what its owner calls it; never used as a path
	Object string `json:"object,omitempty"` // its name in the store
	Path   string `json:"path,omitempty"`   // a file that the workers can read, too
	Size   int64  `json:"size"`             // bytes
}

// Job is a job as the queue keeps it, and as the API shows it.
type Job struct {
	ID       string    `json:"id"`
	State    State     `json:"state"`
	Priority Priority  `json:"priority"`
	Engine   string    `json:"engine"` // preview or latentsync: which workers may take it
	Spec     Spec      `json:"spec"`
	Video    Media     `json:"video"`
	Audio    Media     `json:"audio"`
	Created  time.Time `json:"created"`
	Started  time.Time `json:"started,omitzero"` // the first time
	Ended    time.Time `json:"ended,omitzero"`

	// Cancelling is set when somebody asked a running job to end.
	Cancelling bool     `json:"cancelling,omitempty"`
	Tasks      []Task   `json:"tasks"`
	Result     *Result  `json:"result,omitempty"`  // of a job that is done
	Problem    *Problem `json:"problem,omitempty"` // of one that failed
	// Generation counts the times that the job was begun anew (Retry).
	Generation int `json:"generation"`
	// Revision of the record in the queue: it grows with every change.
	Revision uint64 `json:"revision"`
}

// Kind of a task.
type Kind string

// The kinds. A job begins as one task, KindWhole. Who takes it may split it
// instead of doing it: into parts and the join of them.
const (
	KindWhole Kind = "whole"
	KindPart  Kind = "part"
	KindJoin  Kind = "join"
)

// Task is what a worker does in one go.
type Task struct {
	Kind  Kind  `json:"kind"`
	State State `json:"state"` // Queued, Running or Done; the job has the rest
	Part  *Part `json:"part,omitempty"`
	// Attempts counts how often the task was taken, but for those given back
	// by a worker that was told to end.
	Attempts int    `json:"attempts"`
	Worker   string `json:"worker,omitempty"`  // who has it, or had it last
	Object   string `json:"object,omitempty"`  // what it made, in the store
	Frames   int64  `json:"frames,omitempty"`  // of the output that it made
	NoFace   int64  `json:"no_face,omitempty"` // of them, without a usable face

	Sequence uint64 `json:"sequence"` // of its message in the stream of work; 0: not sent yet
	Lease    string `json:"lease,omitempty"`
}

// Part is a stretch of a job's output, in frames: [From, To). Frames from Lead
// on, and up to Tail, are computed as well, so that neighbours fit. To and Tail
// of -1 are the end, wherever that is.
type Part struct {
	Lead int64 `json:"lead"`
	From int64 `json:"from"`
	To   int64 `json:"to"`
	Tail int64 `json:"tail"`
}

// Result is the video that a job made.
type Result struct {
	Object   string  `json:"object"` // its name in the store
	Name     string  `json:"name"`   // what to call the file
	Size     int64   `json:"size"`   // bytes
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
}

// Problem is why a job failed.
type Problem struct {
	Message  string `json:"message"`
	Hint     string `json:"hint,omitempty"`
	ExitCode int    `json:"exit_code"` // as of the command line
	// Dead is set where the job was given up after too many attempts.
	Dead bool `json:"dead,omitempty"`
}

// Worker is a process that does tasks, as it tells of itself.
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
	// Draining workers finish what they have and take nothing.
	Draining bool     `json:"draining,omitempty"`
	Devices  []Device `json:"devices"`
	// Memory is what tasks may use together, and Reserved what those at work
	// were promised, bytes.
	Memory   int64 `json:"memory"`
	Reserved int64 `json:"reserved"`
}

// Device computes.
type Device struct {
	Name    string `json:"name"`    // cpu, gpu:0, cuda:0
	Backend string `json:"backend"` // openvino, onnxruntime
	Detail  string `json:"detail"`  // its product name
	// Total and Used are bytes of its own memory; 0 where it uses the host's.
	Total int64 `json:"memory_total,omitempty"`
	Used  int64 `json:"memory_used,omitempty"`
}
