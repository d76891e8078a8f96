package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/models"
)

// limitSample is how often a group's memory is read.
const limitSample = 100 * time.Millisecond

// LimitOptions say what Limit measures.
type LimitOptions struct {
	Program string // the lipstream binary to run
	Models  string // folder of the checkpoints
	// Limits of memory, bytes: each must hold. TooSmall is one that must be
	// refused; 0 for none.
	Limits     []int64
	TooSmall   int64
	Steps      int // of denoising; 0 leaves it to the profile
	Frames     int // of the video, 1 and more
	Resolution int // 0 is the checkpoint's
	Profile    string
	Backend    string
	Threads    int
	Progress   func(line string) // for people, may be nil
}

// LimitResult is a job under a limit. Memory is in bytes, of lipstream and its
// ffmpeg processes.
type LimitResult struct {
	Limit    int64   `json:"limit"`
	ExitCode int     `json:"exit_code"`
	Message  string  `json:"message,omitempty"` // of the error, with its hint
	Elapsed  float64 `json:"elapsed_s"`
	Frames   int64   `json:"frames"` // that the output really has

	Windows   int64                 `json:"windows"`
	Seconds   float64               `json:"seconds_per_window"`
	Plan      *lipstream.MemoryPlan `json:"plan,omitempty"`  // in the end
	Anonymous int64                 `json:"peak_anonymous"`  // the most of all samples
	Samples   int                   `json:"samples"`         // one every 100 ms
	Swap      int64                 `json:"peak_swap"`       //
	Peak      int64                 `json:"peak"`            // that was charged, files' pages included
	Failures  int64                 `json:"limit_failures"`  // how often the limit was met
	Killed    int64                 `json:"killed"`          // processes, for lack of memory
	Notes     []string              `json:"notes,omitempty"` // changes of the plan, alerts, warnings
}

// LimitReport is what Limit found.
type LimitReport struct {
	Machine Machine       `json:"machine"`
	Cgroup  int           `json:"cgroup_version"`
	Models  string        `json:"models"`
	Steps   int           `json:"steps"` // asked for; 0: the profile's
	Jobs    []LimitResult `json:"jobs"`
	Refused *LimitResult  `json:"refused,omitempty"` // the one under TooSmall
	Figures []Figure      `json:"figures"`
}

