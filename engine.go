package lipstream

import (
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/lipstream/lipstream/internal/fault"
)

// checkpointFile is the LatentSync UNet's place in the models folder.
const checkpointFile = "latentsync_unet.pt"

// ModelsDir is where checkpoints are looked for: LIPSTREAM_MODELS_DIR, or
// lipstream/models in the user's cache folder.
func ModelsDir() (string, error) {
	if dir := os.Getenv("LIPSTREAM_MODELS_DIR"); dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fault.Wrap(fault.Missing, "find the models folder", "", err, "set LIPSTREAM_MODELS_DIR")
	}
	return filepath.Join(cache, "lipstream", "models"), nil
}

// chooseEngine settles the job's engine and says why.
func chooseEngine(job Job) (engine, why string, err error) {
	switch job.Engine {
	case EnginePreview:
		return EnginePreview, "as asked", nil
	case EngineLatentSync:
		return "", "", fault.New(fault.Missing, "choose engine", EngineLatentSync,
			"this version of Lipstream cannot run LatentSync checkpoints yet", "use --engine preview, which needs no checkpoint")
	}
	dir, err := ModelsDir()
	if err != nil {
		return EnginePreview, "there is no folder to look for checkpoints in", nil
	}
	if _, err := os.Stat(filepath.Join(dir, checkpointFile)); err == nil {
		return EnginePreview, "this version cannot run the LatentSync checkpoint in " + dir + " yet", nil
	}
	return EnginePreview, "there is no LatentSync checkpoint in " + dir, nil
}

// Version of Lipstream, as built.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
