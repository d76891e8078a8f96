package lipstream

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/memory"
)

// The engines by name. EngineAuto takes LatentSync where it can run, else the
// preview.
const (
	EngineAuto       = "auto"
	EnginePreview    = "preview"
	EngineLatentSync = "latentsync"
)

// What happens when video and audio differ in length. A picture always lasts
// as long as the audio.
const (
	LengthPad      = "pad"      // the longer one counts: the last frame is held, or silence follows
	LengthLoop     = "loop"     // the audio counts: the video starts again, or is cut
	LengthPingPong = "pingpong" // the audio counts: the video runs back and forth, or is cut
	LengthShortest = "shortest" // the shorter one counts
)

// What becomes of an interrupted job's work.
const (
	ResumeAuto  = "auto"  // the same job goes on with it
	ResumeNever = "never" // it is thrown away, and none is kept
)

// Job says what to make. Video, Audio and Output are required; the zero value
// of everything else is the default.
type Job struct {
	Video  string // a video or picture (PNG, JPEG, WebP) that ffmpeg reads
	Audio  string // the voice: any audio, or a video with sound
	Output string // .mp4, .mov, .mkv or .webm

	Engine string // EngineAuto, EnginePreview or EngineLatentSync
	FPS    string // output frame rate, "25" or "30000/1001"; default: the source's, 25 for a picture
	Length string // LengthPad, LengthLoop, LengthPingPong or LengthShortest
	Face   string // largest (default), center, left, right, or a number counted from the left, from 1
	// Start and End cut the video and, with it, the time of the output; the
	// audio starts at its own beginning. End 0 is the video's end.
	Start, End time.Duration

	Codec     string // h264, hevc, vp9, av1, prores, ffv1; default by the output's name
	CRF       *int   // constant rate factor, 0 (lossless) to 51, or 63 for vp9 and av1; default by codec; prores and ffv1 have none
	Preset    string // x264's names, ultrafast to veryslow, for all codecs that have one; default veryfast
	Overwrite bool   // replace an existing output

	// MemoryLimit is the most that the job may use, in bytes, this process and
	// its children together; at least 100 MiB; 0 is what the machine and its
	// control group have left. What files stand behind does not count: the
	// system takes it back at need.
	MemoryLimit int64
	// MemoryWarning and MemoryAlert are the shares ("75%") or amounts ("18GB") of
	// a memory (GPU, host, control group) in use from which alerts are raised;
	// default 62.5 % and 75 %. At an alert of the GPU that it computes on, or
	// beyond its own limit, a LatentSync job goes on with less memory.
	MemoryWarning, MemoryAlert string
	// Resume is ResumeAuto (default), which goes on where the same job was
	// interrupted, or ResumeNever.
	Resume string

	LatentSync LatentSync // what only that engine looks at

	// Part makes only some frames of the output, without sound; nil: all.
	Part   *Part
	Limits Limits // of the inputs
	// Frame, if it is not nil, is shown finished frames, at most one a second,
	// from a goroutine of the job, which waits for it.
	Frame func(Picture) `json:"-"`

	Seed    int64  // of the random numbers, any value; the preview engine draws none
	Backend string // auto, openvino or onnxruntime: runs the networks
	Threads int    // CPU threads of the networks; 0 is one for the faces, whose networks are small, and all for LatentSync
}

// Result says what was made.
type Result struct {
	Output   string        `json:"output"`
	Engine   string        `json:"engine"`
	Frames   int64         `json:"frames"`
	NoFace   int64         `json:"no_face"` // passed through unchanged
	Cuts     int64         `json:"cuts"`
	FPS      float64       `json:"fps"` // of the video
	Width    int           `json:"width"`
	Height   int           `json:"height"`
	Duration time.Duration `json:"-"`
	Elapsed  time.Duration `json:"-"`
	// MemoryPeak is the most that this process and its children held, bytes.
	MemoryPeak int64 `json:"memory_peak"`
	// Report tells where time and memory went. Run gives it also with an error,
	// as far as the job came.
	Report *Report `json:"-"`
}

