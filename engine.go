package lipstream

import (
	"context"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/latentsync"
	"github.com/lipstream/lipstream/internal/models"
)

// ModelsDir is where checkpoints are looked for: LIPSTREAM_MODELS_DIR, or
// lipstream/models in the user's cache folder.
func ModelsDir() (string, error) {
	if dir := os.Getenv("LIPSTREAM_MODELS_DIR"); dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fault.Missing.Wrap("find the models folder", err, "set LIPSTREAM_MODELS_DIR")
	}
	return filepath.Join(cache, "lipstream", "models"), nil
}

// choice is the engine of a job.
type choice struct {
	name string // as the result's metadata has it
	why  string
	// latentsync holds that engine's options; nil for the preview.
	latentsync *latentsync.Options
}

// chooseEngine settles the job's engine and says why.
func chooseEngine(ctx context.Context, job Job) (choice, error) {
	why := "as asked"
	switch {
	case job.Engine == EnginePreview:
		return choice{name: EnginePreview, why: why}, nil
	case job.Engine == EngineAuto:
		dir, err := job.modelsDir()
		if err != nil {
			return choice{name: EnginePreview, why: "there is no folder to look for checkpoints in"}, nil
		}
		if !models.Installed(dir) {
			return choice{name: EnginePreview, why: "there is no LatentSync checkpoint in " + dir}, nil
		}
		why = "its checkpoint is in " + dir
	}
	o, err := job.options()
	if err != nil {
		return choice{}, err
	}
	if err := job.checkpoints(ctx, &o); err != nil {
		return choice{}, err
	}
	return choice{name: o.Name(), why: why, latentsync: &o}, nil
}

// Version of Lipstream, as built.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
