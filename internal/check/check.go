// Package check computes the layers of the networks and small networks on the devices of
// a machine, and compares them with stored results. Its report is what a bug report
// should contain.
package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/backend/runtimes"
	"github.com/lipstream/lipstream/internal/fault"
)

// Report is the result of Run.
type Report struct {
	System   []Fact    `json:"system"`
	Runtimes []Runtime `json:"runtimes"`
	// Interrupted is true if Run was cancelled. The last line that the report has shows
	// how far it got.
	Interrupted bool `json:"interrupted,omitempty"`
}

// Fact is something to know about the program or the machine.
type Fact struct {
	Name   string `json:"name"` // "lipstream", "cpu"
	Detail string `json:"detail"`
}

// Problem is why something does not work. The zero value is no problem.
type Problem struct {
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

func problem(err error) Problem {
	if err == nil {
		return Problem{}
	}
	return Problem{fault.Message(err), fault.HintOf(err)}
}

// Runtime is a runtime and what its devices computed.
type Runtime struct {
	Name      string   `json:"name"`
	Version   string   `json:"version,omitempty"`
	Libraries []string `json:"libraries,omitempty"` // paths
	Problem            // why it cannot be used
	Devices   []Device `json:"devices,omitempty"`
}

// Device is a device and what it computed.
type Device struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Problem        // why it cannot be used
	// Dialect names the operators that jobs use on the device: "plain", "openvino",
	// "microsoft" or "cuda"; see network.Dialect.
	Dialect string `json:"dialect,omitempty"`
	// Half is the half precision that is checked beside f32, or "" with NoHalf, the
	// reason.
	Half   backend.Precision `json:"half,omitempty"`
	NoHalf string            `json:"no_half,omitempty"`
	Cases  []Case            `json:"cases,omitempty"`
	Memory Memory            `json:"memory"`
}

// Case is a layer or a network, computed in f32 and, if the device has one, in a half
// precision.
type Case struct {
	Name    string   `json:"name"`
	Results []Result `json:"results"`
}

// Status is the outcome of a case in one precision.
type Status string

// The statuses.
const (
	OK      Status = "ok"
	Failed  Status = "failed"
	Skipped Status = "skipped"
)

// Result is the outcome of a case in one precision.
type Result struct {
	Precision backend.Precision `json:"precision"`
	Status    Status            `json:"status"`
	Problem                     // why it failed or was skipped
	// Difference is the largest difference to the stored result. PSNR, in dB, is
	// 20·log10(range/rmse), at most 200. In JSON a PSNR is missing if there is no
	// result, and a difference also if it is 0.
	Difference float64 `json:"difference,omitempty"`
	PSNR       float64 `json:"psnr_db,omitempty"`
	// Limit is the largest difference that passes in f32, and the lowest PSNR that
	// passes in a half precision.
	Limit   float64 `json:"limit"`
	Seconds float64 `json:"seconds,omitempty"` // of the second run
}

// Err returns nil if everything that could run passed, and something did. Otherwise the
// error says what failed first.
func (r Report) Err() error {
	const op, hint = "check the devices", "attach the output of `lipstream check --json` to a report"
	var failed []string
	var first Problem
	var unusable []Problem
	passed := 0
	for _, rt := range r.Runtimes {
		if rt.Error != "" {
			unusable = append(unusable, rt.Problem)
		}
		for _, d := range rt.Devices {
			if d.Error != "" { // says more than why another runtime is missing
				unusable = slices.Insert(unusable, 0, d.Problem)
			}
			for _, c := range d.Cases {
				for _, result := range c.Results {
					switch result.Status {
					case OK:
						passed++
					case Skipped:
						unusable = append(unusable, result.Problem)
					case Failed:
						if first.Error == "" {
							first = result.Problem
						}
						failed = append(failed, fmt.Sprintf("%s in %s on %s %s", c.Name, result.Precision, rt.Name, d.ID))
					}
				}
			}
		}
	}
	switch {
	case len(failed) == 1:
		return fault.Device.New(op, failed[0]+" failed: "+first.Error, hint)
	case len(failed) > 1:
		return fault.Device.New(op, fmt.Sprintf("%d of %d results failed, the first is %s: %s", len(failed), len(failed)+passed, failed[0], first.Error), hint)
	case passed == 0 && len(unusable) > 0:
		return fault.Missing.New(op, "none could run: "+unusable[0].Error, unusable[0].Hint)
	}
	return nil
}

// Observer is told about the parts of the report as they become known.
type Observer interface {
	Runtime(Runtime) // it is open, or cannot be used
	Device(Device)   // it works, or cannot be used
	Case(Case)       // both precisions are done
	Memory(Memory)   // the device is done
}

// Options configures Run.
type Options struct {
	Backend  string // "openvino", "onnxruntime", or "" or "auto" for both
	Device   string // such as "cuda:0", or "" for all
	Observer Observer
}

// Run checks the devices. It returns as soon as ctx ends, with what is known until then:
// native code that still computes is left to the end of the process.
func Run(ctx context.Context, system []Fact, o Options) (Report, error) {
	report := Report{System: system}
	names := []string{openvino.Name, onnxruntime.Name}
	if o.Backend != "" && o.Backend != runtimes.Auto {
		if !slices.Contains(names, o.Backend) {
			return report, fault.Field("backend", o.Backend, "is not known", "choose one of auto, "+strings.Join(names, ", "))
		}
		names = []string{o.Backend}
	}
	weights, remove, err := openWeights()
	if err != nil {
		return report, err
	}
	w := &work{weights: weights, parts: make(chan any), choice: runtimes.Choice{Backend: o.Backend, Device: o.Device}}
	// The work ends after its last part, so that it does not touch the weights then.
	go func() {
		defer close(w.parts)
		w.run(ctx, names)
	}()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case part, more := <-w.parts:
			if !more {
				err := errors.Join(w.err, weights.Close())
				remove()
				return report, err
			}
			report.add(part, o.Observer)
		}
	}
	remove() // and leave the mapping to whoever still reads it
	report.Interrupted = true
	return report, fault.Cancelled.Wrap("check the devices", ctx.Err())
}

// add adds a part to the report and tells the observer.
func (r *Report) add(part any, o Observer) {
	if o == nil {
		o = deaf{}
	}
	if rt, ok := part.(Runtime); ok {
		r.Runtimes = append(r.Runtimes, rt)
		o.Runtime(rt)
		return
	}
	rt := &r.Runtimes[len(r.Runtimes)-1]
	if d, ok := part.(Device); ok {
		rt.Devices = append(rt.Devices, d)
		o.Device(d)
		return
	}
	d := &rt.Devices[len(rt.Devices)-1]
	switch part := part.(type) {
	case Case:
		d.Cases = append(d.Cases, part)
		o.Case(part)
	case Memory:
		d.Memory = part
		o.Memory(part)
	}
}

type deaf struct{}

func (deaf) Runtime(Runtime) {}
func (deaf) Device(Device)   {}
func (deaf) Case(Case)       {}
func (deaf) Memory(Memory)   {}
