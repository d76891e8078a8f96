package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
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

// RunOptions say what Run measures.
type RunOptions struct {
	Program string    // the lipstream binary to run
	Seconds []float64 // lengths of video, one job each
	// Width and Height of the made video.
	Width, Height int
	// Video and Audio replace the made inputs; they are looped to the lengths.
	Video, Audio string
	Engine       string
	Backend      string
	Threads      int
	Progress     func(line string) // for people, may be nil

	progressAtOnce bool // for tests: every event, not every 10 s
}

// Machine is where it was measured.
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

// RunResult is one job.
type RunResult struct {
	Name        string  `json:"name"`
	Seconds     float64 `json:"seconds"` // of video
	Frames      int64   `json:"frames"`
	NoFace      int64   `json:"no_face"`
	Elapsed     float64 `json:"elapsed_s"`        // of the process, from start to end
	FramesStage float64 `json:"frames_stage_s"`   // of that, making frames (networks are loaded at its start)
	FPS         float64 `json:"fps"`              // over Elapsed
	FramesFPS   float64 `json:"frames_stage_fps"` // over FramesStage
	RealTime    float64 `json:"real_time"`        // seconds of video made in a second
	CPU         float64 `json:"cpu_s"`            // of the process and its children
	MemoryPeak  int64   `json:"memory_peak"`      // bytes, of the process and its children together
	Engine      string  `json:"engine"`
	// Memory is what they held over time, bytes, in even steps.
	Memory []int64 `json:"memory,omitempty"`
}

// RunReport is what Run found.
type RunReport struct {
	Machine  Machine     `json:"machine"`
	Input    string      `json:"input"`
	Jobs     []RunResult `json:"jobs"`
	Baseline RunResult   `json:"baseline"` // ffmpeg alone, on the first job's input
	Figures  []Figure    `json:"figures"`
}

