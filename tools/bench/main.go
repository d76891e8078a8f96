// Command bench runs the measurements that are not part of lipstream bench: the
// optimisations of LatentSync, its denoising network, memory limits, and the server
// under load. docs/benchmarks.md has the results. Run it from the source folder:
//
//	go run ./tools/bench --help
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/chart"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/tools/bench/ladder"
	"github.com/lipstream/lipstream/tools/bench/limit"
	"github.com/lipstream/lipstream/tools/bench/load"
	"github.com/lipstream/lipstream/tools/bench/unet"
)

var cli struct {
	Ladder ladderCmd `cmd:"" help:"Measure each optimisation of LatentSync, and all of them together."`
	UNet   unetCmd   `cmd:"" name:"unet" help:"Measure one step of LatentSync's denoising network."`
	Limit  limitCmd  `cmd:"" help:"Run LatentSync under memory limits set by the kernel."`
	Serve  serveCmd  `cmd:"" help:"Measure the server under load: API calls, events and memory."`
}

type ladderCmd struct {
	ladder.Options
	Plot []string `placeholder:"FILE" help:"Draw the seconds per window as .png or .svg; may be repeated."`
	bench.Output
}

// Run implements bench ladder.
func (c *ladderCmd) Run(ctx context.Context) error {
	for _, path := range c.Plot {
		if err := chart.CheckPath("plot", path); err != nil { // before the measurement, which can take hours
			return err
		}
	}
	c.Progress = progress
	r, err := ladder.Measure(ctx, c.Options)
	if err != nil {
		return err
	}
	for _, path := range c.Plot {
		if err := r.Plot(path); err != nil {
			return err
		}
	}
	return c.Write(os.Stdout, r)
}

type unetCmd struct {
	unet.Options
	bench.Output
}

// Run implements bench unet.
func (c *unetCmd) Run(ctx context.Context) error {
	c.Progress = progress
	return measure(ctx, unet.Measure, c.Options, c.Output)
}

type limitCmd struct {
	limit.Options
	bench.Output
}

// Run implements bench limit.
func (c *limitCmd) Run(ctx context.Context) error {
	c.Progress = progress
	return measure(ctx, limit.Measure, c.Options, c.Output)
}

type serveCmd struct {
	load.Options
	bench.Output
}

// Run implements bench serve.
func (c *serveCmd) Run(ctx context.Context) error {
	c.Progress = progress
	return measure(ctx, load.Measure, c.Options, c.Output)
}

func measure[O any, R bench.Report](ctx context.Context, f func(context.Context, O) (R, error), o O, out bench.Output) error {
	r, err := f(ctx, o)
	if err != nil {
		return err
	}
	return out.Write(os.Stdout, r)
}

func progress(line string) { _, _ = fmt.Fprintln(os.Stderr, line) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt kills the process
	command := kong.Parse(&cli, kong.Name("bench"), kong.Description("Measure the speed and memory of Lipstream. docs/benchmarks.md explains the results."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}), kong.BindTo(ctx, (*context.Context)(nil)))
	err := command.Run()
	if err == nil {
		return
	}
	progress("bench: " + fault.Flags(fault.Message(err)))
	if hint := fault.HintOf(err); hint != "" {
		progress("hint: " + fault.Flags(hint))
	}
	os.Exit(fault.KindOf(err).ExitCode())
}
