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
	"github.com/lipstream/lipstream/internal/memory"
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

	Models     string   `group:"LatentSync" placeholder:"FOLDER" help:"Where the checkpoints are. Default: see lipstream models list."`
	Resolution *int     `group:"LatentSync" placeholder:"256|512" help:"Pixels of the generated face: 256 for LatentSync 1.5, 512 for 1.6. Default: what the checkpoint was made for."`
	Profile    string   `group:"LatentSync" default:"auto" placeholder:"auto|quality|balanced|speed|lowmem" help:"Sets steps, sampler, guidance, DeepCache, precision, silence and memory, as far as they are not given; docs/memory.md has the table."`
	Steps      *int     `group:"LatentSync" placeholder:"N" help:"Denoising steps, 1 to 100. Default: by profile, 20 with auto."`
	Sampler    string   `group:"LatentSync" placeholder:"ddim|dpm++" help:"DDIM, or DPM-Solver++ 2M, which needs fewer steps. Default: by profile, ddim with auto."`
	Guidance   *float64 `group:"LatentSync" placeholder:"SCALE" help:"Classifier-free guidance, 1 to 20: more moves the lips more; 1 takes half the time. Default: by profile, 1.5 with auto."`
	DeepCache  *int     `group:"LatentSync" name:"deepcache" placeholder:"N" help:"Compute the deep layers every N steps only; 1 is always. Default: by profile, 3 with auto."`
	Silence    string   `group:"LatentSync" placeholder:"speak|hold|pass" help:"In pauses of speech: denoise all the same, hold the mouth, or leave the frames as they are. Default: by profile, speak with auto."`
	Precision  string   `group:"LatentSync" default:"auto" placeholder:"auto|f32|bf16|f16" help:"Of the denoising network; auto is f32 on a CPU, f16 on a GPU. Half precision wants: lipstream models prepare."`
	Device     string   `group:"LatentSync" placeholder:"DEVICE" help:"cpu, gpu:0, cuda:0: see lipstream doctor."`
	Overlap    *int     `group:"LatentSync" placeholder:"N" help:"Frames that neighbouring windows share and blend, against seams. Default: 4; the original has 0."`

	FramesPerWindow *int   `group:"Memory of LatentSync" placeholder:"N" help:"Frames denoised together, to 24. Default: 16, or 8 where memory is short."`
	Windows         *int   `group:"Memory of LatentSync" placeholder:"N" help:"Windows denoised side by side. Default: 4, 2 or 1 by the memory, where it helps."`
	Offload         string `group:"Memory of LatentSync" placeholder:"none|model|sequential" help:"Keep all networks loaded, one at a time, or of the denoising network one part at a time. Default: by the memory."`
	VAEFrames       *int   `group:"Memory of LatentSync" name:"vae-frames" placeholder:"N" help:"Pictures a call of the VAE. Default: 1."`
	VAETile         *int   `group:"Memory of LatentSync" name:"vae-tile" placeholder:"PIXELS" help:"Side of the overlapping tiles that the VAE works in; 0 is whole pictures. Default: by the memory."`
	AttentionSlices *int   `group:"Memory of LatentSync" placeholder:"N" help:"Parts that an attention is computed in. Default: by the memory."`
	ShrinkEvery     *int   `group:"Memory of LatentSync" placeholder:"WINDOWS" help:"The runtime gives unused memory back after so many windows; 0 is never. Default: 2."`
	ReturnEvery     *int   `group:"Memory of LatentSync" placeholder:"WINDOWS" help:"Go and the C library give unused memory back after so many windows; 0 is never. Default: 3."`

	MemoryLimit   sizeFlag `placeholder:"SIZE" help:"The most memory that the job may use, such as 3GB, children included. Default: what is free, under the control group's limit."`
	MemoryWarning string   `placeholder:"SHARE|SIZE" help:"Warn when so much of a memory (GPU, host, control group) is in use. Default: 62.5%, 15 GB of 24."`
	MemoryAlert   string   `placeholder:"SHARE|SIZE" help:"Alert when so much of it is; of a GPU's memory the job then uses less. Default: 75%, 18 GB of 24."`
	Resume        string   `default:"auto" placeholder:"auto|never" help:"Go on where the same job was interrupted, or begin anew."`

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
			return fault.Usage.New("option --end 0", "leaves nothing of the video", "leave it out to use all of the video")
		}
	}
	for option, p := range map[string]*int{"--resolution": r.Resolution, "--steps": r.Steps, "--deepcache": r.DeepCache, "--frames-per-window": r.FramesPerWindow,
		"--windows": r.Windows, "--vae-frames": r.VAEFrames, "--attention-slices": r.AttentionSlices} {
		if p != nil && *p == 0 { // in a Job it stands for the default
			return outOfRange(option)
		}
	}
	if r.Guidance != nil && *r.Guidance == 0 {
		return outOfRange("--guidance")
	}
	job := lipstream.Job{
		Video: r.Video, Audio: r.Audio, Output: r.Output,
		Engine: r.Engine, FPS: r.FPS, Length: r.Length, Face: r.Face,
		Start: time.Duration(r.Start), End: end,
		Codec: r.Codec, CRF: r.CRF, Preset: r.Preset, Overwrite: r.Overwrite,
		Seed: r.Seed, Backend: r.Backend, Threads: r.Threads,
		MemoryLimit: int64(r.MemoryLimit), MemoryWarning: r.MemoryWarning, MemoryAlert: r.MemoryAlert, Resume: r.Resume,
		LatentSync: lipstream.LatentSync{
			Models: r.Models, Resolution: given(r.Resolution), Precision: r.Precision, Device: r.Device,
			Profile: r.Profile, Sampler: r.Sampler, Steps: given(r.Steps), Guidance: given(r.Guidance), DeepCache: given(r.DeepCache),
			Silence: r.Silence, Overlap: r.Overlap,
			FramesPerWindow: given(r.FramesPerWindow), Windows: given(r.Windows), Offload: r.Offload,
			VAEFrames: given(r.VAEFrames), VAETile: r.VAETile, AttentionSlices: given(r.AttentionSlices),
			ShrinkEvery: r.ShrinkEvery, ReturnEvery: r.ReturnEvery,
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
		err = fault.Output.Wrap("print events", closeErr)
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

// given is what an option says; 0 where it was left out.
func given[T any](option *T) T {
	if option == nil {
		return *new(T)
	}
	return *option
}

func outOfRange(option string) error {
	return fault.Usage.New("option "+option+" 0", "is out of range", "leave it out for the default; see lipstream run --help")
}

// sizeFlag reads "3GB", "512MiB".
type sizeFlag int64

// UnmarshalText implements encoding.TextUnmarshaler for kong.
func (s *sizeFlag) UnmarshalText(text []byte) error {
	n, err := memory.ParseSize(string(text))
	*s = sizeFlag(n)
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
