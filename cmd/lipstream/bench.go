package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/fault"
)

type benchCmd struct {
	Sync  benchSyncCmd  `cmd:"" help:"Measure how well the lips follow the voice."`
	Run   benchRunCmd   `cmd:"" help:"Measure the speed and memory of complete jobs."`
	Faces benchFacesCmd `cmd:"" help:"Measure how well faces are found that are turned, small, cut, dark or covered."`
}

type benchSyncCmd struct {
	bench.SyncOptions
	Start lipstream.Time `placeholder:"TIME" help:"Same as in lipstream run."`
	bench.Output
}

// Run implements lipstream bench sync.
func (b *benchSyncCmd) Run(ctx context.Context, c *console) error {
	last := time.Now()
	b.SyncOptions.Start = time.Duration(b.Start)
	b.Progress = func(done, expected int64) {
		if time.Since(last) > lineInterval {
			last = time.Now()
			_, _ = fmt.Fprintf(c.Err, "measured %d of %d frames\n", done, expected)
		}
	}
	report, err := bench.Sync(ctx, b.SyncOptions)
	if err != nil {
		return err
	}
	return b.Write(c.Out, report)
}

type benchRunCmd struct {
	bench.RunOptions
	bench.Output
}

// Run implements lipstream bench run.
func (b *benchRunCmd) Run(ctx context.Context, c *console) (err error) {
	if b.Program, err = os.Executable(); err != nil {
		return fault.Internal.Wrap("find this program", err)
	}
	b.Progress = func(line string) { _, _ = fmt.Fprintln(c.Err, line) }
	report, err := bench.Run(ctx, b.RunOptions)
	if err != nil {
		return err
	}
	return b.Write(c.Out, report)
}

type benchFacesCmd struct {
	bench.FacesOptions
	bench.Output
}

// Run implements lipstream bench faces.
func (b *benchFacesCmd) Run(ctx context.Context, c *console) error {
	last := time.Now()
	b.Progress = func(line string) {
		if time.Since(last) > lineInterval {
			last = time.Now()
			_, _ = fmt.Fprintln(c.Err, line)
		}
	}
	report, err := bench.Faces(ctx, b.FacesOptions)
	if err != nil {
		return err
	}
	return b.Write(c.Out, report)
}
