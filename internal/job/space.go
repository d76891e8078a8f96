package job

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/journal"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/settings"
)

// DiskUse says how much a job writes into a folder.
type DiskUse struct {
	What   string `json:"what"` // "journal", "voice" or "output"
	Folder string `json:"folder"`
	Bytes  int64  `json:"bytes"` // at most; of the output, about
	Free   int64  `json:"free"`  // on the disk of the folder; -1 if that is unknown

	volume string
}

// diskUse returns what the job will write, according to the headers. What an interrupted
// run has written into the journal does not count.
func (s *session) diskUse() ([]DiskUse, error) {
	heard, speakers := 0.0, int64(len(s.audio))
	voice := int64(0)
	for _, a := range s.audio {
		d := a.Duration.Seconds()
		heard = max(heard, d)
		voice += int64(d * audio.SampleRate * 2)
	}
	s.measure(framesOf(heard, s.rate))
	frames := max(0, s.job.part().length(max(s.expected, s.atLeast)))
	list := []DiskUse{{What: "output", Folder: filepath.Dir(s.job.Output), Bytes: frames * media.FrameSize(s.codec, s.format, s.job.CRF)}}
	if s.model.Needs.Mel {
		list = append(list, DiskUse{What: "voice", Folder: os.TempDir(), Bytes: voice})
	}
	if s.model.FrameLatents > 0 && s.job.Resume != settings.ResumeNever {
		dir, err := JobsDir()
		if err != nil {
			return nil, err
		}
		most := speakers * frames * journal.FrameSize(s.model.FrameLatents, s.model.Window, s.model.Overlap)
		for i := range s.audio {
			key, err := s.journalKey(i)
			if err != nil {
				return nil, err
			}
			most -= journal.Size(dir, key)
		}
		list = append(list, DiskUse{What: "journal", Folder: dir, Bytes: max(0, most)})
	}
	for i := range list {
		u := &list[i]
		u.Free = -1
		at, err := disk.Existing(u.Folder)
		if err == nil {
			u.volume, err = disk.Volume(at)
		}
		if err != nil {
			continue
		}
		if n, err := disk.Free(at); err == nil {
			u.Free = n
		}
	}
	return list, nil
}

// checkSpace returns an error if the journal and the voice do not fit on their disk. It
// warns if the output, whose size is less certain, does not fit beside them.
func (s *session) checkSpace() error {
	all, err := s.diskUse()
	if err != nil {
		return err
	}
	s.disk = all
	w, err := shortOf(all, s.job.Output)
	if w != "" {
		s.notes = append(s.notes, w)
	}
	if err != nil && s.dry {
		s.notes, err = append(s.notes, err.Error()+hint(err)), nil
	}
	return err
}

// shortOf returns an error if a disk has too little space for what a job surely writes,
// or a warning if it may have too little.
func shortOf(all []DiskUse, output string) (warning string, err error) {
	for _, first := range all {
		var parts []string
		var needed, sure int64
		var journals bool
		for _, u := range all {
			if u.volume != first.volume || u.Free < 0 {
				continue
			}
			needed += u.Bytes
			parts = append(parts, fmt.Sprintf("%s %s in %s", u.What, memory.Size(u.Bytes), u.Folder))
			if u.What != "output" {
				sure += u.Bytes
			}
			journals = journals || u.What == "journal"
		}
		if first.Free < 0 || needed <= first.Free {
			continue
		}
		cause := fmt.Sprintf("about %s are needed, but %s are free (%s)", memory.Size(needed), memory.Size(first.Free), strings.Join(parts, ", "))
		if sure <= first.Free {
			warning = "the disk may become full while " + output + " is made: " + cause
			continue
		}
		hint := "free some space, or set " + disk.TempVariable + " to a folder with room"
		if journals {
			hint = "free some space, set LIPSTREAM_JOBS_DIR to a folder with room, or set `resume` to never to work without a journal"
		}
		return "", fault.Output.New("make "+output, cause, hint)
	}
	return warning, nil
}

// checkJoining returns an error if the output cannot contain its parts.
func (s *session) checkJoining(parts []string) error {
	use := DiskUse{What: "parts", Folder: filepath.Dir(s.job.Output), Free: -1}
	for _, p := range parts {
		if st, err := os.Stat(p); err == nil {
			use.Bytes += st.Size()
		}
	}
	if n, err := disk.Free(use.Folder); err == nil {
		use.Free = n
	}
	_, err := shortOf([]DiskUse{use}, s.job.Output)
	return err
}
