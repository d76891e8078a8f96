package main

import (
	"context"
	"fmt"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
)

type runCmd struct {
	Video string `required:"" placeholder:"FACE" help:"Video or picture (PNG, JPEG, WebP) of the face."`

	voiceFlags

	Output string `required:"" short:"o" placeholder:"OUT" help:"Output file: .mp4, .mov, .mkv or .webm."`
	Mask   string `placeholder:"FILE" help:"Picture or video of the shape of FACE: where it is black, nothing changes; grey mixes."`

	lipstream.Settings

	reportFlags
	DryRun    bool `help:"Do not make the video, but estimate engine, memory and time of the job from a trial step on this machine."`
	JSON      bool `name:"json" help:"Print events as JSON lines on standard output."`
	Quiet     bool `short:"q" help:"Print only errors."`
	Overwrite bool `short:"y" help:"Replace the output if it exists."`
}

// Run implements lipstream run.
func (r *runCmd) Run(ctx context.Context, c *console) error {
	job := lipstream.Job{
		Video: r.Video, Audio: r.Audio, Speakers: r.speakers(), Soundtrack: r.Soundtrack,
		Output: r.Output, Mask: r.Mask, Overwrite: r.Overwrite, Settings: r.Settings,
	}
	if err := r.check(r.DryRun, append(r.files(), r.Video, r.Mask)...); err != nil {
		return err
	}
	if r.DryRun {
		return r.dryRun(ctx, c, job)
	}
	// The job is cancelled when nothing reads its events any more.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	progress := newReporter(c, r.JSON, r.Quiet, cancel)
	result, err := lipstream.Run(ctx, job, progress)
	if closeErr := progress.Close(); closeErr != nil {
		err = closeErr
	}
	if err == nil && !r.JSON && !r.Quiet {
		printReport(c.Err, result.Report)
	}
	// The error of the job matters more than that of its report.
	if reportErr := r.write(result.Report); err == nil {
		err = reportErr
	}
	return err
}

// dryRun prints the estimate of a job.
func (r *runCmd) dryRun(ctx context.Context, c *console, job lipstream.Job) error {
	warnings := lipstream.ObserverFunc(func(e lipstream.Event) {
		if e.Type == lipstream.EventWarning && !r.Quiet {
			fmt.Fprintln(c.Err, notice(e)) // informational, so a failure does not matter
		}
	})
	estimate, err := lipstream.DryRun(ctx, job, warnings)
	if err != nil {
		return err
	}
	if r.JSON {
		return printJSON(c, estimate)
	}
	return printEstimate(c, estimate)
}

func printEstimate(c *console, p lipstream.Estimate) error {
	t := newTable(c)
	row := func(name, format string, args ...any) { t.line(name, fmt.Sprintf(format, args...)) }
	row("engine", "%s (%s)", p.Engine, p.Why)
	row("video", "%dx%d, %.4g frames per second, %d frames", p.Width, p.Height, p.FPS, p.Frames)
	if len(p.Speakers) == 0 {
		row("voice", "%.1f s, %.1f s of it speech", p.Voice, p.Speech)
	}
	for _, s := range p.Speakers {
		row("voice "+s.Face, "%.1f s, %.1f s of it speech", s.Voice, s.Speech)
	}
	if p.Windows > 0 {
		m := p.Plan
		row("windows", "%d of %d frames, overlapping by %d; every scene cut adds one", p.Windows, m.Frames, p.Overlap)
		if p.Steps > 0 {
			row("steps", "%d (%s), %d of them full, guidance scale %g", p.Steps, p.Sampler, p.FullSteps, p.Guidance)
		}
		row("network", "%s in %s, faces of %d pixels", p.Backend, p.Precision, p.Resolution)
		row("plan", "%s", m)
		row("budget", "%s (%s); the job needs about %s", memory.Size(p.Budget), fault.Flags(p.BudgetFrom), memory.Size(p.Needs))
	}
	for _, s := range p.Stages {
		held := ""
		if s.Memory > 0 {
			held = ", " + memory.Size(s.Memory)
		}
		row(s.Name, "%.3g s per %s%s", s.Seconds, s.Per, held)
	}
	if p.Seconds > 0 {
		row("time", "about %s, if nothing else is running", clock(time.Duration(p.Seconds*float64(time.Second))))
	}
	for _, d := range p.Disk {
		free := ""
		if d.Free >= 0 {
			free = ", " + memory.Size(d.Free) + " free"
		}
		row("disk, "+d.What, "about %s in %s%s", memory.Size(d.Bytes), d.Folder, free)
	}
	row("memory", "at most %s during this dry run", memory.Size(p.MemoryPeak))
	return t.close("print the estimate")
}
