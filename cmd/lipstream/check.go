package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/check"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
)

type checkCmd struct {
	Device  string `placeholder:"DEVICE" otherwise:"all devices" help:"Check only this device: cpu, gpu:0, cuda:0."`
	Backend string `choices:"auto,openvino,onnxruntime" default:"auto" help:"Which runtime to check; auto checks all that are installed."`
	JSON    bool   `name:"json" help:"Print the report as JSON."`
}

// Help implements kong.HelpProvider.
func (checkCmd) Help() string {
	return "Each device computes layers of LatentSync's networks and small networks with random weights, in f32 and in half precision. " +
		"The results are compared with stored ones. A bug report about a device should contain the output."
}

// Run implements lipstream check. It fails, with exit code 8, if a device computes wrong
// results, and with 5 if there is nothing to check.
func (k *checkCmd) Run(ctx context.Context, c *console) error {
	o := check.Options{Backend: k.Backend, Device: k.Device}
	system := check.System(ctx)
	t := &checkTable{out: c.Out, facts: system}
	if !k.JSON {
		o.Observer = t
	}
	report, err := check.Run(ctx, system, o)
	if k.JSON && len(report.Runtimes) > 0 { // also if it was interrupted
		enc := newEncoder(c.Out)
		enc.SetIndent("", "  ")
		t.err = enc.Encode(report)
	}
	switch {
	case t.err != nil:
		return fault.Output.Wrap("print the report", t.err)
	case err != nil:
		return err
	}
	return report.Err()
}

// checkTable prints the report line by line, so that the last line shows where a runtime
// has crashed or hangs.
type checkTable struct {
	out   io.Writer
	facts []check.Fact // not printed yet
	last  check.Problem
	err   error // the first
}

// print prints to standard output. Paths and messages of libraries can contain control
// characters, so all texts are made safe.
func (t *checkTable) print(format string, args ...any) {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = fault.Flags(oneLine(s, maxErrorLine))
		}
	}
	if _, err := fmt.Fprintf(t.out, format, args...); err != nil && t.err == nil {
		t.err = err
	}
}

// problem prints why something does not work and what to do.
func (t *checkTable) problem(p check.Problem) {
	if p.Error != "" {
		t.print("  %s\n", p.Error)
	}
	if p.Hint != "" {
		t.print("  -> %s\n", p.Hint)
	}
}

// Runtime implements check.Observer.
func (t *checkTable) Runtime(r check.Runtime) {
	for _, f := range t.facts {
		t.print("%-9s  %s\n", f.Name, f.Detail)
	}
	t.facts = nil
	t.print("\n%s\n", r.Name+" "+r.Version)
	for _, path := range r.Libraries {
		t.print("  %s\n", path)
	}
	t.problem(r.Problem)
}

// Device implements check.Observer.
func (t *checkTable) Device(d check.Device) {
	t.print("\n%s: %s\n", d.ID, d.Name)
	if d.Error != "" {
		t.problem(d.Problem)
		return
	}
	t.print("  operators: %s\n", d.Dialect)
	cells := []string{"", "f32: difference, time"}
	if d.Half != "" {
		cells = append(cells, string(d.Half)+": PSNR, time")
	} else {
		t.print("  half precision is skipped: %s\n", d.NoHalf)
	}
	t.row(cells...)
}

// row prints a line of the table of a device. Its cells are texts of this program.
func (t *checkTable) row(cells ...string) {
	line := fmt.Sprintf("  %-36s", cells[0])
	for _, c := range cells[1:] {
		line += fmt.Sprintf("%-30s", c)
	}
	t.print("%v\n", verbatim(strings.TrimRight(line, " ")))
}

// verbatim is text in which spaces count.
type verbatim string

// Case implements check.Observer.
func (t *checkTable) Case(c check.Case) {
	cells := []string{c.Name}
	for _, r := range c.Results {
		figures := ""
		if r.Seconds > 0 {
			measure := fmt.Sprintf("%.1e", r.Difference)
			switch {
			case r.Precision != backend.F32:
				measure = fmt.Sprintf("%.1f dB", r.PSNR)
			case r.Difference == 0:
				measure = "0"
			}
			figures = fmt.Sprintf("%8s %8.1f ms", measure, 1e3*r.Seconds)
		}
		cells = append(cells, fmt.Sprintf("%-8s%s", r.Status, figures))
	}
	t.row(cells...)
	for _, r := range c.Results {
		if r.Problem == t.last { // a lost device fails all cases alike
			continue
		}
		if t.last = r.Problem; r.Error != "" {
			t.print("    %s: %s\n", string(r.Precision), r.Error)
		}
		if r.Hint != "" {
			t.print("    -> %s\n", r.Hint)
		}
	}
}

// Memory implements check.Observer.
func (t *checkTable) Memory(m check.Memory) {
	t.span("process", m.Host)
	if m.Card != nil {
		t.span("card", *m.Card)
	}
}

func (t *checkTable) span(of string, s check.Span) {
	t.print("  memory of the %s: %s before, %s at most, %s after\n", of, memory.Size(s.Before), memory.Size(s.Peak), memory.Size(s.After))
}
