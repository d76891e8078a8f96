package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/tensor"
)

// modelsCmd holds the commands for checkpoints.
type modelsCmd struct {
	List    modelsListCmd    `cmd:"" help:"List installed and missing checkpoints."`
	Check   modelsCheckCmd   `cmd:"" help:"Verify checkpoints and show their versions."`
	Pull    modelsPullCmd    `cmd:"" help:"Download checkpoints, resuming interrupted downloads."`
	Prepare modelsPrepareCmd `cmd:"" help:"Convert checkpoints to half precision."`
	Synth   modelsSynthCmd   `cmd:"" help:"Create checkpoints with random weights."`
}

// modelsDir returns the given folder, or the default models folder.
func modelsDir(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	return lipstream.ModelsDir()
}

type modelsPullCmd struct {
	What    string `arg:"" optional:"" default:"1.6" help:"What to download: 1.6 or 1.5 (LatentSync, for 512 or 256 pixels), musetalk (MuseTalk 1.5), vae, whisper or taesd. The first three include vae and whisper."`
	Dir     string `placeholder:"FOLDER" help:"Models folder. Default: LIPSTREAM_MODELS_DIR, or lipstream/models in the user's cache folder."`
	BaseURL string `name:"base-url" placeholder:"URL" env:"LIPSTREAM_MODELS_URL" help:"Download from this mirror of huggingface.co."`
}

// Run implements lipstream models pull. It prints the paths of the files on
// standard output, and progress on standard error.
func (m *modelsPullCmd) Run(ctx context.Context, c *console) error {
	dir, err := modelsDir(m.Dir)
	if err != nil {
		return err
	}
	bar := newByteBar(c)
	paths, err := models.Pull(ctx, m.What, dir, models.PullOptions{
		BaseURL: m.BaseURL, Token: os.Getenv("HF_TOKEN"), Progress: bar.show, Notify: bar.say,
	})
	bar.clear()
	if err != nil {
		return err
	}
	return printPaths(c, paths...)
}

type modelsPrepareCmd struct {
	Path  string `arg:"" optional:"" help:"Checkpoint or models folder. Default: the models folder."`
	DType string `name:"dtype" enum:"f16,bf16,int8" default:"f16" placeholder:"f16|bf16|int8" help:"Type to convert to. int8 is for the setting weights; the VAE is then converted to f16."`
	Force bool   `help:"Convert again even if a converted file exists."`
}

// dtypes lists the values of --dtype.
var dtypes = map[string]tensor.DType{"f32": tensor.F32, "f16": tensor.F16, "bf16": tensor.BF16, "int8": tensor.I8}

// Run implements lipstream models prepare. In a folder, it converts the UNets and the
// VAE. It prints the paths of the converted files on standard output.
func (m *modelsPrepareCmd) Run(ctx context.Context, c *console) error {
	path, err := modelsDir(m.Path)
	if err != nil {
		return err
	}
	files := []models.File{{Path: path}}
	if st, err := os.Stat(path); m.Path == "" || err == nil && st.IsDir() {
		files, err = models.FindAll(path)
		files = slices.DeleteFunc(files, func(f models.File) bool { return !f.Kind.HalfPrecision() })
		vae := slices.ContainsFunc(files, func(f models.File) bool { return f.Kind == models.VAE })
		if err != nil && (!vae || len(files) < 2) { // only Whisper may be missing
			return err
		}
	}
	bar := newByteBar(c)
	defer bar.clear()
	for _, f := range files {
		out, err := models.PrepareWith(ctx, f.Path, dtypes[m.DType], models.PrepareOptions{
			Force:    m.Force,
			Progress: func(done, total int64) { bar.show(filepath.Base(f.Path), done, total) },
			Notify:   bar.say,
		})
		bar.clear()
		if err != nil {
			return err
		}
		if err := printPaths(c, out); err != nil {
			return err
		}
	}
	return nil
}

type modelsSynthCmd struct {
	Engine     string `enum:"latentsync,musetalk" default:"latentsync" placeholder:"ENGINE" help:"Engine of the checkpoints: latentsync or musetalk."`
	Size       string `required:"" enum:"tiny,full" placeholder:"tiny|full" help:"tiny (17 MB), or full, the size of the published checkpoints (5.4 GB; musetalk: 3.8 GB)."`
	With       string `enum:",taesd" default:"" placeholder:"taesd" help:"Also write TAESD."`
	Dir        string `required:"" placeholder:"FOLDER" help:"Folder to write the checkpoints to."`
	Seed       uint64 `default:"0" placeholder:"N" help:"Seed of the random weights."`
	Resolution int    `default:"256" placeholder:"256|512" help:"Resolution of the checkpoint; MuseTalk has only 256."`
	DType      string `name:"dtype" enum:"f32,f16" default:"f32" placeholder:"f32|f16" help:"Type of the weights."`
}

// Run implements lipstream models synth. It prints the paths of the files on
// standard output.
func (m *modelsSynthCmd) Run(ctx context.Context, c *console) error {
	bar := newByteBar(c)
	paths, err := models.Synth(ctx, m.Dir, models.SynthOptions{
		Engine: models.Engine(m.Engine), Size: m.Size, TAESD: m.With == "taesd", Seed: m.Seed, Resolution: m.Resolution, DType: dtypes[m.DType],
		Progress: func(done, total int64) { bar.show("random weights", done, total) },
	})
	bar.clear()
	if printErr := printPaths(c, paths...); err == nil {
		err = printErr
	}
	return err
}