// Run measures speed and memory of whole jobs, each in a process of its own
// as a user would start it, and next to them what decoding and encoding alone
// take.
func Run(ctx context.Context, o RunOptions) (*RunReport, error) {
	if o.Progress == nil {
		o.Progress = func(string) {}
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
	report := &RunReport{Machine: thisMachine(tools), Input: o.Video}
	if o.Video == "" {
		report.Input = fmt.Sprintf("demo portrait moving in noise, %dx%d, %d fps, h264", o.Width, o.Height, clipRate)
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
			report.Baseline = RunResult{Name: "ffmpeg alone", Seconds: seconds, Elapsed: u.elapsed.Seconds(), CPU: u.cpu.Seconds()}
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

func thisMachine(tools media.Tools) Machine {
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

// progressEvery is how often a running job is reported.
const progressEvery = 10 * time.Second

// job runs lipstream once.
func (o RunOptions) job(ctx context.Context, video, voice, out string, seconds float64) (RunResult, error) {
	args := []string{"run", "--json", "--video", video, "--audio", voice, "-o", out, "-y"}
	for _, a := range [][2]string{{"--engine", o.Engine}, {"--backend", o.Backend}} {
		if a[1] != "" {
			args = append(args, a[0], a[1])
		}
	}
	if o.Threads > 0 {
		args = append(args, "--threads", strconv.Itoa(o.Threads))
	}
	cmd := exec.CommandContext(ctx, o.Program, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	// It gets the time to end its own children and remove its files.
	cmd.Cancel = func() error { return interrupt(cmd.Process) }
	cmd.WaitDelay = 10 * time.Second
	ownGroup(cmd)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return RunResult{}, fault.Internal.Wrap("run "+o.Program, err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return RunResult{}, fault.Internal.Wrap("run "+o.Program, err)
	}
	last, shown := eventLog{}, began
	readErr := last.read(stdout, func(e lipstream.Event) {
		if e.Type == lipstream.EventProgress && (o.progressAtOnce || time.Since(shown) > progressEvery) {
			shown = time.Now()
			o.Progress(fmt.Sprintf("%s of video: %s, frame %d of %d, %.1f fps", length(seconds), e.Stage, e.Frame, e.Frames, e.FPS))
		}
	})
	err = cmd.Wait()
	elapsed := time.Since(began)
	switch {
	case ctx.Err() != nil:
		return RunResult{}, fault.Cancelled.Wrap("measure", ctx.Err())
	case err != nil:
		return RunResult{}, last.failure(err, stderr.String())
	case readErr != nil:
		return RunResult{}, fault.Internal.Wrap("read the events of "+o.Program, readErr)
	case last.end.Type != lipstream.EventDone:
		return RunResult{}, fault.Internal.New("run "+o.Program, "it ended well without an event that says so")
	}
	r := RunResult{Name: "lipstream " + length(seconds), Seconds: seconds, NoFace: last.end.NoFace, Elapsed: elapsed.Seconds(),
		FramesStage: last.stage(lipstream.StageFrames, lipstream.StageFinish).Seconds(), MemoryPeak: last.end.MemoryPeak,
		CPU: (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), Engine: last.end.Engine}
	const points = 100 // enough to see whether it grows
	for i := range min(points, len(last.memory)) {
		r.Memory = append(r.Memory, last.memory[i*len(last.memory)/min(points, len(last.memory))])
	}
	r.finish(last.end.Frame)
	return r, nil
}

// finish computes the rates.
func (r *RunResult) finish(frames int64) {
	r.Frames = frames
	if r.Elapsed > 0 {
		r.FPS, r.RealTime = float64(frames)/r.Elapsed, r.Seconds/r.Elapsed
	}
	if r.FramesStage > 0 {
		r.FramesFPS = float64(frames) / r.FramesStage
	}
}

// eventLog keeps what is needed of a job's events.
type eventLog struct {
	began map[string]time.Duration // when each stage began, since the job's start
	end   lipstream.Event          // done or error
	// memory at each progress event, bytes: 4 a second
	memory []int64
}

// read takes lines of JSON until the end.
func (l *eventLog) read(r io.Reader, each func(lipstream.Event)) error {
	l.began = map[string]time.Duration{}
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var e lipstream.Event
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			// Read on: a process whose pipe is full does not end.
			_, _ = io.Copy(io.Discard, r)
			return fmt.Errorf("%q is no event: %w", s.Text(), err)
		}
		switch e.Type {
		case lipstream.EventStage:
			l.began[e.Stage] = e.Elapsed
		case lipstream.EventProgress:
			l.memory = append(l.memory, e.MemoryNow)
		case lipstream.EventDone, lipstream.EventError:
			l.end = e
		}
		each(e)
	}
	return s.Err()
}

// stage is the time between the beginnings of two stages; 0 when one is missing.
func (l *eventLog) stage(from, to string) time.Duration {
	a, okA := l.began[from]
	b, okB := l.began[to]
	if !okA || !okB {
		return 0
	}
	return b - a
}

// failure tells what a failed job said, under its own kind.
func (l *eventLog) failure(err error, stderr string) error {
	if l.end.Type == lipstream.EventError {
		return fault.Kind(l.end.ExitCode).New("run the job", l.end.Message, l.end.Hint)
	}
	return fault.Internal.Wrap("run the job", fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr)))
}

// figures compare the jobs with the goals.
func (r *RunReport) figures() []Figure {
	var out []Figure
	for _, j := range r.Jobs {
		name := length(j.Seconds)
		out = append(out,
			Figure{Key: "fps_" + key(j.Seconds), Name: "speed, " + name, Value: j.FPS, Unit: Rate, Min: new(goalRate), Note: "over the whole process"},
			Figure{Key: "peak_" + key(j.Seconds), Name: "peak memory, " + name, Value: float64(j.MemoryPeak), Unit: Bytes, Max: new(float64(goalPeak)),
				Note: "lipstream and its ffmpeg processes"})
	}
	if len(r.Jobs) > 1 {
		byLength := func(a, b RunResult) int {
			switch {
			case a.Seconds < b.Seconds:
				return -1
			case a.Seconds > b.Seconds:
				return 1
			}
			return 0
		}
		short, long := slices.MinFunc(r.Jobs, byLength), slices.MaxFunc(r.Jobs, byLength)
		out = append(out, Figure{Key: "peak_ratio", Name: fmt.Sprintf("peak memory, %s to %s", length(long.Seconds), length(short.Seconds)),
			Value: float64(long.MemoryPeak) / float64(short.MemoryPeak), Unit: Times, Min: new(1 - goalGrowth), Max: new(1 + goalGrowth)})
	}
	if len(r.Jobs) > 0 && r.Baseline.FPS > 0 {
		first := r.Jobs[0]
		out = append(out,
			Figure{Key: "speed_ratio", Name: "speed to ffmpeg alone, " + length(first.Seconds), Value: first.FPS / r.Baseline.FPS, Unit: Times,
				Note: "decoding and encoding the same video with the same settings"},
			Figure{Key: "cpu_ratio", Name: "CPU time to ffmpeg alone, " + length(first.Seconds), Value: first.CPU / r.Baseline.CPU, Unit: Times})
	}
	return out
}

func key(seconds float64) string { return strings.ReplaceAll(length(seconds), " ", "") }

// WriteTable prints the machine, the jobs and the figures.
func (r *RunReport) WriteTable(w io.Writer) error {
	m := r.Machine
	if _, err := fmt.Fprintf(w, "lipstream %s, %s/%s, %s, %d threads, %s memory, ffmpeg %s\ninput: %s\n\n",
		m.Lipstream, m.OS, m.Arch, m.CPU, m.Threads, memory.Size(m.Memory), m.FFmpeg, r.Input); err != nil {
		return err
	}
	rows := [][]string{{"", "frames", "elapsed", "fps", "frames stage fps", "real time", "CPU time", "peak memory", "no face"}}
	for _, j := range append([]RunResult{r.Baseline}, r.Jobs...) {
		row := []string{j.Name, strconv.FormatInt(j.Frames, 10), format(j.Elapsed, Seconds), format(j.FPS, Rate), "", format(j.RealTime, Times), format(j.CPU, Seconds), "", ""}
		if j.FramesStage > 0 {
			row[4] = format(j.FramesFPS, Rate)
		}
		if j.MemoryPeak > 0 {
			row[7], row[8] = memory.Size(j.MemoryPeak), strconv.FormatInt(j.NoFace, 10)
		}
		rows = append(rows, row)
	}
	if err := writeRows(w, rows); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return WriteTable(w, r.Figures)
}
