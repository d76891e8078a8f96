package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/tensor"
)

// modelsCmd are the commands about checkpoints.
type modelsCmd struct {
	List    modelsListCmd    `cmd:"" help:"List the checkpoints: what is installed where, and what is missing."`
	Check   modelsCheckCmd   `cmd:"" help:"Open checkpoints and tell what they are and whether they are whole."`
	Pull    modelsPullCmd    `cmd:"" help:"Download checkpoints; what broke off is resumed."`
	Prepare modelsPrepareCmd `cmd:"" help:"Convert checkpoints to half precision, for less memory and faster starts."`
	Synth   modelsSynthCmd   `cmd:"" help:"Make random checkpoints, for trying and measuring without the real ones."`
}

// modelsDir is the folder given, or the usual one.
func modelsDir(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	return lipstream.ModelsDir()
}

type modelsPullCmd struct {
	What    string `arg:"" optional:"" default:"1.6" help:"One of: 1.6 (512 pixels), 1.5 (256 pixels), vae, whisper. The versions bring the other two."`
	Dir     string `placeholder:"FOLDER" help:"Models folder; default is LIPSTREAM_MODELS_DIR, or lipstream/models in the user's cache folder."`
	BaseURL string `name:"base-url" placeholder:"URL" env:"LIPSTREAM_MODELS_URL" help:"Download from a mirror with the paths of huggingface.co."`
}

// Run implements lipstream models pull. The files' paths go to standard
// output, what happens to standard error.
func (m *modelsPullCmd) Run(ctx context.Context, c *console) error {
	dir, err := modelsDir(m.Dir)
	if err != nil {
		return err
	}
	bar := newByteBar(c)
	paths, err := models.Pull(ctx, m.What, dir, models.PullOptions{
		BaseURL: m.BaseURL, Token: os.Getenv("HF_TOKEN"), Progress: bar.show, Notify: bar.say,
	})
	bar.close()
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
	Path  string `arg:"" optional:"" help:"Models folder or checkpoint; default is the models folder."`
	DType string `name:"dtype" enum:"f16,bf16" default:"f16" help:"Type to convert to: f16 or bf16."`
	Force bool   `help:"Convert again what is converted already."`
}

// dtypes are the names that the commands know.
var dtypes = map[string]tensor.DType{"f32": tensor.F32, "f16": tensor.F16, "bf16": tensor.BF16}

// Run implements lipstream models prepare: of a folder, the UNet and the VAE.
// The paths of the converted files go to standard output.
func (m *modelsPrepareCmd) Run(ctx context.Context, c *console) error {
	path, err := modelsDir(m.Path)
	if err != nil {
		return err
	}
	files := []string{path}
	if st, err := os.Stat(path); m.Path == "" || err == nil && st.IsDir() {
		set, err := models.Find(path)
		if err != nil && (set.UNet == "" || set.VAE == "") { // without Whisper it can be done
			return err
		}
		files = []string{set.UNet, set.VAE}
	}
	bar := newByteBar(c)
	defer bar.close()
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
	Size       string `required:"" enum:"tiny,full" help:"tiny (17 MB) or full (as large as the published ones: 5.4 GB)."`
	Dir        string `required:"" placeholder:"FOLDER" help:"Folder to write them into."`
	Seed       uint64 `default:"0" help:"Seed of the weights."`
	Resolution int    `default:"256" help:"Resolution that they are made for: 256 or 512."`
	DType      string `name:"dtype" enum:"f32,f16" default:"f32" help:"Type of the weights: f32 or f16."`
}

// Run implements lipstream models synth. The files' paths go to standard
// output.
func (m *modelsSynthCmd) Run(ctx context.Context, c *console) error {
	bar := newByteBar(c)
	paths, err := models.Synth(ctx, m.Dir, models.SynthOptions{
		Size: m.Size, Seed: m.Seed, Resolution: m.Resolution, DType: dtypes[m.DType],
		Progress: func(done, total int64) { bar.show("random weights", done, total) },
	})
	bar.close()
	for _, p := range paths {
		if e := printPath(c, "print the path", p); e != nil && err == nil {
			err = e
		}
	}
	return err
}
