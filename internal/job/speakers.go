package job

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/journal"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/pipeline"
)

// SpeakerReport says in how many frames the mouth of a speaker was made.
type SpeakerReport struct {
	Face   string `json:"face"`
	Frames int64  `json:"frames"`  // with a usable face
	NoFace int64  `json:"no_face"` // without
}

// speakers returns all faces with their voices, at least one.
func (j Job) speakers() []Speaker {
	if len(j.Speakers) > 0 {
		return j.Speakers
	}
	return []Speaker{{j.Face, j.Audio}}
}

// withSpeakers checks the speakers. A single one is the same as Face and Audio.
func (j Job) withSpeakers() (Job, error) {
	const how = "give each speaker a face and a voice"
	n := len(j.Speakers)
	switch {
	case n == 0:
		return j, nil
	case j.Audio != "":
		return j, fault.Field("audio", j.Audio, "cannot be set together with `speakers`", "give each voice to one of the speakers, or leave them out")
	case j.Face != "" && j.Face != "largest":
		return j, fault.Field("face", j.Face, "cannot be set together with `speakers`", how)
	case n > MaxSpeakers:
		return j, fault.Field("speakers", strconv.Itoa(n), fmt.Sprintf("is too many: a job can have at most %d speakers", MaxSpeakers), "make the video in several runs")
	}
	same := func(f string) string {
		if f == "1" {
			return "left"
		}
		return f
	}
	for i, s := range j.Speakers {
		if s.Face == "" || s.Audio == "" {
			return j, fault.Field("speakers", s.Face+"="+s.Audio, "is not a face and a voice", how)
		}
		if _, err := face.ParseChoice(s.Face); err != nil {
			return j, fault.Field("speakers", s.Face, "is not a choice of face", fault.HintOf(err))
		}
		if slices.ContainsFunc(j.Speakers[:i], func(o Speaker) bool { return same(o.Face) == same(s.Face) }) {
			return j, fault.Field("speakers", s.Face, "is the face of two speakers", "give each speaker another face")
		}
	}
	if n == 1 {
		j.Face, j.Audio, j.Speakers = j.Speakers[0].Face, j.Speakers[0].Audio, nil
	}
	return j, nil
}

// choices returns which faces to follow.
func (j Job) choices() (first face.Choice, others []face.Choice, err error) {
	for i, s := range j.speakers() {
		c, err := face.ParseChoice(s.Face)
		if err != nil {
			return first, nil, err
		}
		if i == 0 {
			first = c
		} else {
			others = append(others, c)
		}
	}
	return first, others, nil
}

// inputs returns the paths of the video, the voices and the soundtrack.
func (j Job) inputs() []string {
	all := []string{j.Video}
	for _, s := range j.speakers() {
		all = append(all, s.Audio)
	}
	if j.Soundtrack != "" {
		all = append(all, j.Soundtrack)
	}
	return all
}

// openEngines opens an engine for each speaker, which share their networks.
func (s *session) openEngines(ctx context.Context, h lip.Host) error {
	var engines []lip.Engine
	for i, v := range s.voices {
		h.Voice = v
		h.Resume = func(id journal.Identity) (*journal.Journal, error) { return s.resume(i, id) }
		e, err := s.model.Open(ctx, h)
		if err != nil {
			return err
		}
		s.onClose(func() { _ = e.Close() })
		if engines = append(engines, e); i == 0 {
			h.Peer = e
		}
	}
	s.engine = lip.Chain(engines...)
	s.onClose(func() { s.r.worked(s.engine) })
	return nil
}

func (s *session) openVoices(needs audio.Needs) error {
	for range s.audio {
		v, err := audio.NewVoice("", needs)
		if err != nil {
			return err
		}
		s.voices = append(s.voices, v)
		s.onClose(func() { _ = v.Close() })
	}
	return nil
}

// hear lets a voice listen to a file.
func (s *session) hear(ctx context.Context, v *audio.Voice, from *media.Info) error {
	src, err := media.OpenAudio(ctx, s.tools, from.Path, from, from.DefaultAudio(), audio.SampleRate)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	return v.Listen(src, from.Path, s.job.Limits.listener(from.Path))
}

// setSound sets what is heard in the result: the soundtrack, or else the voices.
func (s *session) setSound(o *media.SinkOptions) {
	sound := s.sound()
	o.Audio, o.AudioTrack, o.Mix = sound[0], sound[0].DefaultAudio(), sound[1:]
}

// sound returns the files whose mix is the sound of the result.
func (s *session) sound() []*media.Info {
	if s.soundtrack != nil {
		return []*media.Info{s.soundtrack}
	}
	return s.audio
}

// speakerReports returns the counts of each of several speakers.
func (j Job) speakerReports(stats pipeline.Stats) (list []SpeakerReport) {
	for i, s := range j.Speakers {
		list = append(list, SpeakerReport{Face: s.Face, Frames: stats.Frames - stats.Absent[i], NoFace: stats.Absent[i]})
	}
	return list
}

// CheckSeen returns an error if one of several speakers was never seen.
func (j Job) CheckSeen(seen []SpeakerReport) error {
	for _, s := range seen {
		if s.Frames == 0 {
			return fault.NoFace.New(fmt.Sprintf("find the face %q in %s", s.Face, j.Video),
				fmt.Sprintf("it was found in none of the %d frames", s.NoFace),
				"leave this speaker out, or choose another face: fewer people may be visible, or this one is too small or turned away")
		}
	}
	return nil
}
