package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/backend/runtimes"
	"github.com/lipstream/lipstream/internal/doctor"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
)

type doctorCmd struct {
	JSON bool `name:"json" help:"Print the report as JSON."`
}

// Run implements lipstream doctor. It fails, with exit code 5, only if no engine
// can run.
func (d *doctorCmd) Run(ctx context.Context, c *console) error {
	report := doctor.Run(ctx, doctorDeps())
	// Paths and messages of libraries can contain control characters.
	for i := range report.Checks {
		check := &report.Checks[i]
		check.Detail, check.Fix = oneLine(check.Detail, maxErrorLine), oneLine(fault.Flags(check.Fix), maxErrorLine)
	}
	var err error
	if d.JSON {
		err = printJSON(c, report)
	} else {
		err = fault.Output.Wrap("print the report", report.WriteTable(c.Out))
	}
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil { // an incomplete report proves nothing
		return fault.Cancelled.Wrap("check this machine", err)
	}
	return report.Err()
}

// doctorDeps returns what doctor needs to check this machine.
func doctorDeps() doctor.Deps {
	// Without a models folder, doctor skips the checkpoints.
	models, _ := lipstream.ModelsDir()
	d := doctor.System(models)
	// FindTools looks for both programs and names the missing one: one check.
	d.FFmpeg = func(ctx context.Context) (doctor.Tool, error) {
		t, err := media.FindTools(ctx)
		path := t.FFmpeg
		if filepath.Dir(t.FFprobe) != filepath.Dir(path) {
			path += " and " + t.FFprobe
		}
		return doctor.Tool{Path: path + " (" + t.Source + ")", Version: t.Version}, err
	}
	d.Encoder = tryEncoder
	for _, name := range []string{"openvino", "onnxruntime"} {
		d.Backends = append(d.Backends, doctor.Backend{Name: name, Open: func(ctx context.Context) (doctor.Library, error) {
			o, err := runtimes.Open(ctx, runtimes.Choice{Backend: name, Device: "cpu", Plugins: true})
			if err != nil {
				return doctor.Library{}, err
			}
			l, err := describe(ctx, o)
			return l, errors.Join(err, o.Close())
		}})
	}
	return d
}

// describe describes an open backend and tries its devices.
func describe(ctx context.Context, o *runtimes.Opened) (doctor.Library, error) {
	l := doctor.Library{Version: o.Version()}
	if p, ok := o.Backend.(interface{ Path() string }); ok {
		l.Path = p.Path()
	}
	devices, err := o.Usable(ctx)
	for _, d := range devices {
		l.Devices = append(l.Devices, doctor.Device{ID: d.ID, Name: d.Name, Err: d.Err})
	}
	return l, err
}

// tryEncoder encodes one small frame with the default encoder. An encoder that
// ffmpeg lists can still fail: some builds load it from a separate library.
func tryEncoder(ctx context.Context) (string, error) {
	const name, side = "libx264", 64
	tools, err := media.FindTools(ctx)
	if err != nil {
		return name, err
	}
	size := fmt.Sprintf("%dx%d", side, side)
	cmd := exec.CommandContext(ctx, tools.FFmpeg, "-hide_banner", "-v", "error",
		"-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", size, "-r", "1", "-i", "pipe:0",
		"-c:v", name, "-f", "null", "-")
	cmd.Stdin = bytes.NewReader(make([]byte, side*side*3/2))
	if out, err := cmd.CombinedOutput(); err != nil {
		return name, fmt.Errorf("%s cannot encode: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return name, nil
}
