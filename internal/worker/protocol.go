package worker

import (
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/queue"
)

// A worker does each task in a process of its own, lipstream task, so that a crash
// or a lack of memory affects no other task. It writes one request as a line of
// JSON to the standard input of the process and keeps the input open: the process
// gives up when it is closed. The process writes answers as lines of JSON to its
// standard output. The last one is the result or an error.

// The operations.
const (
	opRun      = "run"
	opJoin     = "join"
	opEstimate = "estimate"
	opMachine  = "machine"
)

type request struct {
	Op  string        `json:"op"`
	Job lipstream.Job `json:"job"`
	// Every is the length of parts, for opRun. If the video is longer, the answer
	// is a list of parts and nothing is run. 0 means never split.
	Every time.Duration `json:"every,omitempty"`
	Parts []string      `json:"parts,omitempty"` // files, for opJoin
}

// answer has one field set.
type answer struct {
	Event    *lipstream.Event    `json:"event,omitempty"`
	Frame    *queue.Frame        `json:"frame,omitempty"`
	Parts    []queue.Part        `json:"parts,omitempty"`
	Result   *lipstream.Result   `json:"result,omitempty"`
	Estimate *lipstream.Estimate `json:"estimate,omitempty"`
	Machine  *machine            `json:"machine,omitempty"`
	Error    *queue.Problem      `json:"error,omitempty"`
}

// machine describes what a worker can do.
type machine struct {
	Engines []string       `json:"engines"`
	Devices []queue.Device `json:"devices"`
}

// problem converts an error so that it can be sent between processes.
func problem(err error) *queue.Problem {
	return &queue.Problem{Message: fault.Message(err), Hint: fault.HintOf(err), ExitCode: fault.KindOf(err).ExitCode()}
}

// retryable reports whether another attempt may succeed.
func retryable(p *queue.Problem) bool {
	switch fault.Kind(p.ExitCode) {
	case fault.Usage, fault.Input, fault.NoFace:
		return false
	}
	return true
}
