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

	Models     string  `group:"LatentSync" placeholder:"FOLDER" help:"Where the checkpoints are. Default: see lipstream models list."`
	Resolution *int    `group:"LatentSync" placeholder:"256|512" help:"Pixels of the generated face: 256 for LatentSync 1.5, 512 for 1.6. Default: what the checkpoint was made for."`
	Steps      int     `group:"LatentSync" default:"20" placeholder:"N" help:"Denoising steps, 1 to 100. Default: 20."`
	Sampler    string  `group:"LatentSync" default:"ddim" placeholder:"ddim|dpm++" help:"DDIM, or DPM-Solver++ 2M, which needs fewer steps."`
	Guidance   float64 `group:"LatentSync" default:"1.5" placeholder:"SCALE" help:"Classifier-free guidance, 1 to 20: more moves the lips more; 1 takes half the time. Default: 1.5."`
	DeepCache  int     `group:"LatentSync" name:"deepcache" default:"3" placeholder:"N" help:"Compute the deep layers every N steps only; 1 is always. Default: 3."`
	Precision  string  `group:"LatentSync" default:"auto" placeholder:"auto|f32|bf16|f16" help:"Of the denoising network; auto is f32 on a CPU, f16 on a GPU. Half precision wants: lipstream models prepare."`
	Device     string  `group:"LatentSync" placeholder:"DEVICE" help:"cpu, gpu:0, cuda:0: see lipstream doctor."`
	Window     int     `group:"LatentSync" default:"16" placeholder:"N" help:"Frames denoised together; fewer take less memory. Default: 16."`
	Overlap    *int    `group:"LatentSync" placeholder:"N" help:"Frames that neighbouring windows share and blend, against seams. Default: 4; the original has 0."`

	WhisperApart bool `group:"LatentSync" help:"As the original: Whisper's windows of 30 s do not overlap."`
	Whole        bool `group:"LatentSync" help:"As the original: paste the whole crop back, not only the mouth with a feathered edge."`
	Noise        bool `group:"LatentSync" help:"As the original: let the network hear what noise there is in silence."`
	IgnoreCuts   bool `group:"LatentSync" help:"As the original: do not start anew at scene cuts."`
	NeedFace     bool `group:"LatentSync" help:"As the original: fail when a frame has no face."`
	Parity       bool `group:"LatentSync" help:"Everything as the original does it, and 25 frames a second."`

	reportFlags
	DryRun    bool `help:"Do everything but the frames: print what the job would do, its memory and its time, from one step tried on this machine."`
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
	resolution := 0
	if r.Resolution != nil {
		resolution = *r.Resolution
	}
	// In a Job, 0 stands for the default.
	for option, zero := range map[string]bool{"--steps": r.Steps == 0, "--guidance": r.Guidance == 0, "--deepcache": r.DeepCache == 0, "--window": r.Window == 0,
		"--resolution": r.Resolution != nil && resolution == 0} {
		if zero {
			return fault.New(fault.Usage, "option", option+" 0", "is out of range", "leave it out for the default; see lipstream run --help")
		}
	}
	job := lipstream.Job{
		Video: r.Video, Audio: r.Audio, Output: r.Output,
		Engine: r.Engine, FPS: r.FPS, Length: r.Length, Face: r.Face,
		Start: time.Duration(r.Start), End: end,
		Codec: r.Codec, CRF: r.CRF, Preset: r.Preset, Overwrite: r.Overwrite,
		Seed: r.Seed, Backend: r.Backend, Threads: r.Threads,
		LatentSync: lipstream.LatentSync{
			Models: r.Models, Resolution: resolution, Precision: r.Precision, Device: r.Device,
			Sampler: r.Sampler, Steps: r.Steps, Guidance: r.Guidance, DeepCache: r.DeepCache,
			Window: r.Window, Overlap: r.Overlap,
			WhisperApart: r.WhisperApart, Whole: r.Whole, Noise: r.Noise, IgnoreCuts: r.IgnoreCuts, NeedFace: r.NeedFace,
			Parity: r.Parity,
		},
	}
	if err := r.check(r.DryRun, r.Video, r.Audio); err != nil {
		return err
	}
	if r.DryRun {
		return r.dryRun(ctx, c, job)
	}
	kind, w := chooseReporter(c, r.JSON, r.Quiet)
	// Who asked for events and no longer reads them is gone: a job for nobody
	// ends.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	progress := newReporter(kind, w, reporterOptions{Lost: cancel})
	result, err := lipstream.Run(ctx, job, progress)
	if closeErr := progress.Close(); closeErr != nil {
		err = fault.Wrap(fault.Output, "print events", "", closeErr, "")
	}
	if err == nil && !r.JSON && !r.Quiet {
		printReport(c.Err, result.Report)
	}
	// What the job failed of says more than that its report was not written.
	if reportErr := r.write(result.Report); err == nil {
		err = reportErr
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
