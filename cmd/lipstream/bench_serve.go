package main

import (
	"context"
	"fmt"
	"os"

	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/fault"
)

type benchServeCmd struct {
	Jobs      int    `default:"200" placeholder:"N" help:"Jobs to queue, of one second each."`
	Listeners int    `default:"100" placeholder:"N" help:"Streams of events that are followed."`
	Slots     int    `placeholder:"N" help:"Tasks at a time. Default: the server's."`
	Engine    string `default:"preview" placeholder:"preview|latentsync" help:"What makes the mouths."`

	benchOutput
}

// Run implements lipstream bench serve.
func (b *benchServeCmd) Run(ctx context.Context, c *console) error {
	program, err := os.Executable()
	if err != nil {
		return fault.Internal.Wrap("find this program", err)
	}
	report, err := bench.Serve(ctx, bench.ServeOptions{
		Program: program, Jobs: b.Jobs, Listeners: b.Listeners, Slots: b.Slots, Engine: b.Engine,
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
