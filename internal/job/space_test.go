package job

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/journal"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/settings"
)

func TestShortOf(t *testing.T) {
	const gib = 1 << 30
	use := func(what, volume string, bytes, free int64) DiskUse {
		return DiskUse{What: what, Folder: "/" + volume, Bytes: bytes, Free: free, volume: volume}
	}
	for _, c := range []struct {
		name string
		all  []DiskUse
		warn string
		err  string
		hint string
	}{
		{"enough", []DiskUse{use("output", "a", gib, 3*gib), use("journal", "a", gib, 3*gib)}, "", "", ""},
		{"unknown", []DiskUse{use("output", "", gib, -1), use("journal", "", gib, -1)}, "", "", ""},
		{"journal", []DiskUse{use("output", "a", gib, 3*gib), use("journal", "b", 2*gib, gib)}, "", "about 2.0 GiB are needed, but 1.0 GiB are free (journal 2.0 GiB in /b)", "LIPSTREAM_JOBS_DIR"},
		{"together", []DiskUse{use("journal", "a", gib, gib), use("voice", "a", gib, gib)}, "", "about 2.0 GiB are needed", "`resume`"},
		{"voice", []DiskUse{use("voice", "a", gib, 0)}, "", "voice 1.0 GiB", disk.TempVariable},
		{"output may not fit", []DiskUse{use("output", "a", 2*gib, 2*gib), use("journal", "a", gib, 2*gib)}, "may become full", "", ""},
		{"parts", []DiskUse{use("parts", "", 2*gib, gib)}, "", "parts 2.0 GiB", "free some space"},
	} {
		warn, err := shortOf(c.all, "out.mp4")
		if c.warn == "" && warn != "" || !strings.Contains(warn, c.warn) {
			t.Errorf("%s: warning %q", c.name, warn)
		}
		if c.err == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err == nil || fault.KindOf(err) != fault.Output || !strings.Contains(err.Error(), c.err) || !strings.Contains(fault.HintOf(err), c.hint) {
			t.Errorf("%s: %v, hint %q", c.name, err, fault.HintOf(err))
		}
	}
}

// TestDiskUse checks what a job of an hour with two speakers writes, alone and when an
// interrupted run has left a journal.
func TestDiskUse(t *testing.T) {
	jobs := t.TempDir()
	t.Setenv("LIPSTREAM_JOBS_DIR", jobs)
	s := loaded(t, t.TempDir())
	s.codec, s.format = "h264", frame.Format{Width: 640, Height: 480, ShiftX: 1, ShiftY: 1, Depth: 8}
	s.job.Output = filepath.Join(t.TempDir(), "missing", "out.mp4")
	s.model = lip.Model{FrameLatents: 4 * 32 * 32, Window: 16, Overlap: 4, Needs: audio.Needs{Mel: true}}
	s.video = &media.Info{Video: &media.VideoInfo{Duration: time.Minute}}
	s.audio = []*media.Info{{Duration: time.Hour}, {Duration: time.Minute}}
	const frames = 3600 * 25
	use := func() map[string]DiskUse {
		t.Helper()
		list, err := s.diskUse()
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]DiskUse{}
		for _, u := range list {
			all[u.What] = u
			if u.Free < 0 || u.volume == "" {
				t.Errorf("%+v: free space unknown", u)
			}
		}
		return all
	}
	all := use()
	if want := frames * media.FrameSize("h264", s.format, nil); all["output"].Bytes != want {
		t.Errorf("output: %d bytes, want %d", all["output"].Bytes, want)
	}
	if got := all["voice"].Bytes; got != 3660*32000 {
		t.Errorf("voice: %d bytes", got)
	}
	most := 2 * frames * journal.FrameSize(4096, 16, 4)
	if got := all["journal"]; got.Bytes != most || got.Folder != jobs {
		t.Errorf("journal: %+v, want %d bytes", got, most)
	}

	key, err := s.journalKey(1)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(jobs, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	written := journal.Size(jobs, key)
	if got := use()["journal"].Bytes; written == 0 || got != most-written {
		t.Errorf("with %d bytes written, the journal needs %d, want %d", written, got, most-written)
	}
	s.job.Resume = settings.ResumeNever
	if got, ok := use()["journal"]; ok {
		t.Errorf("without a journal: %+v", got)
	}
}

func TestCheckJoining(t *testing.T) {
	s := loaded(t, t.TempDir())
	dir := t.TempDir()
	s.job.Output = filepath.Join(dir, "out.mp4")
	part := filepath.Join(dir, "part.mkv")
	if err := os.WriteFile(part, []byte("part"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.checkJoining([]string{part}); err != nil {
		t.Error(err)
	}
	free, err := disk.Free(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(part, free/2+1<<20); err != nil { // takes no space
		t.Skip(err)
	}
	if err := s.checkJoining([]string{part, part, part}); fault.KindOf(err) != fault.Output {
		t.Errorf("parts of 1.5 times the free space: %v", err)
	}
}
