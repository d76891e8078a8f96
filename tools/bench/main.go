// Command bench runs the measurements that are not part of lipstream bench: the
// optimisations of LatentSync, its denoising network, MuseTalk's networks, Lipstream's own CPU time for a
// frame, memory limits, the server under load, and the queue with many workers. docs/benchmarks.md has the
// results. Run it from the source folder:
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
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/tools/bench/cpu"
	"github.com/lipstream/lipstream/tools/bench/fleet"
	"github.com/lipstream/lipstream/tools/bench/lab"
	"github.com/lipstream/lipstream/tools/bench/ladder"
	"github.com/lipstream/lipstream/tools/bench/limit"
	"github.com/lipstream/lipstream/tools/bench/load"
	"github.com/lipstream/lipstream/tools/bench/musetalk"
	"github.com/lipstream/lipstream/tools/bench/talker"
	"github.com/lipstream/lipstream/tools/bench/unet"
)

var cli struct {
	Ladder   command[ladder.Options, *ladder.Report]     `cmd:"" help:"Measure each optimisation of LatentSync, and all of them together."`
	UNet     command[unet.Options, *unet.Report]         `cmd:"" name:"unet" help:"Measure one step of LatentSync's denoising network."`
	MuseTalk command[musetalk.Options, *musetalk.Report] `cmd:"" name:"musetalk" help:"Measure MuseTalk's networks."`
	Step     musetalk.Step                               `cmd:"" name:"musetalk-step" hidden:""`
	CPU      command[cpu.Options, *cpu.Report]           `cmd:"" name:"cpu" help:"Measure the CPU time and memory that Lipstream itself takes for a frame."`
	CPUStep  cpu.Step                                    `cmd:"" name:"cpu-step" hidden:""`
	Limit    command[limit.Options, *limit.Report]       `cmd:"" help:"Run LatentSync under memory limits set by the kernel."`
	Talker   talker.Options                              `cmd:"" help:"Make a video of a head that talks with a wide open mouth."`
	Serve    command[load.Options, *load.Report]         `cmd:"" help:"Measure the server under load: API calls, events and memory."`
	Fleet    command[fleet.Options, *fleet.Report]       `cmd:"" help:"Measure the queue with many workers that only pretend to work."`
}

// measurement is implemented by the options of a measurement.
type measurement[R bench.Report] interface {
	Measure(context.Context, lab.Progress) (R, error)
}

// command runs a measurement and prints its report.
type command[O measurement[R], R bench.Report] struct {
	Options O `embed:""`
	bench.Output
}

// Run implements a command of kong.
func (c *command[O, R]) Run(ctx context.Context) error {
	r, err := c.Options.Measure(ctx, progress)
	if err != nil {
		return err
	}
	return c.Write(os.Stdout, r)
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
