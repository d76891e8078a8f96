package job

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"strconv"

	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/settings"
)

// encode settles how the output is encoded.
func (s *session) encode(ctx context.Context) error {
	if err := s.video.CheckAlpha(ctx, s.tools); err != nil {
		return err
	}
	e, warnings, err := media.Choose(ctx, s.tools, s.video, s.job.Output, s.job.Codec)
	s.format, s.codec, s.notes = e.Format, e.Codec, append(s.notes, warnings...)
	return err
}

func (s *session) videoOptions() media.VideoOptions {
	return media.VideoOptions{Format: s.format, Rate: s.rate, Start: s.job.Start.Duration(), End: s.job.end(), Deinterlace: s.deinterlace}
}

// interlacing returns what is done with the fields of the video.
func (s *session) interlacing() media.Deinterlace {
	v, fields := s.video.Video, "top"
	if v.Fields() == media.FieldsBottom {
		fields = "bottom"
	}
	d := media.DeinterlaceFor(v, s.job.Deinterlace)
	if w := media.FieldsWarning(v, d, s.job.Output, s.codec); w != "" {
		s.notes = append(s.notes, s.job.Video+": "+w)
	}
	if d == media.MarkedOnly {
		s.notes = append(s.notes, fmt.Sprintf("%s: it is interlaced, %s field first, and is deinterlaced to %s frames a second; to keep the fields, set `deinterlace` to no",
			s.job.Video, fields, strconv.FormatFloat(math.Round(1000*s.rate.Float())/1000, 'f', -1, 64)))
	}
	return d
}

// extras returns what goes into the output beside the frames.
func (s *session) extras() *media.Extras {
	if s.video.Video.IsPicture {
		return nil
	}
	keep := s.job.KeepTracks
	e := &media.Extras{From: s.video, Start: s.rate.Time(s.rate.Frame(s.job.Start.Duration())), End: s.job.end(), Voice: -1,
		Audio: keep == settings.TracksAudio || keep == settings.TracksAll, Subtitles: keep == settings.TracksSubtitles || keep == settings.TracksAll}
	if sound := s.sound(); len(sound) == 1 {
		if a, err := os.Stat(sound[0].Path); err == nil {
			if v, err := os.Stat(s.job.Video); err == nil && os.SameFile(a, v) {
				e.Voice = sound[0].DefaultAudio()
			}
		}
	}
	return e
}

// sinkOptions says how the output is written.
func (s *session) sinkOptions() media.SinkOptions {
	job := s.job
	o := media.SinkOptions{
		Format: s.format, Rate: s.rate, SampleAspect: s.video.Video.SampleAspect,
		Tags: media.WorkingTags(*s.video.Video, s.format), HDR: s.video.Video.HDR, Extras: s.extras(),
		Duration: s.rate.Time(cmp.Or(s.expected, s.atLeast)), // the sink corrects it
		Codec:    s.codec, Preset: job.Preset,
		Overwrite: job.Overwrite, Inputs: s.inputs(),
		// Viewers have a right to know that the mouth was generated.
		Metadata: map[string]string{"comment": fmt.Sprintf("lip-synced by Lipstream %s, engine %s, seed %d%s", Version(), s.model.Name, *job.Seed, s.restoredWith())},
	}
	if s.setSound(&o); job.Part != nil {
		o.Audio, o.Mix, o.Duration, o.Extras = nil, nil, 0, nil // Join adds them
	}
	if s.deinterlace == media.KeepFields {
		o.Fields = s.video.Video.Fields()
	}
	if job.CRF != nil {
		o.CRF, o.Lossless = *job.CRF, *job.CRF == 0
	}
	return o
}
