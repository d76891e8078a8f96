package worker

import (
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/queue"
)

// A worker does each task in a process of its own, lipstream task: what crashes
// there, or takes all memory, hurts nobody else. It writes one request to the
// process's standard input, as a line of JSON, and keeps it open: when it is
// closed, the process gives up. Answers are lines of JSON on standard output,
// the last of them an error or what was asked for.

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
	// Every is the length of parts, of opRun: where the video is longer than
	// that, the answer are parts, and nothing is run. 0: never.
	Every time.Duration `json:"every,omitempty"`
	Parts []string      `json:"parts,omitempty"` // files, of opJoin
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

// machine is what a worker can do.
type machine struct {
	Engines []string       `json:"engines"`
	Devices []queue.Device `json:"devices"`
}

// problem is an error on its way between processes.
func problem(err error) *queue.Problem {
	return &queue.Problem{Message: fault.Message(err), Hint: fault.HintOf(err), ExitCode: fault.KindOf(err).ExitCode()}
}

// again tells whether a failure may pass: with another worker, or later.
func again(p *queue.Problem) bool {
	switch fault.Kind(p.ExitCode) {
	case fault.Usage, fault.Input, fault.NoFace:
		return false
	}
	return true
}