// Check says what is wrong with the options, as far as no file has to be opened.
// Video, Audio and Output may be missing.
func (j Job) Check() error {
	j.Video, j.Audio, j.Output = cmp.Or(j.Video, "video"), cmp.Or(j.Audio, "audio"), cmp.Or(j.Output, "output.mp4")
	_, err := j.withDefaults()
	return err
}

// withDefaults checks what can be checked without opening a file.
func (j Job) withDefaults() (Job, error) {
	usage := func(option, value, cause, hint string) error {
		return fault.Usage.New("option "+strings.TrimSpace(option+" "+value), cause, hint)
	}
	for _, p := range []struct{ option, value string }{{"video", j.Video}, {"audio", j.Audio}, {"output", j.Output}} {
		if p.value == "" {
			return j, usage("--"+p.option, "", "is required", "see lipstream run --help")
		}
	}
	if j.LatentSync.Parity {
		j.FPS, j.Length = cmp.Or(j.FPS, "25"), LengthPingPong
	}
	choose := func(option string, value *string, allowed ...string) error {
		if *value == "" {
			*value = allowed[0]
		}
		if !slices.Contains(allowed, *value) {
			return usage(option, strconv.Quote(*value), "is not known", "choose one of "+strings.Join(allowed, ", "))
		}
		return nil
	}
	if err := errors.Join(
		choose("--engine", &j.Engine, EngineAuto, EnginePreview, EngineLatentSync),
		choose("--length", &j.Length, LengthPad, LengthLoop, LengthPingPong, LengthShortest),
		choose("--resume", &j.Resume, ResumeAuto, ResumeNever),
		choose("--backend", &j.Backend, "auto", "openvino", "onnxruntime"),
	); err != nil {
		return j, err
	}
	switch {
	case j.Start < 0:
		return j, usage("--start", j.Start.String(), "is before the beginning", "times count from 0")
	case j.End < 0:
		return j, usage("--end", j.End.String(), "is before the beginning", "times count from 0")
	case j.End > 0 && j.End <= j.Start:
		return j, usage("--end", j.End.String(), fmt.Sprintf("leaves nothing after --start %v", j.Start), "the end has to come after the start")
	case j.MemoryLimit != 0 && j.MemoryLimit < minLimit:
		return j, usage("--memory-limit", memory.Size(j.MemoryLimit), "is too little for any job", "the least is "+memory.Size(minLimit))
	case j.Threads < 0 || j.Threads > 1024:
		return j, usage("--threads", strconv.Itoa(j.Threads), "is out of range", "0 lets Lipstream choose")
	case j.CRF != nil && (*j.CRF < 0 || *j.CRF > j.worstCRF()):
		return j, usage("--crf", strconv.Itoa(*j.CRF), "is out of range",
			fmt.Sprintf("0 is lossless, 18 looks like the source, %d is worst", j.worstCRF()))
	}
	if _, err := j.options(); err != nil { // whichever engine it will be
		return j, err
	}
	if _, err := face.ParseChoice(j.Face); err != nil {
		return j, err
	}
	if _, err := j.rate(); err != nil {
		return j, err
	}
	return j, nil
}

// worstCRF is the end of the codec's scale. x264 would take more without a
// word and clamp it.
func (j Job) worstCRF() int {
	if j.Codec == "vp9" || j.Codec == "av1" || j.Codec == "" && strings.EqualFold(filepath.Ext(j.Output), ".webm") {
		return 63
	}
	return 51
}

// Frame rates beyond these are mistakes, not wishes.
const minRate, maxRate = 1, 240

// rate parses FPS; the zero Rational when it is empty.
func (j Job) rate() (media.Rational, error) {
	if j.FPS == "" {
		return media.Rational{}, nil
	}
	r := media.ParseRate(j.FPS)
	if !r.Valid() || r.Float() < minRate || r.Float() > maxRate {
		return media.Rational{}, fault.Usage.New("option --fps "+strconv.Quote(j.FPS), fmt.Sprintf("is not a frame rate between %d and %d", minRate, maxRate), "write 25, 29.97 or 30000/1001")
	}
	return r, nil
}
