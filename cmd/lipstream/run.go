package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
)

type runCmd struct {
	Video  string `required:"" placeholder:"FACE" help:"Video or picture (PNG, JPEG, WebP) of the face."`
	Audio  string `required:"" placeholder:"VOICE" help:"The voice: any audio, or a video with sound."`
	Output string `required:"" short:"o" placeholder:"OUT" help:"Result: .mp4, .mov, .mkv or .webm."`

	Engine  string    `default:"auto" placeholder:"auto|preview|latentsync" help:"What makes the mouth; auto takes latentsync where its checkpoint is installed, else preview."`
	FPS     string    `name:"fps" placeholder:"RATE" help:"Output frame rate, such as 25, 29.97 or 30000/1001. Default: the source's; 25 for a picture."`
	Length  string    `default:"pad" placeholder:"pad|loop|pingpong|shortest" help:"When video and audio differ in length: pad the shorter one (last frame, silence), or let the audio count and loop the video or run it back and forth, or stop with the shorter one."`
	Start   timeFlag  `placeholder:"TIME" help:"Use the video from here: seconds, or [H:]M:S."`
	End     *timeFlag `placeholder:"TIME" help:"Use the video up to here."`
	Face    string    `default:"largest" placeholder:"largest|center|left|right|N" help:"Which face speaks; N counts from the left, from 1."`
	Codec   string    `placeholder:"CODEC" help:"h264, hevc, vp9, av1, prores or ffv1. Default: by the output's name."`
	CRF     *int      `name:"crf" placeholder:"N" help:"Constant rate factor: smaller is better, 0 is lossless. Default: 18 for h264."`
	Preset  string    `placeholder:"NAME" help:"Encoder's speed, from ultrafast to veryslow."`
	Seed    int64     `default:"1247" help:"Seed of the random numbers; the preview engine draws none."`
	Backend string    `default:"auto" placeholder:"auto|openvino|onnxruntime" help:"What runs the networks."`
	Threads int       `placeholder:"N" help:"CPU threads of the networks."`

	JSON      bool `name:"json" help:"Print events as JSON lines on standard output."`
	Quiet     bool `short:"q" help:"Print errors only."`
	Overwrite bool `short:"y" help:"Replace an existing output."`
}

// Run implements lipstream run.
func (r *runCmd) Run(ctx context.Context, c *console) error {
	var end time.Duration
	if r.End != nil {
		end = time.Duration(*r.End)
		if end == 0 { // in a Job it stands for the video's end
			return fault.New(fault.Usage, "option", "--end 0", "leaves nothing of the video", "leave it out to use all of the video")
		}
	}
	kind, w := chooseReporter(c, r.JSON, r.Quiet)
	// Who asked for events and no longer reads them is gone: a job for nobody
	// ends.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	progress := newReporter(kind, w, reporterOptions{Lost: cancel})
	_, err := lipstream.Run(ctx, lipstream.Job{
		Video: r.Video, Audio: r.Audio, Output: r.Output,
		Engine: r.Engine, FPS: r.FPS, Length: r.Length, Face: r.Face,
		Start: time.Duration(r.Start), End: end,
		Codec: r.Codec, CRF: r.CRF, Preset: r.Preset, Overwrite: r.Overwrite,
		Seed: r.Seed, Backend: r.Backend, Threads: r.Threads,
	}, progress)
	if closeErr := progress.Close(); closeErr != nil {
		err = fault.Wrap(fault.Output, "print events", "", closeErr, "")
	}
	return err
}

// timeFlag reads "90", "1:30", "0:01:30.5" or "1m30s".
type timeFlag time.Duration

// UnmarshalText implements encoding.TextUnmarshaler for kong.
func (t *timeFlag) UnmarshalText(text []byte) error {
	s := string(text)
	if d, err := time.ParseDuration(s); err == nil {
		*t = timeFlag(d)
		return nil
	}
	parts := strings.Split(s, ":")
	var total float64
	for i, p := range parts {
		v, err := strconv.ParseFloat(p, 64)
		if err != nil || len(parts) > 3 || v != v || v > 1e6 || v < -1e6 || len(parts) > 1 && (v < 0 || i > 0 && v >= 60) {
			return fmt.Errorf("%q is no time: write seconds (90.5), minutes and seconds (1:30.5) or 1m30s", s)
		}
		total = total*60 + v
	}
	*t = timeFlag(math.Round(total * float64(time.Second)))
	return nil
}
