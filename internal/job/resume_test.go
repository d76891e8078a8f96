package job

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/journal"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/settings"
)

// named is a backend that has nothing but a name.
type named struct {
	backend.Backend
	version string
}

func (named) Name() string      { return "named" }
func (n named) Version() string { return n.version }

// loaded returns a session that has gone through its load phase, with inputs in
// dir.
func loaded(t *testing.T, dir string) *session {
	t.Helper()
	job := required(settings.Settings{}.WithDefaults())
	for name, path := range map[string]*string{"video.mp4": &job.Video, "voice.wav": &job.Audio} {
		*path = filepath.Join(dir, name)
		if err := os.WriteFile(*path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &session{job: job, model: lip.Model{Name: "engine 1"}, backend: named{version: "1"}, device: backend.Device{ID: "cpu"}, rate: media.Rational{Num: 25, Den: 1}}
}

func identify(t *testing.T, s *session, engine journal.Identity) journal.Identity {
	t.Helper()
	id, err := s.identity(0, engine)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestIdentityOfSettings changes one setting after the other. Only a setting with
// the tag latents:"no" leaves the identity as it is.
func TestIdentityOfSettings(t *testing.T) {
	s := loaded(t, t.TempDir())
	before := identify(t, s, nil)
	given := s.job.Settings
	tagged := 0
	for _, f := range settings.Fields() {
		s.job.Settings = given
		if err := f.Set(&s.job.Settings, "7"); err != nil { // whether it is allowed does not matter
			t.Fatal(err)
		}
		if changed := !maps.Equal(before, identify(t, s, nil)); changed != f.Latents {
			t.Errorf("%s: latents depend on it: %v, the identity changes: %v", f.Name, f.Latents, changed)
		}
		if !f.Latents {
			tagged++
		}
	}
	for _, name := range []string{"codec", "crf", "memory_limit", "windows", "resume"} {
		if field(t, name).Latents {
			t.Errorf("latents depend on %s", name)
		}
	}
	if total := len(settings.Fields()); tagged == 0 || tagged == total {
		t.Errorf("%d of %d settings have the tag", tagged, total)
	}
}

func TestIdentityOfSession(t *testing.T) {
	s := loaded(t, t.TempDir())
	before := identify(t, s, nil)
	if !maps.Equal(before, identify(t, s, nil)) {
		t.Error("the identity of the same session changed")
	}
	write := func(path string) {
		if err := os.WriteFile(path, []byte("another size"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		change func(*session)
	}{
		{"engine", func(s *session) { s.model.Name = "engine 2" }},
		{"device", func(s *session) { s.device.ID = "gpu:0" }},
		{"backend", func(s *session) { s.backend = named{version: "2"} }},
		{"frame rate", func(s *session) { s.rate.Num = 30 }},
		{"format", func(s *session) { s.format.Width = 640 }},
		{"part", func(s *session) { s.job.Part = &Part{To: 10} }},
		{"video", func(s *session) { write(s.job.Video) }},
		{"voice", func(s *session) { write(s.job.Audio) }},
	} {
		s := loaded(t, t.TempDir())
		before := identify(t, s, nil)
		c.change(s)
		if maps.Equal(before, identify(t, s, nil)) {
			t.Errorf("another %s, the same identity", c.name)
		}
	}
	if id := identify(t, s, journal.Identity{"unet": "file"}); id["unet"] != "file" {
		t.Errorf("without what the engine adds: %v", id)
	}
	s.job.Audio = filepath.Join(t.TempDir(), "missing")
	if _, err := s.identity(0, nil); err == nil {
		t.Error("a file that does not exist has a mark")
	}
}
