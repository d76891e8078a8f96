package lipstream

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/journal"
	"github.com/lipstream/lipstream/internal/latentsync"
)

// keptFor is how long the work of an interrupted job is kept that nobody goes on
// with.
const keptFor = 14 * 24 * time.Hour

// JobsDir is where the work of interrupted jobs is kept: LIPSTREAM_JOBS_DIR, or
// lipstream/jobs in the user's cache folder.
func JobsDir() (string, error) {
	if dir := os.Getenv("LIPSTREAM_JOBS_DIR"); dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fault.Missing.Wrap("find the folder of interrupted jobs", err, "set LIPSTREAM_JOBS_DIR")
	}
	return filepath.Join(cache, "lipstream", "jobs"), nil
}

// resume opens the journal of the job, which an interrupted run may have left;
// nil where none is wanted.
func (n *networks) resume(job Job, in *inputs, o latentsync.Options, r *reporter) (*journal.Journal, error) {
	if job.Resume == ResumeNever {
		return nil, nil
	}
	dir, err := JobsDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.Output.Wrap("make the folder "+dir, fault.WithoutPath(err), "set LIPSTREAM_JOBS_DIR to a folder that can be written")
	}
	_ = journal.Sweep(dir, keptFor) // what it cannot remove now it will another time
	output, err := filepath.Abs(job.Output)
	if err != nil {
		return nil, fault.Output.Wrap("find "+job.Output, err)
	}
	identity, err := n.identity(job, in, o)
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256([]byte(output))
	if n.journal, err = journal.Open(dir, hex.EncodeToString(key[:16]), identity); err != nil {
		return nil, err
	}
	switch fresh := n.journal.Fresh(); fresh {
	case "":
		r.warn("goes on with what an interrupted run has left; --resume never begins anew")
	case "none":
	default:
		r.warn("what an interrupted run has left is of no use: " + fresh)
	}
	return n.journal, nil
}

// identity is all that the latents of a job's windows depend on.
func (n *networks) identity(job Job, in *inputs, o latentsync.Options) (journal.Identity, error) {
	id := journal.Identity{
		"lipstream": Version(), "engine": o.Name(), "backend": n.backend.Name() + " " + n.backend.Version(), "device": o.Device,
		"rate": fmt.Sprint(in.rate), "format": fmt.Sprint(in.format),
		"part": fmt.Sprint(job.Start, job.End, job.Part.string()), "length": job.Length, "face": job.Face, "threads": fmt.Sprint(job.Threads),
		"options": fmt.Sprint(o.Resolution, o.Sampler, o.Steps, o.Guidance, o.DeepCache, o.Seed, o.Overlap, o.WhisperOverlap,
			o.Speech != nil, o.Silence, o.Whole, o.Short, o.IgnoreCuts, o.NeedFace, o.Sample),
		// What the job may change by itself is in the journal, window by window;
		// what the user has set is not changed.
		"plan": fmt.Sprint(job.LatentSync.FramesPerWindow, job.LatentSync.Profile, o.Plan.Precision, job.LatentSync.VAETile, job.LatentSync.AttentionSlices),
	}
	for name, path := range map[string]string{"video": job.Video, "audio": job.Audio, "unet": o.Files.UNet, "vae": o.Files.VAE, "whisper": o.Files.Whisper} {
		st, err := os.Stat(path)
		if err != nil {
			return nil, fault.Input.Wrap("look at "+path, fault.WithoutPath(err))
		}
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, fault.Input.Wrap("look at "+path, err)
		}
		id[name] = fmt.Sprint(abs, st.Size(), st.ModTime().UTC())
	}
	return id, nil
}
