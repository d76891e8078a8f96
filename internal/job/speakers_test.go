package job

import (
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/pipeline"
	"github.com/lipstream/lipstream/internal/settings"
)

func TestSpeakers(t *testing.T) {
	two := []Speaker{{"left", "a"}, {"right", "b"}}
	for _, c := range []struct {
		name string
		job  Job
		want string // part of the error; "" for none
	}{
		{"two", Job{Speakers: two}, ""},
		{"and a soundtrack", Job{Speakers: two, Soundtrack: "s"}, ""},
		{"and an audio", Job{Speakers: two, Audio: "a"}, "`audio`: a cannot be set together with `speakers`"},
		{"and a face", Job{Speakers: two, Settings: settings.Settings{Face: "2"}}, "`face`: 2 cannot be set together"},
		{"and the default face", Job{Speakers: two, Settings: settings.Settings{Face: "largest"}}, ""},
		{"one face", Job{Speakers: []Speaker{{"left", "a"}, {"left", "b"}}}, "`speakers`: left is the face of two speakers"},
		{"one face, counted", Job{Speakers: []Speaker{{"1", "a"}, {"left", "b"}}}, "`speakers`: left is the face of two speakers"},
		{"no face", Job{Speakers: []Speaker{{"left", "a"}, {"", "b"}}}, "`speakers`: =b is not a face and a voice"},
		{"no voice", Job{Speakers: []Speaker{{"left", ""}}}, "`speakers`: left= is not a face and a voice"},
		{"wrong face", Job{Speakers: []Speaker{{"left", "a"}, {"0", "b"}}}, "`speakers`: 0 is not a choice of face"},
		{"too many", Job{Speakers: make([]Speaker, MaxSpeakers+1)}, "`speakers`: 7 is too many: a job can have at most 6 speakers"},
	} {
		c.job.Video, c.job.Output = "v", "o.mp4"
		_, err := c.job.complete()
		if c.want == "" && err != nil || c.want != "" && (fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	j, err := Job{Video: "v", Output: "o.mp4", Speakers: []Speaker{{"right", "b"}}}.complete()
	if err != nil || j.Face != "right" || j.Audio != "b" || j.Speakers != nil {
		t.Errorf("one speaker: %+v, %v", j, err)
	}
}

func TestSpeakerReports(t *testing.T) {
	j := Job{Video: "v", Speakers: []Speaker{{"left", "a"}, {"right", "b"}}}
	stats := pipeline.Stats{Frames: 10}
	stats.Absent[1] = 4
	got := j.speakerReports(stats)
	if len(got) != 2 || got[0] != (SpeakerReport{"left", 10, 0}) || got[1] != (SpeakerReport{"right", 6, 4}) {
		t.Errorf("%+v", got)
	}
	if err := j.CheckSeen(got); err != nil {
		t.Error(err)
	}
	stats.Absent[1] = 10
	if err := j.CheckSeen(j.speakerReports(stats)); fault.KindOf(err) != fault.NoFace || !strings.Contains(err.Error(), `"right"`) {
		t.Error(err)
	}
	if (Job{Audio: "a"}).speakerReports(stats) != nil {
		t.Error("a job without speakers reports some")
	}
}