// Limit runs jobs of the latentsync engine, each inside a control group with a
// memory limit of the kernel, and watches what the group holds. A job that
// fails is part of the result. Without the right to make control groups the
// error is of kind Missing.
func Limit(ctx context.Context, o LimitOptions) (*LimitReport, error) {
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.Frames < 1 || o.Frames > 10000 {
		return nil, fault.Usage.New("option --frames "+strconv.Itoa(o.Frames), "is out of range", "1 to 10000; 16 are a window")
	}
	if o.Steps < 0 || o.Steps > 100 {
		return nil, fault.Usage.New("option --steps "+strconv.Itoa(o.Steps), "is out of range", "1 to 100")
	}
	if _, err := models.Find(o.Models); err != nil {
		return nil, err
	}
	tools, err := media.FindTools(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "lipstream-bench-")
	if err != nil {
		return nil, fault.Output.Wrap("make a folder for the measurement", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	l := &limitRun{LimitOptions: o, tools: tools, dir: dir}
	m, err := newMaker(ctx, tools, dir, RunOptions{Video: "none"})
	if err != nil {
		return nil, err
	}
	length := clipSeconds(o.Frames + clipRate)
	if err := m.still(ctx, length, l.path(clipFile), l.path(voiceFile), length, l.path(pausesFile)); err != nil {
		return nil, err
	}
	report := &LimitReport{Machine: thisMachine(tools), Models: o.Models, Steps: o.Steps}
	for _, limit := range o.Limits {
		r, version, err := l.job(ctx, limit)
		if err != nil {
			return nil, err
		}
		report.Cgroup = version
		report.Jobs = append(report.Jobs, r)
	}
	if o.TooSmall > 0 {
		r, version, err := l.job(ctx, o.TooSmall)
		if err != nil {
			return nil, err
		}
		report.Cgroup, report.Refused = version, &r
	}
	report.Figures = report.figures(int64(o.Frames))
	return report, nil
}

// limitRun is a measurement under way.
type limitRun struct {
	LimitOptions
	tools media.Tools
	dir   string
}

func (l *limitRun) path(name string) string { return filepath.Join(l.dir, name) }

// job runs lipstream in a group of its own with this limit.
func (l *limitRun) job(ctx context.Context, limit int64) (r LimitResult, version int, err error) {
	group, err := NewCgroup(limit)
	if err != nil {
		return r, 0, err
	}
	defer func() { err = errors.Join(err, group.Close()) }()
	out, report := l.path("out.mkv"), l.path("report.json")
	for _, old := range []string{out, report} {
		if err := os.Remove(old); err != nil && !errors.Is(err, os.ErrNotExist) {
			return r, 0, fault.Output.Wrap("remove "+old, err)
		}
	}
	args := []string{"run", "--json", "--engine", "latentsync", "--models", l.Models, "--video", l.path(clipFile), "--audio", l.path(voiceFile),
		"-o", out, "-y", "--codec", "ffv1", "--length", "shortest", "--end", clipSeconds(l.Frames), "--resume", "never", "--report", report,
		"--memory-limit", strconv.FormatInt(limit, 10)}
	for _, a := range [][2]string{{"--profile", l.Profile}, {"--backend", l.Backend}} {
		if a[1] != "" {
			args = append(args, a[0], a[1])
		}
	}
	for _, a := range []struct {
		option string
		value  int
	}{{"--steps", l.Steps}, {"--resolution", l.Resolution}, {"--threads", l.Threads}} {
		if a.value > 0 {
			args = append(args, a.option, strconv.Itoa(a.value))
		}
	}
	name := memory.Size(limit)
	l.Progress(fmt.Sprintf("%s: in %s", name, group.Dir))
	r = LimitResult{Limit: limit}
	watch := watchCgroup(group)
	began := time.Now()
	tell := stepProgress(name, l.Progress)
	cmd := group.Command(ctx, l.Program, args...)
	end, err := runJob(ctx, cmd, func(e lipstream.Event) {
		tell(e)
		switch e.Type {
		case lipstream.EventPlan, lipstream.EventAlert, lipstream.EventWarning:
			r.Notes = append(r.Notes, e.Type+": "+e.Message)
		}
	})
	r.Elapsed = time.Since(began).Seconds()
	watchErr := watch.stop(&r)
	if ctx.Err() != nil {
		return r, group.Version, err
	}
	if r.ExitCode = exitCode(cmd, err); r.ExitCode != 0 {
		r.Message = strings.TrimSpace(fault.Message(err) + ": " + end.Hint)
		l.Progress(fmt.Sprintf("%s: exit code %d: %s", name, r.ExitCode, r.Message))
		return r, group.Version, watchErr
	}
	if watchErr != nil {
		return r, group.Version, watchErr
	}
	told, err := readReport(report)
	if err != nil {
		return r, group.Version, err
	}
	r.Windows, r.Seconds, r.Plan = told.Windows, told.SecondsPerWindow, told.Plan
	r.Frames, err = countFrames(ctx, l.tools, out)
	l.Progress(fmt.Sprintf("%s: %.2f s per window, anonymous at most %s", name, r.Seconds, memory.Size(r.Anonymous)))
	return r, group.Version, err
}

// exitCode is that of a command that has run; -1 when a signal ended it. An
// error that it did not itself end with is none of its codes.
func exitCode(cmd *exec.Cmd, err error) int {
	switch {
	case cmd.ProcessState == nil:
		return -1
	case err != nil && cmd.ProcessState.ExitCode() == 0:
		return -1
	}
	return cmd.ProcessState.ExitCode()
}

// cgroupWatch samples a group's memory until it is stopped.
type cgroupWatch struct {
	group *Cgroup
	quit  chan struct{}
	done  chan struct{}
	most  CgroupUsage
	count int
	err   error
}

func watchCgroup(g *Cgroup) *cgroupWatch {
	w := &cgroupWatch{group: g, quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		t := time.NewTicker(limitSample)
		defer t.Stop()
		for ended := false; !ended; {
			select {
			case <-w.quit:
				ended = true // and a last sample
			case <-t.C:
			}
			u, err := g.Usage()
			if err != nil {
				w.err = err
				return
			}
			w.count++
			w.most.Anonymous, w.most.Swap = max(w.most.Anonymous, u.Anonymous), max(w.most.Swap, u.Swap)
			w.most.Peak, w.most.Failures, w.most.Killed = u.Peak, u.Failures, u.Killed // these only grow
		}
	}()
	return w
}

// stop ends the sampling and puts the most that was seen into r.
func (w *cgroupWatch) stop(r *LimitResult) error {
	close(w.quit)
	<-w.done
	r.Anonymous, r.Swap, r.Peak, r.Failures, r.Killed, r.Samples = w.most.Anonymous, w.most.Swap, w.most.Peak, w.most.Failures, w.most.Killed, w.count
	return w.err
}

// countFrames decodes a video.
func countFrames(ctx context.Context, tools media.Tools, path string) (n int64, err error) {
	info, err := media.Probe(ctx, tools, path)
	if err == nil {
		err = info.NeedVideo()
	}
	if err != nil {
		return 0, err
	}
	format := media.WorkingFormat(*info.Video)
	v, err := media.OpenVideo(ctx, tools, path, info, media.VideoOptions{Format: format, Rate: info.Video.FrameRate})
	if err != nil {
		return 0, err
	}
	defer func() { _ = v.Close() }() // only read from
	for f := frame.New(format); ; n++ {
		if err := v.Read(f); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}

// refusedWithin is how long a job may take that is refused at once, seconds.
const refusedWithin = 30.0

// figures compare the jobs with what must hold.
func (r *LimitReport) figures(frames int64) []Figure {
	var out []Figure
	for _, j := range r.Jobs {
		name, k := memory.Size(j.Limit), strconv.FormatInt(j.Limit, 10)
		share := float64(j.Anonymous) / float64(j.Limit)
		if j.Samples == 0 {
			share = math.NaN()
		}
		out = append(out,
			Figure{Key: "exit_" + k, Name: name + ", exit code", Value: float64(j.ExitCode), Min: new(0.0), Max: new(0.0), Note: j.Message},
			Figure{Key: "frames_" + k, Name: name + ", frames", Value: float64(j.Frames), Unit: Frames, Min: new(float64(frames)), Max: new(float64(frames))},
			Figure{Key: "anonymous_" + k, Name: name + ", anonymous memory to the limit", Value: share, Unit: Times, Max: new(math.Nextafter(1, 0)),
				Note: fmt.Sprintf("the most of %d samples, %s", j.Samples, memory.Size(j.Anonymous))},
			Figure{Key: "swap_" + k, Name: name + ", swap", Value: float64(j.Swap), Unit: Bytes, Max: new(0.0)})
	}
	if j := r.Refused; j != nil {
		name := memory.Size(j.Limit)
		out = append(out,
			Figure{Key: "refused", Name: name + ", exit code", Value: float64(j.ExitCode), Min: new(float64(fault.Memory)), Max: new(float64(fault.Memory)), Note: j.Message},
			Figure{Key: "refused_within", Name: name + ", refused within", Value: j.Elapsed, Unit: Seconds, Max: new(refusedWithin)})
	}
	return out
}

// WriteTable prints the jobs in Markdown, and the figures.
func (r *LimitReport) WriteTable(w io.Writer) error {
	m := r.Machine
	steps := "the profile's steps"
	if r.Steps > 0 {
		steps = strconv.Itoa(r.Steps) + " steps"
	}
	if _, err := fmt.Fprintf(w, "lipstream %s, %s/%s, %s, %d processors, %s memory, control groups version %d\n%s, %s\n\n",
		m.Lipstream, m.OS, m.Arch, m.CPU, m.Threads, memory.Size(m.Memory), r.Cgroup, r.Models, steps); err != nil {
		return err
	}
	rows := [][]string{{"limit", "exit code", "frames", "windows", "s per window", "anonymous", "charged", "swap", "plan"}}
	jobs := r.Jobs
	if r.Refused != nil {
		jobs = append(jobs[:len(jobs):len(jobs)], *r.Refused)
	}
	for _, j := range jobs {
		plan := "-" // what was said of it comes with the figures
		if p := j.Plan; p != nil {
			plan = fmt.Sprintf("%d x %d frames, %s, offload %s, VAE %d frames, %d slices", p.Windows, p.FramesPerWindow, p.Precision, p.Offload, p.VAEFrames, p.AttentionSlices)
			if p.VAETile > 0 {
				plan += fmt.Sprintf(", tiles of %d", p.VAETile)
			}
		}
		rows = append(rows, []string{memory.Size(j.Limit), strconv.Itoa(j.ExitCode), strconv.FormatInt(j.Frames, 10), strconv.FormatInt(j.Windows, 10),
			seconds(j.Seconds), memory.Size(j.Anonymous), memory.Size(j.Peak), memory.Size(j.Swap), plan})
	}
	if err := writeMarkdown(w, rows); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return WriteTable(w, r.Figures)
}
