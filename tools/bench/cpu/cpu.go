// Package cpu measures the CPU time and the memory that Lipstream itself takes for a
// frame, besides decoding and encoding.
package cpu

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/bench/ffmpeg"
	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/pipeline"
	"github.com/lipstream/lipstream/internal/preview"
	"github.com/lipstream/lipstream/internal/settings"
	"github.com/lipstream/lipstream/testdata/demo"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

// goal is the CPU time that Lipstream itself may take for a frame of goalPixels, in
// milliseconds: with two processors and 25 frames a second there are 80, and decoding
// hevc and encoding h264 take 55 to 60 of them.
const (
	goal       = 16
	goalPixels = 1080 * 1920
)

// Options configures Measure.
type Options struct {
	Sizes    []bench.Size `default:"1280x720,1080x1920,3840x2160" placeholder:"WxH" help:"Sizes of the video. Default: 1280x720,1080x1920,3840x2160."`
	Codec    string       `default:"hevc" enum:"hevc,h264" placeholder:"hevc|h264" help:"Codec of the video; the result is always h264. Default: hevc."`
	Frames   int          `default:"250" placeholder:"N" help:"Frames of each video."`
	Rounds   int          `default:"3" placeholder:"N" help:"How often each job runs, and ffmpeg alone after it; the table has the medians."`
	Inputs   string       `placeholder:"FOLDER" help:"Keep the videos in this folder, and use those that are there."`
	Profiles string       `placeholder:"FOLDER" help:"Write a CPU profile of the last round of each job into this folder."`
}

// Result is what the jobs of one size took: medians, CPU time in milliseconds a frame.
type Result struct {
	Size   string             `json:"size"`
	NoFace int64              `json:"no_face"`
	Own    float64            `json:"own_ms"`  // of the process, without its children
	Parts  map[string]float64 `json:"part_ms"` // Own by part
	// FFmpeg is what decoding and encoding the video takes in one process, and Extra what
	// the two processes of a job take more, such as writing frames to pipes.
	FFmpeg float64 `json:"ffmpeg_ms"`
	Extra  float64 `json:"extra_ms"`
	Start  float64 `json:"start_ms"` // once, before the first frame
	Frame  int64   `json:"frame_bytes"`
	Pool   int     `json:"pool_frames"`
	Peak   int64   `json:"peak_rss_bytes"`
}

// pool is the size of the frames in the pool, in bytes.
func (r *Result) pool() int64 { return r.Frame * int64(r.Pool) }

// total is what a frame takes besides decoding and encoding.
func (r *Result) total() float64 { return r.Own + r.Extra }

// Report is the result of Measure.
type Report struct {
	Machine bench.Machine `json:"machine"`
	Codec   string        `json:"codec"`
	Frames  int           `json:"frames"`
	Rounds  int           `json:"rounds"`
	Jobs    []Result      `json:"jobs"`
	bench.Results
}

