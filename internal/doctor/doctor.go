// Package doctor checks whether a machine has everything that Lipstream needs, and
// reports how to fix what is missing.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
)

// Status is the outcome of a check.
type Status string

// The statuses. Warning means that it works, but not well.
const (
	OK      Status = "ok"
	Missing Status = "missing"
	Warning Status = "warning"
)

// Check is the result of one check.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`        // what was found, or what is wrong
	Fix    string `json:"fix,omitempty"` // how to fix it, one line; empty when nothing is wrong
}

// Report is the result of Run.
type Report struct {
	Checks []Check `json:"checks"`
	// Ready is true if at least the preview engine can run.
	Ready bool `json:"ready"`

	blockers []Check // checks whose failure stops every engine
}

// Err returns nil if at least one engine can run, otherwise an error of kind Missing
// that names what is missing.
func (r Report) Err() error {
	if r.Ready {
		return nil
	}
	var names []string
	hint := ""
	for _, c := range r.blockers {
		names, hint = append(names, c.Name), cmp.Or(hint, c.Fix)
	}
	return fault.Missing.New("check this machine", "no engine can run; missing: "+strings.Join(names, ", "), hint)
}

// Tool is a program that was found.
type Tool struct{ Path, Version string }

// Library is a runtime that was found, loaded and tested.
type Library struct {
	Path, Version string
	Devices       []Device
}

// Device is a device of a runtime.
type Device struct {
	ID, Name string
	Err      error // why it does not work; nil if it does
}

// Backend is a runtime to look for. One that works is enough.
type Backend struct {
	Name string
	// Open finds the library, loads it and tests it.
	Open func(ctx context.Context) (Library, error)
}

// CPU describes the processor, as far as it matters for inference.
type CPU struct {
	Model    string
	Physical int // cores
	Logical  int // hardware threads
	Usable   int // threads that this process may use: affinity and quota count
	Features []string
	// Slow says why inference is slow on this processor; "" if it is not.
	Slow string
}

// Dir is a folder that jobs write to.
type Dir struct {
	Name, Path string
}

// Deps holds what the checks need. A check whose field is nil or empty is skipped.
// Programs and libraries have a time limit.
type Deps struct {
	FFmpeg func(ctx context.Context) (Tool, error) // and ffprobe
	// Encoder tests the default encoder.
	Encoder func(ctx context.Context) (name string, err error)

	Backends []Backend
	CPU      func() CPU
	GPUs     func() ([]memory.GPU, error)
	Host     func() (memory.Host, error)
	Cgroup   func() (memory.Cgroup, error)

	// ModelsDir is the folder of the checkpoints; "" skips them.
	ModelsDir string

	Dirs      []Dir
	FreeSpace func(path string) (int64, error)
}

const (
	toolTimeout    = 15 * time.Second // a program on a cold network disk
	backendTimeout = 60 * time.Second // hundreds of MB to load, a device to wake
	// lowSpace is less than an hour of video can need.
	lowSpace = 2 << 30
	// lowMemory is a bit more than decoding, encoding and the face networks
	// need at full HD.
	lowMemory = 2 << 30
)

// Run runs all checks. When ctx ends, the remaining checks are reported as
// interrupted.
func Run(ctx context.Context, d Deps) Report {
	var r Report
	if d.FFmpeg != nil {
		ffmpeg := checkTool(ctx, d.FFmpeg)
		r.add(ffmpeg)
		switch {
		case ffmpeg.Status == Missing:
			r.blockers = append(r.blockers, ffmpeg)
		case d.Encoder != nil:
			r.add(checkEncoder(ctx, d.Encoder))
		}
	}
	r.backends(ctx, d.Backends)
	if d.CPU != nil {
		r.add(checkCPU(d.CPU()))
	}
	if d.GPUs != nil {
		r.gpus(ctx, d.GPUs)
	}
	if d.Host != nil {
		r.add(checkMemory(d.Host, d.Cgroup))
	}
	if d.ModelsDir != "" {
		r.checkpoints(ctx, d.ModelsDir)
	}
	for _, dir := range d.Dirs {
		r.add(checkSpace(dir, d.FreeSpace))
	}
	r.Ready = len(r.blockers) == 0
	return r
}

func (r *Report) add(c Check) { r.Checks = append(r.Checks, c) }

