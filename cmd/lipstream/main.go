// Command lipstream gives a video the mouth that speaks a voice.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
)

// cli is the command line: one field a command, each in its own file.
type cli struct {
	Debug   bool             `help:"On failure, print the whole chain of causes."`
	Version kong.VersionFlag `help:"Print the version."`

	Run     runCmd     `cmd:"" help:"Make a video speak a voice."`
	Serve   serveCmd   `cmd:"" help:"Serve the web page and the HTTP API, with a queue of jobs."`
	Worker  workerCmd  `cmd:"" help:"Do the jobs of a server on this machine, too."`
	Submit  submitCmd  `cmd:"" help:"Give a job to a server."`
	Jobs    jobsCmd    `cmd:"" help:"List a server's jobs."`
	Logs    logsCmd    `cmd:"" help:"Show what a job has told."`
	Cancel  cancelCmd  `cmd:"" help:"Cancel jobs."`
	Retry   retryCmd   `cmd:"" help:"Begin failed or cancelled jobs anew."`
	Task    taskCmd    `cmd:"" hidden:"" help:"Do one task of a worker, which starts this by itself."`
	Runtime runtimeCmd `cmd:"" help:"Install and list the libraries that run the networks."`
	Models  modelsCmd  `cmd:"" help:"Download, check, convert and list the checkpoints of LatentSync."`
	Doctor  doctorCmd  `cmd:"" help:"Check what this machine has and what is missing."`
	Bench   benchCmd   `cmd:"" help:"Measure speed, memory and lip sync."`
	Monitor monitorCmd `cmd:"" help:"Watch the memory of GPUs, host and control group."`
	ComfyUI comfyuiCmd `cmd:"" name:"comfyui" help:"Install the nodes for ComfyUI."`
}

const description = `Lip sync with bounded memory: a face (video or picture) and a voice in, the face speaking the voice out.

Exit codes: 0 done, 1 internal error, 2 wrong option, 3 input cannot be read, 4 no face found, 5 something is not installed, 6 output cannot be written, 7 not enough memory, 130 interrupted.`

// gcPercent keeps garbage small against the frames that a job holds anyway.
// With Go's 100 the heap of a job would still rise after the first ten seconds.
const gcPercent = 25

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(execute(os.Args[1:], &console{Out: os.Stdout, Err: os.Stderr}))
}

// execute runs one command line and gives the exit code.
func execute(args []string, c *console) int {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	// A reader that goes away shall be a failed write, after which files are
	// cleaned up, not the end of this process. Nobody has to read the channel.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	// A second interrupt kills at once: the first one restored nothing yet.
	context.AfterFunc(ctx, stop)

	var app cli
	exited := -1
	parser, err := kong.New(&app,
		kong.Name("lipstream"), kong.Description(description),
		kong.Vars{"version": lipstream.Version()},
		kong.Writers(c.Out, c.Err), kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(c),
	)
	if err != nil {
		printError(c.Err, err, true)
		return int(fault.Internal)
	}
	command, err := parser.Parse(args)
	if exited >= 0 { // --help and --version
		return exited
	}
	if err != nil {
		hint := "see lipstream --help"
		if pe, ok := errors.AsType[*kong.ParseError](err); ok && pe.Context != nil && pe.Context.Selected() != nil {
			hint = "see lipstream " + pe.Context.Selected().Path() + " --help"
		}
		err = fault.Usage.Wrap("read the command line", err, hint)
		printError(c.Err, err, app.Debug)
		return exitCode(err)
	}
	if err = command.Run(); err != nil {
		printError(c.Err, err, app.Debug)
	}
	return exitCode(err)
}
