package lipstream

import (
	"context"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/latentsync"
	"github.com/lipstream/lipstream/internal/memory"
)

// minLimit is the least memory limit: less than that the program and ffmpeg
// take before they do anything.
const minLimit = 100 << 20

// goShare is the part of the budget from which Go's collector works harder.
const goShare = 0.6

// budget is the memory of a job.
type budget struct {
	memory.Budget
	gpu *memory.GPU // that the networks compute on; nil: in the host's memory
	// besides is what the job takes of the host's memory apart from the engine.
	besides int64
}

// frameBytes is the memory of a frame on its way.
func frameBytes(f frame.Format) int64 { return int64(f.Bytes()) }

// newBudget finds out what the job may use and what it takes before the engine
// is there: the process so far, frames on their way, and ffmpeg, which holds
// some tens of frames to decode and to encode.
func newBudget(job Job, device string, in *inputs) (budget, error) {
	var b budget
	probe := memory.Probe{}
	if gpu, ok := gpuOf(device); ok {
		gpus, err := probe.GPUs()
		if err != nil && len(gpus) == 0 {
			return b, fault.Missing.Wrap("read the memory of "+device, err)
		}
		for _, g := range gpus {
			if gpu(g) && !g.Shared && g.Total > 0 {
				b.gpu = &g
			}
		}
	}
	var err error
	if b.Budget, err = probe.Budget(job.MemoryLimit, b.gpu); err != nil {
		return b, fault.Internal.Wrap("find out the memory for "+job.Output, err)
	}
	if b.gpu != nil {
		// Beyond the alert the governor would go down again and again.
		_, alert, err := job.thresholds()
		if err != nil {
			return b, err
		}
		b.Device = max(0, min(b.Device, alert.Of(b.gpu.Total)-b.gpu.Used))
	}
	u, err := probe.Usage()
	if err != nil {
		return b, fault.Internal.Wrap("find out the memory of this process", err)
	}
	const (
		ffmpegs      = 2 * (70 << 20)
		ffmpegFrames = 40 // looked ahead and referred to, both together
		onTheWay     = 30 // queues and tracker
		heap         = 100 << 20
	)
	b.besides = max(u.Anonymous, u.Total()-u.Mapped) + ffmpegs + heap + (ffmpegFrames+onTheWay)*frameBytes(in.format)
	if b.besides > b.Host {
		return b, fault.Memory.New("plan the memory of "+job.Output, fmt.Sprintf("reading, encoding and frames on their way take %s, and the job may use %s (%s)", memory.Size(b.besides), memory.Size(b.Host), b.HostFrom),
			"give it more memory; frames of a smaller video take less")
	}
	return b, nil
}

// gpuOf tells which GPU a device of a backend is.
func gpuOf(device string) (func(memory.GPU) bool, bool) {
	kind, number, _ := strings.Cut(device, ":")
	n, err := strconv.Atoi(number)
	if err != nil {
		n = 0
	}
	vendor := map[string]string{"cuda": "nvidia", "tensorrt": "nvidia", "gpu": "intel", "rocm": "amd", "migraphx": "amd"}[kind]
	return func(g memory.GPU) bool { return g.Vendor == vendor && g.Index == n }, vendor != ""
}

// limit gives the engine its part of the budget.
func (b budget) limit(o *latentsync.Options, in *inputs) {
	o.Budget, o.BudgetFrom = b.Host, b.HostFrom
	o.Besides, o.FrameBytes = b.besides, frameBytes(in.format)
	if b.gpu != nil {
		o.Budget, o.BudgetFrom = b.Device, b.DeviceFrom
		o.Besides, o.FrameBytes = 0, 0
		if o.Batched = true; o.May.Windows {
			o.Plan.Windows = memory.Windows(b.gpu.Total)
		}
	}
	o.InFlight = max(2, memory.Windows(o.Budget))
}

// soften sets Go's soft memory limit for the time of the job, unless a lower
// one is set. The caller calls what it gives.
func (b budget) soften() (undo func()) {
	soft := int64(goShare * float64(b.Host))
	was := debug.SetMemoryLimit(-1)
	if soft >= was {
		return func() {}
	}
	debug.SetMemoryLimit(soft)
	return func() { debug.SetMemoryLimit(was) }
}

// thresholds are those of the alerts.
func (j Job) thresholds() (warning, critical memory.Threshold, err error) {
	warning, critical = memory.DefaultWarning, memory.DefaultCritical
	for _, t := range []struct {
		option, value string
		to            *memory.Threshold
	}{{"--memory-warning", j.MemoryWarning, &warning}, {"--memory-alert", j.MemoryAlert, &critical}} {
		if t.value == "" {
			continue
		}
		if *t.to, err = memory.ParseThreshold(t.value); err != nil {
			return warning, critical, fault.Usage.Wrap("option "+t.option, err, fault.HintOf(err))
		}
	}
	return warning, critical, nil
}

// watch raises alerts about host, control group and GPUs while the job runs,
// and tells how short of memory the job itself is.
func (b budget) watch(ctx context.Context, job Job, r *reporter) (m *memory.Monitor, level func() memory.Level, err error) {
	o := memory.MonitorOptions{OnAlert: func(a memory.Alert) { r.alert(a.String()) }}
	if o.Warning, o.Critical, err = job.thresholds(); err != nil {
		return nil, nil, err
	}
	if err := o.Check(); err != nil {
		return nil, nil, err
	}
	m = memory.NewMonitor(memory.Probe{}, o)
	m.Start(ctx)
	if b.gpu != nil {
		return m, func() memory.Level { return m.Level(b.gpu.ID()) }, nil
	}
	return m, func() memory.Level {
		// What files stand behind does not count: the system takes it back.
		u := r.meter.Now()
		switch used := max(u.Anonymous, u.Total()-u.Mapped); {
		case used > b.Host:
			return memory.Critical
		case used > b.Host/20*19:
			return memory.Warning
		}
		return memory.Normal
	}, nil
}
