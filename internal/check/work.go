package check

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/backend/runtimes"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/tensor"
)

// work computes the cases in its own goroutine and sends the parts of the report.
type work struct {
	weights *checkpoint.File
	parts   chan any // Runtime, Device, Case, Memory, in the order of the report
	choice  runtimes.Choice

	meter *memory.Meter
	gpus  *memory.GPUReader
	seen  []string // the devices of all runtimes
	err   error
}

// send sends a part, unless ctx has ended.
func (w *work) send(ctx context.Context, part any) {
	select {
	case w.parts <- part:
	case <-ctx.Done():
	}
}

// run checks the runtimes.
func (w *work) run(ctx context.Context, names []string) {
	w.meter, w.gpus = memory.NewMeter(memory.Probe{}), memory.Probe{}.OpenGPUs()
	for _, name := range names {
		if ctx.Err() != nil {
			break
		}
		w.runtime(ctx, name)
	}
	_ = w.gpus.Close() // the figures are read
	if d := w.choice.Device; d != "" && len(w.seen) > 0 && !slices.Contains(w.seen, d) && w.err == nil {
		// Why a job could not use it.
		opened, err := runtimes.Open(ctx, w.choice)
		if err == nil {
			err = opened.Close()
		}
		w.err = err
	}
}

func (w *work) runtime(ctx context.Context, name string) {
	opened, err := runtimes.Open(ctx, runtimes.Choice{Backend: name, Device: "cpu", Plugins: true})
	if err != nil {
		w.send(ctx, Runtime{Name: name, Problem: problem(err)})
		return
	}
	devices, err := opened.Devices()
	w.send(ctx, Runtime{Name: name, Version: opened.Version(), Libraries: opened.Libraries(), Problem: problem(err)})
	for _, d := range devices {
		if !slices.Contains(w.seen, d.ID) {
			w.seen = append(w.seen, d.ID)
		}
		if ctx.Err() == nil && (w.choice.Device == "" || w.choice.Device == d.ID) {
			watch := w.watch(d)
			w.check(ctx, opened, opened.Try(ctx, d), watch)
		}
	}
	if err := opened.Close(); err != nil && w.err == nil {
		w.err = err
	}
}

// check computes the cases on a device, in the dialect in which a job would use it.
func (w *work) check(ctx context.Context, b backend.Backend, d backend.Device, m *watch) {
	part := Device{ID: d.ID, Name: d.Name, Problem: problem(d.Err), Half: d.Half}
	switch {
	case d.Err != nil || d.Half != "":
	case d.ID == "cpu":
		part.NoHalf = "on this device no half precision is faster than f32"
	default:
		part.NoHalf = "this device does not compute in f16"
	}
	if d.Err != nil {
		w.send(ctx, part)
		return
	}
	part.Dialect = network.For(b.Name(), d, tensor.F32).Dialect.String()
	w.send(ctx, part)
	precisions := []backend.Precision{backend.F32}
	if part.Half != "" {
		precisions = append(precisions, part.Half)
	}
	var lists [][]test
	for _, p := range precisions {
		list, err := tests(w.weights, network.For(b.Name(), d, p.DType()))
		if err != nil {
			w.err = fault.Internal.Wrap("build the networks of the check", err)
			return
		}
		lists = append(lists, list)
	}
	compute(ctx, b, d.ID, precisions, lists, m.read, func(c Case) { w.send(ctx, c) })
	w.send(ctx, m.done())
}

// compute computes cases, in precisions for each of which there is a list of them. It
// calls loaded while a case is in memory, and done after each case, until ctx ends.
func compute(ctx context.Context, b backend.Backend, device string, precisions []backend.Precision, lists [][]test, loaded func(), done func(Case)) {
	var lost error
	for i, t := range lists[0] {
		c := Case{Name: t.name}
		for k, p := range precisions {
			r := Result{Precision: p, Limit: t.limitIn(p), Status: Skipped, Problem: problem(lost)}
			if lost == nil {
				err := lists[k][i].result(ctx, b, device, &r, loaded)
				if ctx.Err() != nil {
					return
				}
				if r.fail(err); fault.KindOf(err) == fault.Device {
					lost = fault.Device.New("use device "+device, "it failed in an earlier case")
				}
			}
			c.Results = append(c.Results, r)
		}
		done(c)
	}
}

// fail sets the status of a result whose computation returned err. A precision that the
// device does not have is no failure.
func (r *Result) fail(err error) {
	r.Problem = problem(err)
	switch {
	case err == nil:
		r.Status = OK
	case fault.KindOf(err) == fault.Usage:
		r.Status = Skipped
	default:
		r.Status = Failed
	}
}

// result computes the case, and fills in the figures of r.
func (t test) result(ctx context.Context, b backend.Backend, device string, r *Result, loaded func()) error {
	known, err := results()
	if err != nil {
		return fault.Internal.Wrap("read the stored results", err)
	}
	want, ok := known[t.name]
	if !ok {
		return fault.Internal.New("check "+t.name, "it has no stored result")
	}
	got, second, err := t.compute(ctx, b, backend.Options{Device: device, Precision: r.Precision}, loaded)
	if err != nil {
		return err
	}
	r.Seconds = second.Seconds()
	r.PSNR = bestPSNR
	for _, g := range got {
		d, psnr, err := want.compare(g)
		if err != nil {
			return err
		}
		r.Difference, r.PSNR = max(r.Difference, d), min(r.PSNR, psnr)
	}
	switch {
	case r.Precision == backend.F32 && r.Difference > r.Limit:
		return fmt.Errorf("the largest difference is %.2g, and the limit is %.2g", r.Difference, r.Limit)
	case r.Precision != backend.F32 && r.PSNR < r.Limit:
		return fmt.Errorf("the PSNR is %.1f dB, and the limit is %.0f", r.PSNR, r.Limit)
	}
	return nil
}

// Memory is the memory that the check of a device took, in bytes.
type Memory struct {
	Host Span  `json:"host_bytes"`           // of this process
	Card *Span `json:"card_bytes,omitempty"` // of the GPU, all processes; missing if unknown
}

// Span is a memory before the first use of a device, at most, and after its networks
// were closed.
type Span struct {
	Before int64 `json:"before"`
	Peak   int64 `json:"peak"`
	After  int64 `json:"after"`
}

// watch measures the memory of the check of a device.
type watch struct {
	w      *work
	device backend.Device
	m      Memory
}

// watch begins to measure.
func (w *work) watch(d backend.Device) *watch {
	m := &watch{w: w, device: d}
	m.read()
	m.m.Host.Before, m.m.Host.Peak = m.m.Host.After, m.m.Host.After
	if card := m.m.Card; card != nil {
		card.Before = card.After
	}
	return m
}

// read takes a reading: it becomes the last one, and the highest counts.
func (m *watch) read() {
	now, peak := m.w.meter.Lap()
	m.m.Host.After, m.m.Host.Peak = now.Total(), max(m.m.Host.Peak, peak)
	if m.device.Vendor() == "" {
		return
	}
	list, _ := m.w.gpus.Read() // without a reading the figures are missing
	g := m.device.GPU(list)
	if g == nil {
		return
	}
	if m.m.Card == nil {
		m.m.Card = &Span{}
	}
	m.m.Card.After, m.m.Card.Peak = g.Used, max(m.m.Card.Peak, g.Used)
}

// done takes the last reading, after everything that is not used was returned.
func (m *watch) done() Memory {
	debug.FreeOSMemory()
	native.ReturnFree()
	m.read()
	return m.m
}