// attempt calls f with a time limit. When the limit or ctx ends, it returns even if f
// is still running, because native code cannot be interrupted. It returns a panic as
// an error.
func attempt[T any](ctx context.Context, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	type outcome struct {
		v   T
		err error
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	done := make(chan outcome, 1) // buffered, so that a late f can return
	go func() {
		var o outcome
		defer func() {
			if p := recover(); p != nil {
				o.err = fmt.Errorf("panic: %v", p)
			}
			done <- o
		}()
		o.v, o.err = f(ctx)
	}()
	select {
	case o := <-done:
		return o.v, o.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// failed returns the check for an error. The hint of the error, if any, takes
// precedence over fallback.
func failed(name string, status Status, err error, fallback string) Check {
	detail, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
	c := Check{name, status, strings.TrimSpace(detail), cmp.Or(fault.HintOf(err), fallback)}
	if errors.Is(err, context.Canceled) {
		c.Detail, c.Fix = "not checked: interrupted", "run lipstream doctor again"
	}
	return c
}

func checkTool(ctx context.Context, find func(context.Context) (Tool, error)) Check {
	t, err := attempt(ctx, toolTimeout, find)
	if err != nil {
		return failed("ffmpeg", Missing, err, "install ffmpeg 4.4 or newer: https://ffmpeg.org/download.html")
	}
	return Check{Name: "ffmpeg", Status: OK, Detail: words(t.Version, t.Path)}
}

// words joins the parts that are not empty with commas.
func words(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), ", ")
}

// checkEncoder only warns: results can be written with another codec.
func checkEncoder(ctx context.Context, try func(context.Context) (string, error)) Check {
	name, err := attempt(ctx, toolTimeout, try)
	if err != nil {
		return failed("encoder", Warning, err,
			"run: lipstream runtime install ffmpeg, or set `codec` to another codec")
	}
	return Check{Name: "encoder", Status: OK, Detail: name + " works"}
}

// backends checks each backend. A missing one is a blocker only if none works.
func (r *Report) backends(ctx context.Context, all []Backend) {
	if len(all) == 0 {
		return
	}
	var checks []Check
	works := false
	for _, b := range all {
		l, err := attempt(ctx, backendTimeout, b.Open)
		if err != nil {
			checks = append(checks, failed(b.Name, Missing, err, "run: lipstream runtime install "+b.Name))
			continue
		}
		works = true
		var working []string
		var failures []Check
		for _, d := range l.Devices {
			if d.Err != nil {
				failures = append(failures, failed(d.ID, Warning, fmt.Errorf("%s: %w", d.Name, d.Err), "use device cpu"))
				continue
			}
			working = append(working, d.Name)
		}
		detail := words(l.Version, l.Path)
		if len(working) > 0 {
			detail += ", on " + strings.Join(working, " and ")
		}
		checks = append(append(checks, Check{Name: b.Name, Status: OK, Detail: detail}), failures...)
	}
	for i := range checks {
		if c := &checks[i]; works && c.Status == Missing {
			c.Detail += " (not needed: another backend works)"
		}
	}
	r.Checks = append(r.Checks, checks...)
	if !works { // the first backend is the preferred one
		r.blockers = append(r.blockers, Check{Name: "backend", Status: Missing, Fix: checks[0].Fix})
	}
}

func checkCPU(c CPU) Check {
	detail := words(c.Model, cores(c), strings.Join(c.Features, " "))
	if c.Slow != "" {
		return Check{"cpu", Warning, detail + ": " + c.Slow, "use a machine with a newer processor, or a GPU"}
	}
	return Check{Name: "cpu", Status: OK, Detail: detail}
}

// cores returns "8 cores, 16 threads, 4 usable", without repeated numbers.
func cores(c CPU) string {
	var parts []string
	if c.Physical > 0 {
		parts = append(parts, count(c.Physical, "core"))
	}
	if c.Logical > 0 && c.Logical != c.Physical {
		parts = append(parts, count(c.Logical, "thread"))
	}
	if c.Usable > 0 && c.Usable != c.Logical {
		parts = append(parts, fmt.Sprintf("%d usable", c.Usable))
	}
	return strings.Join(parts, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// gpus lists the GPUs, as far as they could be read. A machine without one is fine.
func (r *Report) gpus(ctx context.Context, read func() ([]memory.GPU, error)) {
	gpus, err := attempt(ctx, toolTimeout, func(context.Context) ([]memory.GPU, error) { return read() })
	for _, g := range gpus {
		size := "memory unknown"
		switch {
		case g.Shared:
			size = "memory shared with the host"
		case g.Total > 0:
			size = fmt.Sprintf("%s free of %s", memory.Size(g.Free()), memory.Size(g.Total))
		}
		driver := g.Driver
		if driver != "" {
			driver = "driver " + driver
		}
		r.add(Check{Name: "gpu", Status: OK, Detail: words(g.Name, size, driver)})
	}
	if err != nil {
		r.add(failed("gpu", Warning, err, "reinstall the GPU driver, or restart after a driver update"))
	} else if len(gpus) == 0 {
		r.add(Check{Name: "gpu", Status: OK, Detail: "none found; the CPU is used"})
	}
}

func checkMemory(host func() (memory.Host, error), cgroup func() (memory.Cgroup, error)) Check {
	h, err := host()
	var g memory.Cgroup
	if err == nil && cgroup != nil {
		g, err = cgroup()
	}
	if err != nil {
		return failed("memory", Warning, err, "no action needed; only this report is incomplete")
	}
	detail := fmt.Sprintf("%s available of %s", memory.Size(h.Available), memory.Size(h.Total))
	left, fix := h.Available, "close other programs, or use a machine with more memory"
	if g.Limit > 0 {
		detail += fmt.Sprintf("; control group %s: %s available of %s", g.Path, memory.Size(g.Available), memory.Size(g.Limit))
		if g.Available < left {
			left, fix = g.Available, "raise the memory limit of the container or service"
		}
	} else if cgroup != nil {
		detail += ", no control group limit"
	}
	if left < lowMemory {
		return Check{"memory", Warning, detail, fix}
	}
	return Check{Name: "memory", Status: OK, Detail: detail}
}

// WriteTable writes the report as a table: a line for each check, and below it how to
// fix a problem.
func (r Report) WriteTable(w io.Writer) error {
	wide := 0
	for _, c := range r.Checks {
		wide = max(wide, utf8.RuneCountInString(c.Name))
	}
	var b strings.Builder
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%-7s  %-*s  %s\n", c.Status, wide, c.Name, c.Detail)
		if c.Fix != "" {
			fmt.Fprintf(&b, "%-7s  %-*s  -> %s\n", "", wide, "", c.Fix)
		}
	}
	_, err := io.WriteString(w, fault.Flags(b.String()))
	return err
}
