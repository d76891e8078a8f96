package main

import (
	"context"
	"errors"

	"github.com/lipstream/lipstream/internal/backend/cuda"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/fault"
)

// runtimeCmd holds the commands for runtimes.
type runtimeCmd struct {
	Install runtimeInstallCmd `cmd:"" help:"Download, verify and unpack a runtime."`
	List    runtimeListCmd    `cmd:"" help:"List the runtimes and where they were found."`
	Path    runtimePathCmd    `cmd:"" help:"Print the path of a runtime's library."`
}

type runtimeInstallCmd struct {
	Name string `arg:"" optional:"" default:"openvino" help:"Runtime: openvino, onnxruntime, cuda for NVIDIA GPUs (cuda13 or cuda12, whichever the driver can run), webgpu for other GPUs, or tensorrt-rtx."`
	From string `placeholder:"FILE" help:"Install from a wheel on disk, or from a folder of wheels, instead of downloading."`
}

// Run implements lipstream runtime install. It prints the folder on standard
// output, and progress on standard error.
func (r *runtimeInstallCmd) Run(ctx context.Context, c *console) error {
	name := r.Name
	if name == wheels.CUDA {
		var err error
		if name, err = chooseCUDA(); err != nil {
			return err
		}
	}
	bar := newByteBar(c)
	dir, err := wheels.Install(ctx, name, r.From, wheels.Progress{Say: bar.say, Bytes: bar.show})
	bar.clear()
	if err != nil {
		return err
	}
	return printPaths(c, dir)
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
	Path    string `json:"path,omitempty"` // "" if no library was found
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
		default:
			row.hint = fault.HintOf(err)
		}
		rows = append(rows, row)
	}
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
	Name string `arg:"" optional:"" default:"openvino" help:"Runtime: openvino, onnxruntime, cuda13, cuda12, webgpu or tensorrt-rtx."`
}

// Run implements lipstream runtime path.
func (r *runtimePathCmd) Run(ctx context.Context, c *console) error {
	lib, err := wheels.Find(ctx, r.Name)
	if err != nil {
		return err
	}
	return printPaths(c, lib.Path)
}
