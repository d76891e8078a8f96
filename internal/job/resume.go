package job

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/journal"
	"github.com/lipstream/lipstream/internal/settings"
)

// keptFor is how long the journal of an interrupted job is kept if nobody
// continues the job.
const keptFor = 14 * 24 * time.Hour

// JobsDir returns the folder with the journals of interrupted jobs:
// LIPSTREAM_JOBS_DIR, or lipstream/jobs in the user's cache folder.
func JobsDir() (string, error) { return disk.UserDir("LIPSTREAM_JOBS_DIR", "jobs") }

// resume implements lip.Host.Resume.
func (s *session) resume(engine journal.Identity) (*journal.Journal, error) {
	if s.job.Resume == settings.ResumeNever {
		return nil, nil
	}
	dir, err := JobsDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.Output.Wrap("make the folder "+dir, fault.WithoutPath(err), "set LIPSTREAM_JOBS_DIR to a folder that can be written")
	}
	_ = journal.Sweep(dir, keptFor) // the next job removes what cannot be removed now
	output, err := filepath.Abs(s.job.Output)
	if err != nil {
		return nil, fault.Output.Wrap("find "+s.job.Output, err)
	}
	identity, err := s.identity(engine)
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256([]byte(output))
	if s.journal, err = journal.Open(dir, hex.EncodeToString(key[:16]), identity); err != nil {
		return nil, err
	}
	s.onClose(func() {
		if s.journal.Empty() {
			_ = s.journal.Remove() // there is nothing to continue from
		} else {
			_ = s.journal.Close()
		}
	})
	switch fresh := s.journal.Fresh(); fresh {
	case "":
		s.r.warn("continues from what an interrupted run left; to start again, set `resume` to never")
	case "none":
	default:
		s.r.warn("cannot continue from what an interrupted run left: " + fresh)
	}
	return s.journal, nil
}

// identity returns everything that the latents of a job depend on: the settings
// without the tag latents:"no", what was chosen since, the inputs, and what the
// engine adds.
func (s *session) identity(engine journal.Identity) (journal.Identity, error) {
	id := journal.Identity{
		"lipstream": Version(), "engine": s.model.Name, "backend": s.backend.Name() + " " + s.backend.Version(), "device": s.device.ID,
		"rate": fmt.Sprint(s.rate), "format": fmt.Sprint(s.format), "part": fmt.Sprint(s.job.part()),
	}
	for name, value := range s.job.Identity() {
		id["setting "+name] = value
	}
	maps.Copy(id, engine)
	for name, path := range map[string]string{"video": s.job.Video, "audio": s.job.Audio} {
		mark, err := journal.Mark(path)
		if err != nil {
			return nil, err
		}
		id[name] = mark
	}
	return id, nil
}
