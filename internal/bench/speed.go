package bench

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/memory"
)

// The goals of speed and memory, for 1280x720.
const (
	goalRate   = 25.0    // fps over the whole job
	goalPeak   = 1 << 30 // bytes
	goalGrowth = 0.10    // part by which the peak may differ between lengths
)

// RunOptions configures Run.
type RunOptions struct {
	Program  string            `kong:"-"` // the lipstream binary to run
	Progress func(line string) `kong:"-"` // may be nil

	Seconds []float64 `default:"10,60" placeholder:"S" help:"Length of the video; may be repeated, to compare the peak memory of the longest and the shortest video."`
	Size    Size      `default:"1280x720" placeholder:"WxH" help:"Size of the generated video."`
	Video   string    `placeholder:"FILE" help:"Loop this video instead of generating one."`
	Audio   string    `placeholder:"FILE" help:"Loop this voice instead of the demo's."`
	Engine  string    `default:"preview" placeholder:"preview|latentsync" help:"Engine of the jobs."`
	Backend string    `default:"auto" placeholder:"auto|openvino|onnxruntime" help:"Runtime for the networks."`
	Threads int       `placeholder:"N" help:"CPU threads of the networks."`

	everyEvent bool // for tests: report each event, not one every 10 s
	piece      int  // for tests: seconds of the video that is looped, 0 for pieceSeconds
}

// Size is the size of a video in pixels.
type Size struct{ Width, Height int }

// UnmarshalText reads 1280x720. Both sides must be even: the video is 4:2:0.
func (s *Size) UnmarshalText(text []byte) error {
	const least, most = 128, 8192
	a, b, ok := strings.Cut(string(text), "x")
	w, errW := strconv.Atoi(a)
	h, errH := strconv.Atoi(b)
	in := func(v int) bool { return v >= least && v <= most && v%2 == 0 }
	if !ok || errW != nil || errH != nil || !in(w) || !in(h) {
		return fmt.Errorf("%q is not a size: write width x height, both even and from %d to %d, such as 1280x720", text, least, most)
	}
	*s = Size{w, h}
	return nil
}

// String returns the size as 1280x720.
func (s Size) String() string { return fmt.Sprintf("%dx%d", s.Width, s.Height) }

// Machine describes where a measurement was made.
type Machine struct {
	OS        string    `json:"os"`
	Arch      string    `json:"arch"`
	CPU       string    `json:"cpu,omitempty"`
	Threads   int       `json:"threads"`
	Memory    int64     `json:"memory"` // bytes
	FFmpeg    string    `json:"ffmpeg"`
	Go        string    `json:"go"`
	Lipstream string    `json:"lipstream"`
	Time      time.Time `json:"time"`
}

// RunResult is the result of one job.
type RunResult struct {
	Name        string  `json:"name"`
	Seconds     float64 `json:"seconds"` // of video
	Frames      int64   `json:"frames"`
	NoFace      int64   `json:"no_face"`
	Elapsed     float64 `json:"elapsed_s"`        // of the process, from start to end
	FramesPhase float64 `json:"frames_phase_s"`   // of that, making frames (networks are loaded at its start)
	FPS         float64 `json:"fps"`              // over Elapsed
	FramesFPS   float64 `json:"frames_phase_fps"` // over FramesPhase
	RealTime    float64 `json:"real_time"`        // seconds of video made in a second
	CPU         float64 `json:"cpu_s"`            // of the process and its children
	MemoryPeak  int64   `json:"memory_peak"`      // bytes, of the process and its children together
	Engine      string  `json:"engine"`
	// Memory is their memory over time in bytes, in even steps.
	Memory []int64 `json:"memory,omitempty"`
}

// RunReport is the result of Run.
type RunReport struct {
	Machine  Machine     `json:"machine"`
	Input    string      `json:"input"`
	Jobs     []RunResult `json:"jobs"`
	Baseline RunResult   `json:"baseline"` // ffmpeg alone, on the first job's input
	Results
}

