package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/lipstream/lipstream"
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
	What    string `arg:"" optional:"" default:"1.6" help:"What to download: 1.6 (512 pixels), 1.5 (256 pixels), vae or whisper; 1.6 and 1.5 include vae and whisper."`
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
	for _, p := range paths {
		if err := printPath(c, "print the path", p); err != nil {
			return err
		}
	}
	return nil
}

type modelsPrepareCmd struct {
	Path  string `arg:"" optional:"" help:"Checkpoint or models folder. Default: the models folder."`
	DType string `name:"dtype" enum:"f16,bf16" default:"f16" placeholder:"f16|bf16" help:"Type to convert to."`
	Force bool   `help:"Convert again even if a converted file exists."`
}

// dtypes lists the values of --dtype.
var dtypes = map[string]tensor.DType{"f32": tensor.F32, "f16": tensor.F16, "bf16": tensor.BF16}

// Run implements lipstream models prepare. In a folder, it converts the UNet and the
// VAE. It prints the paths of the converted files on standard output.
func (m *modelsPrepareCmd) Run(ctx context.Context, c *console) error {
	path, err := modelsDir(m.Path)
	if err != nil {
		return err
	}
	files := []string{path}
	if st, err := os.Stat(path); m.Path == "" || err == nil && st.IsDir() {
		set, err := models.Find(path)
		if err != nil && (set.UNet == "" || set.VAE == "") { // Whisper is not converted
			return err
		}
		files = []string{set.UNet, set.VAE}
	}
	bar := newByteBar(c)
	defer bar.clear()
	for _, f := range files {
		out, err := models.PrepareWith(ctx, f, dtypes[m.DType], models.PrepareOptions{
			Force:    m.Force,
			Progress: func(done, total int64) { bar.show(filepath.Base(f), done, total) },
			Notify:   bar.say,
		})
		bar.clear()
		if err != nil {
			return err
		}
		if err := printPath(c, "print the path", out); err != nil {
			return err
		}
	}
	return nil
}

type modelsSynthCmd struct {
	Size       string `required:"" enum:"tiny,full" placeholder:"tiny|full" help:"tiny (17 MB) or full (5.4 GB, the size of the published checkpoints)."`
	Dir        string `required:"" placeholder:"FOLDER" help:"Folder to write the checkpoints to."`
	Seed       uint64 `default:"0" placeholder:"N" help:"Seed of the random weights."`
	Resolution int    `default:"256" placeholder:"256|512" help:"Resolution of the checkpoint."`
	DType      string `name:"dtype" enum:"f32,f16" default:"f32" placeholder:"f32|f16" help:"Type of the weights."`
}

// Run implements lipstream models synth. It prints the paths of the files on
// standard output.
func (m *modelsSynthCmd) Run(ctx context.Context, c *console) error {
	bar := newByteBar(c)
	paths, err := models.Synth(ctx, m.Dir, models.SynthOptions{
		Size: m.Size, Seed: m.Seed, Resolution: m.Resolution, DType: dtypes[m.DType],
		Progress: func(done, total int64) { bar.show("random weights", done, total) },
	})
	bar.clear()
	for _, p := range paths {
		if e := printPath(c, "print the path", p); e != nil && err == nil {
			err = e
		}
	}
	return err
}