// Measure runs jobs of the preview engine, each in a process of its own, and ffmpeg alone
// after each.
func (o Options) Measure(ctx context.Context, progress lab.Progress) (*Report, error) {
	if err := cmp.Or(lab.In("frames", o.Frames, 10, 100_000), lab.In("rounds", o.Rounds, 1, 100)); err != nil {
		return nil, err
	}
	dir, tools, err := lab.Folder(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	report := &Report{Machine: bench.ThisMachine(tools), Codec: o.Codec, Frames: o.Frames, Rounds: o.Rounds}
	for _, size := range o.Sizes {
		progress("making a video of " + size.String())
		video, voice, err := o.inputs(ctx, tools, dir, size)
		if err != nil {
			return nil, err
		}
		r, err := o.size(ctx, tools, dir, size, video, voice, progress)
		if err != nil {
			return nil, err
		}
		report.Jobs = append(report.Jobs, *r)
	}
	report.Figures = report.figures()
	return report, nil
}

// inputs makes the moving portrait, with noise, and a voice.
func (o Options) inputs(ctx context.Context, tools media.Tools, dir string, size bench.Size) (video, voice string, err error) {
	video, voice = filepath.Join(cmp.Or(o.Inputs, dir), fmt.Sprintf("%s-%s-%d.mp4", size, o.Codec, o.Frames)), filepath.Join(dir, "voice.wav")
	portrait, speech := filepath.Join(dir, "portrait.png"), filepath.Join(dir, "speech.wav")
	for path, data := range map[string][]byte{portrait: demo.Portrait, speech: demo.Speech} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return "", "", fault.Output.Wrap("write "+path, fault.WithoutPath(err))
		}
	}
	_, err = ffmpeg.Run(ctx, tools, "-stream_loop", "-1", "-i", speech, "-t", lab.Seconds(o.Frames), "-c:a", "pcm_s16le", voice)
	if err != nil {
		return "", "", err
	}
	if _, err := os.Stat(video); err == nil {
		return video, voice, nil
	}
	encode := []string{"-c:v", "libx264", "-preset", "veryfast", "-crf", "18"}
	if o.Codec == "hevc" {
		encode = []string{"-c:v", "libx265", "-preset", "ultrafast", "-crf", "20", "-tag:v", "hvc1", "-x265-params", "log-level=error"}
	}
	const period = 20 // seconds in which the motion repeats
	made := filepath.Join(dir, "video.mp4")
	args := append([]string{"-loop", "1", "-framerate", strconv.Itoa(bench.ClipRate), "-i", portrait,
		"-filter_complex", bench.Movement(size, period), "-map", "[out]", "-frames:v", strconv.Itoa(o.Frames)}, append(encode, made)...)
	if _, err := ffmpeg.Run(ctx, tools, args...); err != nil {
		return "", "", err
	}
	return video, voice, fault.Output.Wrap("write "+video, disk.Rename(made, video))
}

// size measures the jobs of one size.
func (o Options) size(ctx context.Context, tools media.Tools, dir string, size bench.Size, video, voice string, progress lab.Progress) (*Result, error) {
	r := &Result{Size: size.String(), Parts: map[string]float64{}}
	var rounds []round
	for i := range o.Rounds {
		one, err := o.round(ctx, tools, dir, size, video, voice)
		if err != nil {
			return nil, err
		}
		progress(fmt.Sprintf("%s, round %d of %d: %.1f ms a frame in the process, %.1f more in ffmpeg than the %.1f of ffmpeg alone",
			size, i+1, o.Rounds, one.Own*1000/float64(one.Frames), one.extra, one.ffmpeg))
		rounds = append(rounds, *one)
	}
	middle := func(f func(*round) float64) float64 {
		var all []float64
		for i := range rounds {
			all = append(all, f(&rounds[i]))
		}
		return bench.Median(all)
	}
	perFrame := func(f func(*round) float64) float64 {
		return middle(func(o *round) float64 { return f(o) * 1000 / float64(o.Frames) })
	}
	r.Own = perFrame(func(o *round) float64 { return o.Own })
	for _, part := range allParts {
		r.Parts[part] = perFrame(func(o *round) float64 { return o.Parts[part] })
	}
	r.FFmpeg, r.Extra = middle(func(o *round) float64 { return o.ffmpeg }), middle(func(o *round) float64 { return o.extra })
	r.Start = middle(func(o *round) float64 { return o.Start * 1000 })
	last := rounds[len(rounds)-1]
	r.NoFace, r.Frame = last.NoFace, int64(size.Width*size.Height*3/2)
	r.Peak = int64(middle(func(o *round) float64 { return float64(o.Peak) }))
	hold, err := holds(ctx, size)
	r.Pool = pipeline.PoolSize(hold)
	return r, err
}

// holds returns how many frames of a size the preview engine holds back.
func holds(ctx context.Context, size bench.Size) (int, error) {
	model, err := preview.Kind{}.Find(ctx, settings.Settings{})
	if err != nil {
		return 0, err
	}
	engine, err := model.Open(ctx, lip.Host{Rate: media.Rational{Num: bench.ClipRate, Den: 1},
		Format: frame.Format{Width: size.Width, Height: size.Height, ShiftX: 1, ShiftY: 1, Depth: 8}})
	if err != nil {
		return 0, err
	}
	return engine.Hold(), engine.Close()
}