// Run measures the speed and memory of complete jobs, each in its own process, as a
// user starts it. For comparison it measures decoding and encoding alone.
func Run(ctx context.Context, o RunOptions) (*RunReport, error) {
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	for _, s := range o.Seconds {
		if !(s >= 0.1 && s <= 24*3600) { // false for NaN, too
			return nil, fault.Field("seconds", strconv.FormatFloat(s, 'g', -1, 64), "is out of range", "give seconds between 0.1 and a day")
		}
	}
	tools, err := media.FindTools(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "lipstream-bench-")
	if err != nil {
		return nil, fault.Output.Wrap("make a folder for test inputs", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	report := &RunReport{Machine: ThisMachine(tools), Input: o.Video}
	if o.Video == "" {
		report.Input = fmt.Sprintf("demo portrait moving in noise, %s, %d fps, h264", o.Size, ClipRate)
	}
	o.Progress("making test inputs")
	m, err := newMaker(ctx, tools, dir, o)
	if err != nil {
		return nil, err
	}
	for i, seconds := range o.Seconds {
		video, voice, err := m.inputs(ctx, seconds)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			o.Progress("ffmpeg alone, " + length(seconds))
			u, err := m.transcode(ctx, video, voice)
			if err != nil {
				return nil, err
			}
			report.Baseline = RunResult{Name: "ffmpeg alone", Seconds: seconds, Elapsed: u.Elapsed.Seconds(), CPU: u.CPU.Seconds()}
		}
		r, err := o.job(ctx, video, voice, filepath.Join(dir, "out.mp4"), seconds)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			report.Baseline.finish(r.Frames)
		}
		report.Jobs = append(report.Jobs, r)
		_ = os.Remove(video)
		_ = os.Remove(voice)
	}
	report.Figures = report.figures()
	return report, nil
}

func length(seconds float64) string { return strconv.FormatFloat(seconds, 'f', -1, 64) + " s" }

// String returns the machine in one line, for the head of a table.
func (m Machine) String() string {
	return fmt.Sprintf("lipstream %s, %s/%s, %s, %d threads, %s memory", m.Lipstream, m.OS, m.Arch, m.CPU, m.Threads, memory.Size(m.Memory))
}

// ThisMachine describes this machine.
func ThisMachine(tools media.Tools) Machine {
	m := Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Threads: runtime.NumCPU(), FFmpeg: tools.Version,
		Go: runtime.Version(), Lipstream: lipstream.Version(), Time: time.Now().UTC().Truncate(time.Second)}
	// Both only describe the result.
	if info, err := cpu.Info(); err == nil && len(info) > 0 {
		m.CPU = strings.TrimSpace(info[0].ModelName)
	}
	if h, err := (memory.Probe{}).Host(); err == nil {
		m.Memory = h.Total
	}
	return m
}

// ProgressInterval is how often a running job is reported.
const ProgressInterval = 10 * time.Second

// job runs lipstream once.
func (o RunOptions) job(ctx context.Context, video, voice, out string, seconds float64) (RunResult, error) {
	args := []string{"run", "--json", "--video", video, "--audio", voice, "-o", out, "-y", "--engine", o.Engine, "--backend", o.Backend}
	if o.Threads > 0 {
		args = append(args, "--threads", strconv.Itoa(o.Threads))
	}
	shown := time.Now()
	j, err := RunJob(ctx, exec.Command(o.Program, args...), func(e lipstream.Event) {
		if e.Type == lipstream.EventProgress && (o.everyEvent || time.Since(shown) > ProgressInterval) {
			shown = time.Now()
			o.Progress(fmt.Sprintf("%s of video: %s, frame %d of %d, %.1f fps", length(seconds), e.Phase, e.Frame, e.Frames, e.FPS))
		}
	})
	if err != nil {
		return RunResult{}, err
	}
	r := RunResult{Name: "lipstream " + length(seconds), Seconds: seconds, NoFace: j.End.NoFace, Elapsed: j.Elapsed.Seconds(),
		FramesPhase: j.frames.Seconds(), MemoryPeak: j.End.MemoryPeak,
		CPU: j.CPU.Seconds(), Engine: j.End.Engine}
	points := min(100, len(j.memory)) // enough to see whether it grows
	for i := range points {
		r.Memory = append(r.Memory, j.memory[i*len(j.memory)/points])
	}
	r.finish(j.End.Frame)
	return r, nil
}

