package job

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/mask"
	"github.com/lipstream/lipstream/internal/memory"
)

// goShare is the share of the budget above which Go's garbage collector runs more
// often.
const goShare = 0.6

// budget is the memory of a job.
type budget struct {
	memory.Budget
	probe memory.Probe
	gpu   *memory.GPU // that the networks compute on; nil if they compute in the memory of the host
	// reserved is how much memory of the host the job takes without the engine, and
	// onDevice the same of the memory of the GPU.
	reserved, onDevice int64
}

// deviceInterval is the time between two readings of a GPU's memory.
const deviceInterval = 500 * time.Millisecond

// newBudget returns what the job may use, and what it takes without its engine: the
// process so far, the frames in the pipeline, of which the engine holds so many bytes to look
// ahead, and ffmpeg, which keeps some tens of frames to decode and to encode. device is that
// of the engine.
func newBudget(probe memory.Probe, job Job, device backend.Device, format frame.Format, ahead int64) (budget, error) {
	b := budget{probe: probe}
	if device.Vendor() != "" {
		gpus, err := probe.GPUs()
		if err != nil && len(gpus) == 0 {
			return b, fault.Missing.Wrap("read the memory of "+device.ID, err)
		}
		if b.gpu = device.GPU(gpus); b.gpu != nil {
			// Trying the device has left this process a context on it. The engine's
			// estimate contains that context.
			b.gpu.Used -= b.gpu.HeldBy(os.Getpid())
		}
	}
	var err error
	if b.Budget, err = probe.Budget(int64(job.MemoryLimit), b.gpu); err != nil {
		return b, fault.Internal.Wrap("find out the memory for "+job.Output, err)
	}
	if b.gpu != nil {
		// A plan that needs more than the alert would be reduced at once.
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
		ffmpegFrames = 40 // that the decoder and the encoder keep
		inPipeline   = 30 // in queues and tracker
		heap         = 100 << 20
	)
	b.reserved = max(u.Anonymous, u.Total()-u.Mapped) + ffmpegs + heap + (ffmpegFrames+inPipeline)*int64(format.Bytes()) + ahead
	if job.Mask != "" {
		b.reserved += mask.Memory(format.Bytes()) + ahead // the copies from before the engine
	}
	if b.reserved > b.Host {
		return b, fault.Memory.New("plan the memory of "+job.Output, fmt.Sprintf("decoding, encoding and the frames in the pipeline take %s, but the job may use only %s (%s)", memory.Size(b.reserved), memory.Size(b.Host), b.HostFrom),
			"raise `memory_limit`, or use a smaller video, whose frames take less")
	}
	return b, nil
}

// share returns what the engine may use.
func (b budget) share() lip.Budget {
	if b.gpu != nil {
		return lip.Budget{Bytes: b.Device, From: b.DeviceFrom, Reserved: b.onDevice, GPU: b.gpu.Total}
	}
	return lip.Budget{Bytes: b.Host, From: b.HostFrom, Reserved: b.reserved}
}

// setSoftLimit sets Go's soft memory limit during the job, unless a lower one is set.
// The caller calls undo at the end of the job.
func (b budget) setSoftLimit() (undo func()) {
	soft := int64(goShare * float64(b.Host))
	was := debug.SetMemoryLimit(-1)
	if soft >= was {
		return func() {}
	}
	debug.SetMemoryLimit(soft)
	return func() { debug.SetMemoryLimit(was) }
}

// thresholds returns the thresholds of the alerts.
func (j Job) thresholds() (warning, critical memory.Threshold, err error) {
	return memory.ParseThresholds(memory.Setting{Name: "memory_warning", Text: j.MemoryWarning}, memory.Setting{Name: "memory_alert", Text: j.MemoryAlert})
}

// watch reports alerts about the memory of host, control group and GPUs until stop is
// called. level returns how short of memory the job itself is.
func (b budget) watch(ctx context.Context, job Job, r *reporter) (level func() memory.Level, stop func(), err error) {
	o := memory.MonitorOptions{OnAlert: func(a memory.Alert) { r.note(EventAlert, a.String()) }}
	if o.Warning, o.Critical, err = job.thresholds(); err != nil {
		return nil, nil, err
	}
	if b.gpu != nil {
		id := b.gpu.ID()
		o.Interval = deviceInterval
		o.OnReading = func(now memory.Reading) {
			for _, w := range now.Watched {
				if w.Name == id {
					r.used(w.Used)
				}
			}
		}
	}
	m := memory.NewMonitor(b.probe, o)
	m.Start(ctx)
	if b.gpu != nil {
		return func() memory.Level { return m.Level(b.gpu.ID()) }, m.Stop, nil
	}
	return func() memory.Level {
		// Pages of files do not count: the system can take them back.
		u := r.meter.Now()
		switch used := max(u.Anonymous, u.Total()-u.Mapped); {
		case used > b.Host:
			return memory.Critical
		case used > b.Host/20*19:
			return memory.Warning
		}
		return memory.Normal
	}, m.Stop, nil
}
