// Package job runs a job from beginning to end. A session goes through its
// phases: it probes the inputs, loads the networks, listens to the voice, makes
// the frames, and finishes the output. It owns everything that the job opens.
//
// The root package lipstream is the public face of this one.
package job

import (
	"cmp"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/settings"
)

// Job says what to make. Video, Audio and Output are required; everything else
// has a default.
type Job struct {
	Video  string // path of a video or picture (PNG, JPEG, WebP) of the face
	Audio  string // path of the voice: any audio, or a video with sound
	Output string // path of the result: .mp4, .mov, .mkv, .webm
	// Mask is the path of a picture or a video that says where the video may change:
	// not where it is black, wholly where it is white. "" lets it change everywhere.
	Mask      string `json:",omitempty"`
	Overwrite bool   // replace an existing output

	// Speakers gives several faces of the video a voice each, in place of Audio and
	// Settings.Face. All voices start with the video. The sound of the result is their
	// mix.
	Speakers []Speaker `json:",omitempty"`
	// Soundtrack is the path of the sound of the result, such as the voice with music:
	// the mouth follows the voice, and viewers hear this. "" takes the voice. It is cut,
	// or padded with silence, to the length of the result.
	Soundtrack string `json:",omitempty"`

	settings.Settings

	// Part makes only some frames of the output, without sound; nil makes all.
	Part   *Part
	Limits Limits // of the inputs
	// Frame, if it is not nil, gets a finished frame at most once a second. It is
	// called from a goroutine of the job, which waits for it.
	Frame func(Picture) `json:"-"`
}

// Speaker is a face with a voice of its own.
type Speaker struct {
	Face  string `json:"face"`  // which face, as in Settings.Face
	Audio string `json:"audio"` // path of the voice
}

// MaxSpeakers is the most speakers that a job may have.
const MaxSpeakers = face.MaxPeople

// Result says what was made.
type Result struct {
	Output string  `json:"output"`
	Engine string  `json:"engine"`
	Frames int64   `json:"frames"`
	NoFace int64   `json:"no_face"` // frames passed through unchanged
	Cuts   int64   `json:"cuts"`    // scene cuts
	FPS    float64 `json:"fps"`     // of the video
	Width  int     `json:"width"`
	Height int     `json:"height"`
	// Speakers says how many frames show each of several speakers.
	Speakers []SpeakerReport `json:"speakers,omitempty"`
	Duration time.Duration   `json:"-"`
	Elapsed  time.Duration   `json:"-"`
	// MemoryPeak is the most memory that this process and its children held, bytes.
	MemoryPeak int64 `json:"memory_peak"`
	// Report says where time and memory went. After an error it covers what was done
	// before.
	Report *Report `json:"-"`
}

// Check returns an error if the settings are wrong, as far as that is known without
// opening a file. Video, Audio and Output may be missing.
func (j Job) Check() error {
	j.Video, j.Output = cmp.Or(j.Video, "video"), cmp.Or(j.Output, "output.mp4")
	if len(j.Speakers) == 0 {
		j.Audio = cmp.Or(j.Audio, "audio")
	}
	_, err := j.complete()
	return err
}

// complete checks what can be checked without opening a file, and returns the
// job with its defaults.
func (j Job) complete() (Job, error) {
	j, err := j.withSpeakers()
	if err != nil {
		return j, err
	}
	for _, p := range []struct{ name, value, what string }{
		{"video", j.Video, "name a video or a picture of the face"}, {"audio", j.speakers()[0].Audio, "name the voice"}, {"output", j.Output, "name the file to write"},
	} {
		if p.value == "" {
			return j, fault.Field(p.name, "", "is required", p.what)
		}
	}
	if slices.Contains(strings.Split(j.Parity, ","), settings.ParityAll) {
		j.FPS, j.Length = cmp.Or(j.FPS, "25"), settings.LengthPingPong
	}
	j.Settings = j.Settings.WithDefaults()
	if err := j.Settings.Check(); err != nil {
		return j, err
	}
	switch start, end := j.Start, j.End; {
	case start < 0:
		return j, fault.Field("start", start.String(), "is before the beginning of the video", "times count from 0")
	case end != nil && *end <= start:
		return j, fault.Field("end", end.String(), fmt.Sprintf("leaves nothing after the start at %v", start), "choose an `end` after the `start`")
	case j.CRF != nil && *j.CRF > j.worstCRF():
		return j, fault.Field("crf", strconv.Itoa(*j.CRF), "is out of range",
			fmt.Sprintf("0 is lossless, 18 looks like the source, %d is the worst", j.worstCRF()))
	}
	for _, k := range kinds { // the engine is chosen later
		if err := k.Check(j.Settings); err != nil {
			return j, err
		}
	}
	if _, err := face.ParseChoice(j.Face); err != nil {
		return j, err
	}
	if _, _, err := j.thresholds(); err != nil {
		return j, err
	}
	_, err = j.rate()
	return j, err
}

// worstCRF returns the highest value on the codec's scale. x264 accepts higher ones
// and silently uses the highest.
func (j Job) worstCRF() int {
	if j.Codec == "vp9" || j.Codec == "av1" || j.Codec == "" && strings.EqualFold(filepath.Ext(j.Output), ".webm") {
		return 63
	}
	return 51
}

// end returns the time at which the job stops using the video; 0 means the end of
// the video.
func (j Job) end() time.Duration {
	if j.End == nil {
		return 0
	}
	return j.End.Duration()
}

// Frame rates outside this range are mistakes.
const minRate, maxRate = 1, 240

// rate parses FPS; it returns the zero Rational if FPS is empty.
func (j Job) rate() (media.Rational, error) {
	if j.FPS == "" {
		return media.Rational{}, nil
	}
	r := media.ParseRate(j.FPS)
	if !r.Valid() || r.Float() < minRate || r.Float() > maxRate {
		return media.Rational{}, fault.Field("fps", strconv.Quote(j.FPS),
			fmt.Sprintf("is not a frame rate from %d to %d", minRate, maxRate), "write 25, 29.97 or 30000/1001")
	}
	return r, nil
}

// Version returns the version of Lipstream, as built.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
