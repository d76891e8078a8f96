package main

import (
	"context"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
)

type runCmd struct {
	Video  string `required:"" placeholder:"FACE" help:"Video or picture (PNG, JPEG, WebP) of the face."`
	Audio  string `required:"" placeholder:"VOICE" help:"Audio file with the voice, or a video with sound."`
	Output string `required:"" short:"o" placeholder:"OUT" help:"Output file: .mp4, .mov, .mkv or .webm."`

	lipstream.Settings

	reportFlags
	DryRun    bool `help:"Do not make the video, but estimate engine, memory and time of the job from a trial step on this machine."`
	JSON      bool `name:"json" help:"Print events as JSON lines on standard output."`
	Quiet     bool `short:"q" help:"Print only errors."`
	Overwrite bool `short:"y" help:"Replace the output if it exists."`
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
	// The job is cancelled when nothing reads its events any more.
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
	// The error of the job matters more than that of its report.
	if reportErr := r.write(result.Report); err == nil {
		err = reportErr
	}
	return err
}