type modelsListCmd struct {
	Dir  string `placeholder:"FOLDER" help:"Models folder. Default: LIPSTREAM_MODELS_DIR, or lipstream/models in the user's cache folder."`
	JSON bool   `name:"json" help:"Print the list as JSON."`
}

// Run implements lipstream models list. It succeeds even if checkpoints are
// missing.
func (m *modelsListCmd) Run(ctx context.Context, c *console) error {
	dir, err := modelsDir(m.Dir)
	if err != nil {
		return err
	}
	rows := models.List(ctx, dir)
	if m.JSON {
		return printJSON(c, struct {
			Dir   string       `json:"dir"`
			Files []models.Row `json:"files"`
		}{dir, rows})
	}
	t := newTable(c, "WHAT", "VERSION", "SIZE", "PREPARED", "FOUND", "WHERE")
	for _, r := range rows {
		version, size, prepared, found, where := "-", "-", "-", "no", r.Hint
		if r.Path != "" {
			size, found, where = memory.Size(r.Size), r.Found, r.Path
			if r.Version != nil {
				version = cmp.Or(r.Version.Name, "unknown")
			}
			if r.Kind.HalfPrecision() {
				prepared = "no"
			}
			if len(r.Prepared) > 0 {
				prepared = strings.Join(slices.Sorted(maps.Keys(r.Prepared)), ", ")
			}
		}
		t.line(string(r.Kind), version, size, prepared, found, where)
	}
	return t.close("print the list")
}

type modelsCheckCmd struct {
	Path string `arg:"" optional:"" help:"Checkpoint or models folder. Default: the models folder."`
	Deep bool   `help:"Read every value to find damage, NaN and infinities, and compute the SHA-256."`
	JSON bool   `name:"json" help:"Print the report as JSON."`
}

// checked is one file in the output of lipstream models check --json.
type checked struct {
	models.Report
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

// Run implements lipstream models check. It checks all files and returns the first
// error.
func (m *modelsCheckCmd) Run(ctx context.Context, c *console) error {
	path, err := modelsDir(m.Path)
	if err != nil {
		return err
	}
	files := []models.File{{Path: path}}
	var missing error
	if st, err := os.Stat(path); m.Path == "" || err == nil && st.IsDir() {
		files, missing = models.FindAll(path)
	}
	bar := newByteBar(c)
	defer bar.clear()
	all := []checked{}
	var failed error
	for _, f := range files {
		r, err := models.Inspect(ctx, f.Path, models.InspectOptions{
			Kind: f.Kind, Deep: m.Deep,
			Progress: func(done, total int64) { bar.show(filepath.Base(f.Path), done, total) },
		})
		bar.clear()
		if ctx.Err() != nil {
			return err
		}
		row := checked{Report: r}
		if err != nil {
			failed = cmp.Or(failed, err)
			row.Error, row.Hint = err.Error(), fault.HintOf(err)
		}
		all = append(all, row)
	}
	if m.JSON {
		err = printJSON(c, all)
	} else {
		err = printReports(c, all)
	}
	if err != nil {
		return err
	}
	return cmp.Or(failed, missing)
}

// printReports prints the reports of all files that could be read in part.
func printReports(c *console, all []checked) error {
	t := newTable(c)
	row := func(name, value string) {
		if value != "" {
			t.line("  "+name, value)
		}
	}
	for _, r := range all {
		if r.Format == "" && len(all) == 1 {
			continue // its error is that of the command
		}
		t.line(r.Path)
		if r.Format == "" {
			row("error", r.Error)
			continue
		}
		row("kind", string(r.Kind)+", "+r.Format+", "+memory.Size(r.Size))
		if r.Version != nil {
			v := r.Version.String()
			if r.Version.Resolution > 0 {
				v += fmt.Sprintf(", %d pixels, according to %s", r.Version.Resolution, r.Version.How)
			} else {
				v += "; run it with --resolution 256 or 512"
			}
			row("version", v)
		}
		if r.Config != r.Topology {
			row("musetalk.json", r.Config) // ignored, as the tensors show the topology
		}
		if r.Topology != "" {
			row("topology", r.Topology)
			row("parameters", fmt.Sprintf("%s, and %s computed by formulas", humanize.Comma(r.Parameters), humanize.Comma(r.Buffers)))
			if r.Unused > 0 {
				t.line("", humanize.Comma(r.Unused)+" more are unused")
			}
		}
		var types []string
		for _, d := range slices.Sorted(maps.Keys(r.DTypes)) {
			types = append(types, fmt.Sprintf("%d %s", r.DTypes[d], d))
		}
		row("tensors", strings.Join(types, ", "))
		row("SHA-256", r.SHA256)
		row("published", r.Published)
		switch {
		case r.Error != "":
			row("error", r.Error)
		case r.Deep:
			row("values", "all finite")
		default:
			row("values", "not checked; --deep checks them")
		}
	}
	return t.close("print the report")
}
