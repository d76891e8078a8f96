// Command lipstream lip-syncs a video or picture to a voice.
package main

import (
	"context"
	"errors"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/settings"
)

// cli is the command line: one field for each command, each in its own file.
type cli struct {
	Debug   bool             `help:"Print the whole chain of causes if the command fails."`
	Version kong.VersionFlag `help:"Print the version."`

	Run     runCmd     `cmd:"" help:"Lip-sync a video or picture to a voice."`
	Serve   serveCmd   `cmd:"" help:"Serve the web page, the HTTP API and a queue of jobs."`
	Worker  workerCmd  `cmd:"" help:"Run tasks for a server on another machine."`
	Submit  submitCmd  `cmd:"" help:"Submit a job to a server."`
	Jobs    jobsCmd    `cmd:"" help:"List the jobs of a server."`
	Logs    logsCmd    `cmd:"" help:"Show the log of a job."`
	Cancel  cancelCmd  `cmd:"" help:"Cancel jobs."`
	Retry   retryCmd   `cmd:"" help:"Start failed or cancelled jobs again."`
	Task    taskCmd    `cmd:"" hidden:"" help:"Run one task; used by workers."`
	Runtime runtimeCmd `cmd:"" help:"Install and list the inference runtimes."`
	Models  modelsCmd  `cmd:"" help:"Download, check, convert and list the checkpoints of LatentSync and MuseTalk."`
	Doctor  doctorCmd  `cmd:"" help:"Check what is installed and what is missing."`
	Check   checkCmd   `cmd:"" help:"Compute on each device and compare with known results."`
	Bench   benchCmd   `cmd:"" help:"Measure speed, memory and lip sync."`
	Monitor monitorCmd `cmd:"" help:"Watch the memory of GPUs, host and control group."`
	ComfyUI comfyuiCmd `cmd:"" name:"comfyui" help:"Install the ComfyUI nodes."`

	Completion completionCmd `cmd:"" help:"Print the completion script of a shell."`
	Complete   completeCmd   `cmd:"" hidden:"" passthrough:"" help:"Complete a word; used by completion scripts."`
	Man        manCmd        `cmd:"" help:"Print the manual page."`
}

const description = `Lipstream lip-syncs a video or picture to a voice, with bounded memory.`

// gcPercent keeps garbage small compared with the frames that a job holds. With
// Go's default of 100, the heap of a job grows for more than ten seconds.
const gcPercent = 25

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(untilStopped(func(ctx context.Context) int {
		return execute(ctx, os.Args[1:], &console{Out: os.Stdout, Err: os.Stderr})
	}))
}

// execute runs one command line and returns the exit code.
func execute(ctx context.Context, args []string, c *console) int {
	var app cli
	exited := -1
	parser, err := kong.New(&app,
		kong.Name("lipstream"), kong.Description(description+"\n\nExit codes: "+fault.ExitCodes()+"."),
		kong.Vars{"version": versionLine()},
		kong.Writers(c.Out, c.Err), kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(c),
	)
	if err != nil {
		printError(c.Err, err, true)
		return int(fault.Internal)
	}
	describeFlags(parser.Model.Node)
	command, err := parser.Parse(completeBare(args))
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
		printError(c.Err, withHelp(err, command.Selected()), app.Debug)
	}
	return exitCode(err)
}

// completeBare gives flags that may stand without a value the value that this means.
func completeBare(args []string) []string {
	args = slices.Clone(args)
	for _, f := range settings.Fields() {
		flag := "--" + strings.ReplaceAll(f.Name, "_", "-")
		for i, a := range args {
			if f.Bare != "" && a == flag && (i+1 == len(args) || strings.HasPrefix(args[i+1], "-")) {
				args[i] += "=" + f.Bare
			}
		}
	}
	return args
}

// withHelp adds the command's --help to the hint of an error about a flag.
func withHelp(err error, command *kong.Node) error {
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Field == "" || command == nil {
		return err
	}
	helpful := *e
	if helpful.Hint != "" {
		helpful.Hint += "; "
	}
	helpful.Hint += "see lipstream " + command.Path() + " --help"
	return &helpful
}

// describeFlags completes the help of flags and arguments with their defaults and
// with the tags of settings that kong does not know: choices and otherwise.
func describeFlags(node *kong.Node) {
	for _, a := range node.Positional {
		describeDefault(a)
	}
	for _, f := range node.Flags {
		if choices := f.Tag.Get("choices"); choices != "" {
			f.PlaceHolder = strings.ReplaceAll(choices, ",", "|")
		}
		describeDefault(f.Value)
		if node.Name == "submit" && f.Tag.Get("scope") == "local" {
			f.Hidden = true // the server refuses it
		}
	}
	for _, child := range node.Children {
		describeFlags(child)
	}
}

func describeDefault(v *kong.Value) {
	text := v.Tag.Get("otherwise")
	if text == "" && v.HasDefault {
		text = v.Default
	}
	if text != "" && !strings.Contains(v.Help, "Default:") {
		v.Help += " Default: " + text + "."
	}
}
