package main

import (
	"context"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
)

type runCmd struct {
	Video  string `required:"" placeholder:"FACE" help:"Video or picture (PNG, JPEG, WebP) of the face."`
	Audio  string `required:"" placeholder:"VOICE" help:"The voice: any audio, or a video with sound."`
	Output string `required:"" short:"o" placeholder:"OUT" help:"Result: .mp4, .mov, .mkv or .webm."`

	lipstream.Settings

	reportFlags
	DryRun    bool `help:"Make no frames, but print what the job would do: its engine, memory and time, from one step tried on this machine."`
	JSON      bool `name:"json" help:"Print events as JSON lines on standard output."`
	Quiet     bool `short:"q" help:"Print errors only."`
	Overwrite bool `short:"y" help:"Replace an existing output."`
}

// Run implements lipstream run.
func (r *runCmd) Run(ctx context.Context, c *console) error {
	job := lipstream.Job{Video: r.Video, Audio: r.Audio, Output: r.Output, Overwrite: r.Overwrite, Settings: r.Settings}
	if err := r.check(r.DryRun, r.Video, r.Audio); err != nil {
		return err
	}
	if r.DryRun {
		return r.dryRun(ctx, c, job)
	}
	kind, w := chooseReporter(c, r.JSON, r.Quiet)
	// If the reader of the events has gone away, nobody wants the job any more.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	progress := newReporter(kind, w, reporterOptions{Lost: cancel})
	result, err := lipstream.Run(ctx, job, progress)
	if closeErr := progress.Close(); closeErr != nil {
		err = fault.Output.Wrap("print events", closeErr)
	}
	if err == nil && !r.JSON && !r.Quiet {
		printReport(c.Err, result.Report)
	}
	// The error of the job says more than that of its report.
	if reportErr := r.write(result.Report); err == nil {
		err = reportErr
	}
	return err
}