// finish computes the rates.
func (r *RunResult) finish(frames int64) {
	r.Frames = frames
	if r.Elapsed > 0 {
		r.FPS, r.RealTime = float64(frames)/r.Elapsed, r.Seconds/r.Elapsed
	}
	if r.FramesPhase > 0 {
		r.FramesFPS = float64(frames) / r.FramesPhase
	}
}

// figures compares the jobs with the goals.
func (r *RunReport) figures() []Figure {
	var out []Figure
	for _, j := range r.Jobs {
		name := length(j.Seconds)
		key := strings.ReplaceAll(name, " ", "")
		out = append(out,
			Figure{Key: "fps_" + key, Name: "speed, " + name, Value: j.FPS, Unit: Rate, Min: new(goalRate), Note: "over the whole process"},
			Figure{Key: "peak_" + key, Name: "peak memory, " + name, Value: float64(j.MemoryPeak), Unit: Bytes, Max: new(float64(goalPeak)),
				Note: "lipstream and its ffmpeg processes"})
	}
	if len(r.Jobs) > 1 {
		byLength := func(a, b RunResult) int { return cmp.Compare(a.Seconds, b.Seconds) }
		short, long := slices.MinFunc(r.Jobs, byLength), slices.MaxFunc(r.Jobs, byLength)
		out = append(out, Figure{Key: "peak_ratio", Name: fmt.Sprintf("peak memory, %s relative to %s", length(long.Seconds), length(short.Seconds)),
			Value: float64(long.MemoryPeak) / float64(short.MemoryPeak), Unit: Times, Min: new(1 - goalGrowth), Max: new(1 + goalGrowth)})
	}
	if len(r.Jobs) > 0 && r.Baseline.FPS > 0 {
		first := r.Jobs[0]
		out = append(out,
			Figure{Key: "speed_ratio", Name: "speed relative to ffmpeg alone, " + length(first.Seconds), Value: first.FPS / r.Baseline.FPS, Unit: Times,
				Note: "decoding and encoding the same video with the same settings"},
			Figure{Key: "cpu_ratio", Name: "CPU time relative to ffmpeg alone, " + length(first.Seconds), Value: first.CPU / r.Baseline.CPU, Unit: Times})
	}
	return out
}

// WriteTable writes the machine, the jobs and the figures.
func (r *RunReport) WriteTable(w io.Writer) error {
	m := r.Machine
	if _, err := fmt.Fprintf(w, "%s, ffmpeg %s\ninput: %s\n\n", m, m.FFmpeg, r.Input); err != nil {
		return err
	}
	rows := [][]string{{"", "frames", "elapsed", "fps", "frames phase fps", "real time", "CPU time", "peak memory", "no face"}}
	for _, j := range append([]RunResult{r.Baseline}, r.Jobs...) {
		row := []string{j.Name, strconv.FormatInt(j.Frames, 10), Format(j.Elapsed, Seconds), Format(j.FPS, Rate), "", Format(j.RealTime, Times), Format(j.CPU, Seconds), "", ""}
		if j.FramesPhase > 0 {
			row[4] = Format(j.FramesFPS, Rate)
		}
		if j.MemoryPeak > 0 {
			row[7], row[8] = memory.Size(j.MemoryPeak), strconv.FormatInt(j.NoFace, 10)
		}
		rows = append(rows, row)
	}
	if err := WriteRows(w, rows); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return WriteTable(w, r.Figures)
}
