package job

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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

// resume implements lip.Host.Resume for the engine of a speaker.
func (s *session) resume(speaker int, engine journal.Identity) (*journal.Journal, error) {
	if s.job.Resume == settings.ResumeNever || s.dry {
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
	identity, err := s.identity(speaker, engine)
	if err != nil {
		return nil, err
	}
	key, err := s.journalKey(speaker)
	if err != nil {
		return nil, err
	}
	j, err := journal.Open(dir, key, identity)
	if err != nil {
		return nil, err
	}
	s.journals = append(s.journals, j)
	s.onClose(func() {
		if j.Empty() {
			_ = j.Remove() // there is nothing to continue from
		} else {
			_ = j.Close()
		}
	})
	switch fresh := j.Fresh(); fresh {
	case "":
		s.warnOnce("continues from what an interrupted run left; to start again, set `resume` to never")
	case "none":
	default:
		s.warnOnce("cannot continue from what an interrupted run left: " + fresh)
	}
	return j, nil
}

// journalKey returns the key of a speaker's journal.
func (s *session) journalKey(speaker int) (string, error) {
	output, err := filepath.Abs(s.job.Output)
	if err != nil {
		return "", fault.Output.Wrap("find "+s.job.Output, err)
	}
	if speaker > 0 {
		output += "\x00" + strconv.Itoa(speaker) // no path contains this
	}
	key := sha256.Sum256([]byte(output))
	return hex.EncodeToString(key[:16]), nil
}

// warnOnce reports a warning unless it has been reported for another speaker.
func (s *session) warnOnce(text string) {
	if !slices.Contains(s.warned, text) {
		s.warned = append(s.warned, text)
		s.r.warn(text)
	}
}

// identity returns everything that the latents of a job depend on: the settings
// without the tag latents:"no", what was chosen since, the inputs, and what the
// engine adds. They depend on the faces of other speakers, but not on their voices.
func (s *session) identity(speaker int, engine journal.Identity) (journal.Identity, error) {
	id := journal.Identity{
		"lipstream": Version(), "engine": s.model.Name, "backend": s.backend.Name() + " " + s.backend.Version(), "device": s.device.ID,
		"rate": fmt.Sprint(s.rate), "format": fmt.Sprint(s.format), "part": fmt.Sprint(s.job.part()),
	}
	for name, value := range s.job.Identity() {
		id["setting "+name] = value
	}
	maps.Copy(id, engine)
	all := s.job.speakers()
	if len(all) > 1 {
		id["speaker"] = strconv.Itoa(speaker)
		for i, o := range all {
			id["speaker "+strconv.Itoa(i)] = o.Face
		}
	}
	for name, path := range map[string]string{"video": s.job.Video, "audio": all[speaker].Audio} {
		mark, err := journal.Mark(path)
		if err != nil {
			return nil, err
		}
		id[name] = mark
	}
	return id, nil
}
