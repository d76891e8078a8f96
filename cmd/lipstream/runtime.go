package main

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/lipstream/lipstream/internal/archive"
	"github.com/lipstream/lipstream/internal/backend/cuda"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/ffmpeg"
)

// runtimeCmd holds the commands for runtimes.
type runtimeCmd struct {
	Install runtimeInstallCmd `cmd:"" help:"Download, verify and unpack a runtime, or ffmpeg."`
	List    runtimeListCmd    `cmd:"" help:"List the runtimes and ffmpeg, and where they were found."`
	Path    runtimePathCmd    `cmd:"" help:"Print the path of a runtime's library, or of ffmpeg."`
}

// ffmpegName stands for ffmpeg and ffprobe among the names of runtimes.
const ffmpegName = "ffmpeg"

type runtimeInstallCmd struct {
	Name string `arg:"" optional:"" help:"Runtime: openvino (the default where it exists), onnxruntime, cuda for NVIDIA GPUs (cuda13 or cuda12, whichever the driver can run), webgpu for other GPUs, or tensorrt-rtx; or ffmpeg, the programs ffmpeg and ffprobe (GPL 3)."`
	From string `placeholder:"FILE" help:"Install from a package on disk (a wheel, or a jar for ffmpeg), or from a folder of them, instead of downloading."`
}

// Run implements lipstream runtime install. It prints the folder on standard
// output, and progress on standard error.
func (r *runtimeInstallCmd) Run(ctx context.Context, c *console) error {
	name := cmp.Or(r.Name, wheels.Default())
	if name == wheels.CUDA {
		var err error
		if name, err = chooseCUDA(); err != nil {
			return err
		}
	}
	bar := newByteBar(c)
	progress := archive.Progress{Say: bar.say, Bytes: bar.show}
	var dir string
	var err error
	if name == ffmpegName {
		dir, err = ffmpeg.Install(ctx, r.From, progress)
	} else if err = named(name, wheels.CUDA, ffmpegName); err == nil {
		dir, err = wheels.Install(ctx, name, r.From, progress)
	}
	bar.clear()
	if err != nil {
		return err
	}
	return printPaths(c, dir)
}

// named returns an error if there is no runtime of this name. Its hint lists the names,
// with more of them.
func named(name string, more ...string) error {
	_, err := wheels.Named(name)
	if e, ok := errors.AsType[*fault.Error](err); ok {
		e.Hint += ", " + strings.Join(more, ", ")
	}
	return err
}

// chooseCUDA returns the CUDA runtime for the driver and the newest card of this machine.
func chooseCUDA() (string, error) {
	driver, err := cuda.Read()
	if err != nil && !errors.Is(err, cuda.ErrNoDriver) {
		return "", fault.Missing.Wrap("choose the CUDA runtime", err, "restart the machine if the driver was just updated; else reinstall it")
	}
	best := ""
	for _, d := range driver.Devices {
		if best == "" || wheels.TooOld(best) {
			best = d.Capability
		}
	}
	return wheels.ChooseCUDA(driver.CUDA, best)
}

type runtimeListCmd struct {
	JSON bool `name:"json" help:"Print the list as JSON."`
}

// runtimeRow is one line of the list.
type runtimeRow struct {
	Name    string `json:"name"`
	Version string `json:"version"` // of the build that install downloads
	About   string `json:"about"`
	Path    string `json:"path,omitempty"` // "" if it was not found
	Source  string `json:"source,omitempty"`

	hint string // how to install it
}

// Run implements lipstream runtime list. It finds libraries without loading
// them; lipstream doctor checks whether they work.
func (r *runtimeListCmd) Run(ctx context.Context, c *console) error {
	rows := []runtimeRow{}
	for _, rt := range wheels.Runtimes() {
		row := runtimeRow{Name: rt.Name, Version: rt.Version(), About: rt.About}
		lib, err := wheels.Find(ctx, rt.Name)
		switch {
		case err == nil:
			row.Path, row.Source = lib.Path, lib.Source
		case ctx.Err() != nil:
			return err
		case !rt.Available():
			row.hint = archive.NoBuild(archive.Platform)
		default:
			row.hint = fault.HintOf(err)
		}
		rows = append(rows, row)
	}
	row := runtimeRow{Name: ffmpegName, Version: ffmpeg.Version(), About: "the programs ffmpeg and ffprobe"}
	if p, err := ffmpeg.Find(ffmpegName); err == nil {
		row.Path, row.Source = p.Path, p.Source
	} else {
		row.hint = fault.HintOf(err)
	}
	rows = append(rows, row)
	if r.JSON {
		return printJSON(c, rows)
	}
	t := newTable(c, "NAME", "VERSION", "FOUND", "WHERE")
	for _, row := range rows {
		found, where := "no", row.hint
		if row.Path != "" {
			found, where = row.Source, row.Path
		}
		t.line(row.Name, row.Version, found, where)
	}
	return t.close("print the list")
}

type runtimePathCmd struct {
	Name string `arg:"" optional:"" help:"Runtime: openvino (the default where it exists), onnxruntime, cuda13, cuda12, webgpu or tensorrt-rtx; or ffmpeg."`
}

// Run implements lipstream runtime path.
func (r *runtimePathCmd) Run(ctx context.Context, c *console) error {
	if r.Name == ffmpegName {
		p, err := ffmpeg.Find(ffmpegName)
		if err != nil {
			return err
		}
		return printPaths(c, p.Path)
	}
	name := cmp.Or(r.Name, wheels.Default())
	if err := named(name, ffmpegName); err != nil {
		return err
	}
	lib, err := wheels.Find(ctx, name)
	if err != nil {
		return err
	}
	return printPaths(c, lib.Path)
}