// round is one job, and ffmpeg alone.
type round struct {
	measured
	ffmpeg, extra float64 // as in Result
}

func (o Options) round(ctx context.Context, tools media.Tools, dir string, size bench.Size, video, voice string) (*round, error) {
	out := filepath.Join(dir, "out.mp4")
	program, err := os.Executable()
	if err != nil {
		return nil, fault.Internal.Wrap("find this program", err)
	}
	profile := ""
	if o.Profiles != "" {
		profile = filepath.Join(o.Profiles, "cpu-"+size.String()+".pprof")
	}
	args := append([]string{"cpu-step", "--video", video, "--audio", voice, "--out", out}, lab.Flags("--profile", profile)...)
	p, stdout, err := child.StartReader(ctx, exec.Command(program, args...), bench.Grace)
	if err != nil {
		return nil, fault.Internal.Wrap("run the job", err)
	}
	defer func() { _ = stdout.Close() }()
	r := &round{}
	decodeErr := json.NewDecoder(stdout).Decode(&r.measured)
	if err := cmp.Or(p.Wait(), decodeErr); err != nil {
		return nil, fault.Internal.Wrap("run the job", err)
	}
	// The same decoding and encoding in one process, which hands frames over in memory.
	u, err := ffmpeg.Transcode(ctx, tools, video, voice, out)
	if err != nil {
		return nil, err
	}
	r.ffmpeg = u.CPU.Seconds() * 1000 / float64(r.Frames)
	r.extra = r.Children*1000/float64(r.Frames) - r.ffmpeg
	return r, nil
}

// figures compares the jobs with their goals.
func (r *Report) figures() []bench.Figure {
	var out []bench.Figure
	for _, j := range r.Jobs {
		f := bench.Figure{Key: "own_" + j.Size, Name: j.Size + ", CPU time a frame besides decoding and encoding", Value: j.total(), Unit: bench.Milliseconds}
		if j.Frame == goalPixels*3/2 {
			f.Max = new(float64(goal))
		}
		out = append(out, f, bench.Figure{Key: "ratio_" + j.Size, Name: j.Size + ", the same relative to ffmpeg alone", Value: j.total() / j.FFmpeg, Unit: bench.Times})
	}
	bySize := func(a, b Result) int { return cmp.Compare(a.Frame, b.Frame) }
	if small, large := slices.MinFunc(r.Jobs, bySize), slices.MaxFunc(r.Jobs, bySize); small.Frame < large.Frame {
		// Besides the frames of the pool there are the copy of the last frame, for padding,
		// and the engine's copies of the mouth's region.
		out = append(out, bench.Figure{Key: "memory_pool", Name: "peak resident memory of " + large.Size + " above " + small.Size + ", relative to that of their pools",
			Value: float64(large.Peak-small.Peak) / float64(large.pool()-small.pool()), Unit: bench.Times, Max: new(1.2),
			Note: fmt.Sprintf("the pools have %d and %d frames", large.Pool, small.Pool)})
	}
	return out
}

// WriteTable writes the jobs and the figures.
func (r *Report) WriteTable(w io.Writer) error {
	ms := func(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }
	rows := [][]string{{"size"}}
	rows[0] = append(append(rows[0], allParts...), "process", "ffmpeg for it", "sum", "ffmpeg alone", "start", "resident peak", "pool", "no face")
	for _, j := range r.Jobs {
		row := []string{j.Size}
		for _, part := range allParts {
			row = append(row, ms(j.Parts[part]))
		}
		rows = append(rows, append(row, ms(j.Own), ms(j.Extra), ms(j.total()), ms(j.FFmpeg), ms(j.Start), memory.Size(j.Peak),
			memory.Size(j.pool()), strconv.FormatInt(j.NoFace, 10)))
	}
	heading := fmt.Sprintf("%s\n%s to h264, %d frames, medians of %d rounds; CPU time in ms a frame\n\n", r.Machine, r.Codec, r.Frames, r.Rounds)
	return lab.WriteReport(w, heading, rows, "", r.Figures)
}
