package main

import (
	"context"
	"fmt"
	"os"

	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/fault"
)

type benchLimitCmd struct {
	Models     string     `required:"" placeholder:"FOLDER" help:"Where the checkpoints are."`
	Limits     []sizeFlag `default:"3GB,4GB,6GB" placeholder:"SIZE,..." help:"Limits that jobs must hold, each in a control group of its own. Default: 3GB,4GB,6GB."`
	TooSmall   sizeFlag   `default:"300MB" placeholder:"SIZE" help:"A limit that must be refused at once; 0 for none. Default: 300MB."`
	Steps      int        `placeholder:"N" help:"Denoising steps. Default: the profile's."`
	Frames     int        `default:"16" placeholder:"N" help:"Frames of the video."`
	Resolution int        `placeholder:"256|512" help:"Default: what the checkpoint was made for."`
	Profile    string     `default:"auto" placeholder:"NAME" help:"As for lipstream run."`
	Backend    string     `default:"auto" placeholder:"auto|openvino|onnxruntime" help:"What runs the networks."`
	Threads    int        `placeholder:"N" help:"CPU threads of the networks."`

	benchOutput
}

// Run implements lipstream bench limit.
func (b *benchLimitCmd) Run(ctx context.Context, c *console) error {
	program, err := os.Executable()
	if err != nil {
		return fault.Internal.Wrap("find this program", err)
	}
	limits := make([]int64, len(b.Limits))
	for i, l := range b.Limits {
		limits[i] = int64(l)
	}
	report, err := bench.Limit(ctx, bench.LimitOptions{
		Program: program, Models: b.Models, Limits: limits, TooSmall: int64(b.TooSmall), Steps: b.Steps, Frames: b.Frames,
		Resolution: b.Resolution, Profile: b.Profile, Backend: b.Backend, Threads: b.Threads,
		Progress: func(line string) { _, _ = fmt.Fprintln(c.Err, oneLine(line, maxErrorLine)) },
	})
	if err != nil {
		return err
	}
	err = b.write(c.Out, report, report.WriteTable)
	if err != nil || !b.Check {
		return err
	}
	return missed(fault.Internal, "", report.Figures)
}
