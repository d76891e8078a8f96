// Package limit runs jobs under memory limits that the kernel enforces.
package limit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/tools/bench/cgroup"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

// Options configures Measure.
type Options struct {
	lab.Binary
	Models     string           `required:"" placeholder:"FOLDER" help:"Folder with the checkpoints."`
	Limits     []lipstream.Size `default:"3GB,4GB,6GB" placeholder:"SIZE" help:"Memory limits to run a job under, each in a new control group. Default: 3GB,4GB,6GB."`
	TooSmall   lipstream.Size   `default:"300MB" placeholder:"SIZE" help:"A limit under which the job must fail immediately; 0 for none. Default: 300MB."`
	Steps      int              `placeholder:"N" help:"Denoising steps. Default: those of the profile."`
	Frames     int              `default:"16" placeholder:"N" help:"Frames of the video."`
	Resolution int              `placeholder:"256|512" help:"Resolution of the face. Default: that of the checkpoint."`
	Profile    string           `default:"auto" placeholder:"NAME" help:"Profile of the job, as for lipstream run."`
	Backend    string           `default:"auto" placeholder:"auto|openvino|onnxruntime" help:"Runtime of the networks."`
	Threads    int              `placeholder:"N" help:"CPU threads of the networks."`

	sampled func(cgroup.Usage) // called with each sample; for tests
}

// Result is the result of a job under a limit. Memory is in bytes and includes that of
// the ffmpeg processes.
type Result struct {
	Limit    int64   `json:"limit"`
	ExitCode int     `json:"exit_code"`
	Message  string  `json:"message,omitempty"` // the error with its hint
	Elapsed  float64 `json:"elapsed_s"`
	Frames   int64   `json:"frames"` // counted in the output

	Windows   int64                 `json:"windows"`
	Seconds   float64               `json:"seconds_per_window"`
	Plan      *lipstream.MemoryPlan `json:"plan,omitempty"` // at the end
	Anonymous int64                 `json:"peak_anonymous"` // the highest sample
	Samples   int                   `json:"samples"`        // one every 100 ms
	Swap      int64                 `json:"peak_swap"`
	Peak      int64                 `json:"peak"`            // charged, including the pages of files
	Failures  int64                 `json:"limit_failures"`  // how often the limit was reached
	Killed    int64                 `json:"killed"`          // processes that the kernel killed for lack of memory
	Notes     []string              `json:"notes,omitempty"` // changes of the plan, alerts, warnings
}

// Report is the result of Measure.
type Report struct {
	Machine bench.Machine `json:"machine"`
	Cgroup  int           `json:"cgroup_version"`
	Models  string        `json:"models"`
	Steps   int           `json:"steps"` // 0: those of the profile
	Jobs    []Result      `json:"jobs"`
	Refused *Result       `json:"refused,omitempty"` // the job under TooSmall
	bench.Results
}

// Measure runs jobs of the latentsync engine, each in a control group with a memory limit,
// and samples the memory of the group. A job that fails is part of the report. If control
// groups cannot be made, the error is of kind Missing.
func (o Options) Measure(ctx context.Context, progress lab.Progress) (*Report, error) {
	err := cmp.Or(lab.In("frames", o.Frames, 1, 10000), lab.In("steps", o.Steps, 0, 100), o.Binary.Check())
	if err != nil {
		return nil, err
	}
	if _, err := models.Find(o.Models, models.LatentSync); err != nil {
		return nil, err
	}
	dir, tools, err := lab.Folder(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	report := &Report{Machine: bench.ThisMachine(tools), Models: o.Models, Steps: o.Steps}
	r := &run{Options: o, progress: progress, tools: tools, dir: dir, report: report}
	frames := o.Frames + bench.ClipRate
	if r.clip, err = lab.MakeClip(ctx, tools, dir, frames, frames); err != nil {
		return nil, err
	}
	for _, limit := range o.Limits {
		j, err := r.job(ctx, int64(limit))
		if err != nil {
			return nil, err
		}
		report.Jobs = append(report.Jobs, *j)
	}
	if o.TooSmall > 0 {
		if report.Refused, err = r.job(ctx, int64(o.TooSmall)); err != nil {
			return nil, err
		}
	}
	report.Figures = report.figures(int64(o.Frames))
	return report, nil
}

// run is a measurement under way.
type run struct {
	Options
	progress lab.Progress
	tools    media.Tools
	clip     lab.Clip
	dir      string
	report   *Report
}

// job runs lipstream in a new group with this limit.
func (o *run) job(ctx context.Context, limit int64) (r *Result, err error) {
	group, err := cgroup.New(limit)
	if err != nil {
		return nil, err
	}
	o.report.Cgroup = group.Version
	defer func() { err = errors.Join(err, group.Close()) }()
	out, report := filepath.Join(o.dir, "out.mkv"), filepath.Join(o.dir, "report.json")
	for _, old := range []string{out, report} {
		if err := os.Remove(old); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fault.Output.Wrap("remove "+old, err)
		}
	}
	args := append(o.clip.RunArgs(o.Models, o.clip.Voice, out, report, o.Frames), lab.Flags("--memory-limit", limit, "--profile", o.Profile,
		"--backend", o.Backend, "--steps", o.Steps, "--resolution", o.Resolution, "--threads", o.Threads)...)
	name := memory.Size(limit)
	o.progress(fmt.Sprintf("%s: in %s", name, group.Dir))
	r = &Result{Limit: limit}
	var watchErr error
	stop := lab.Sample(100*time.Millisecond, func() {
		u, err := group.Usage()
		if watchErr = cmp.Or(watchErr, err); err != nil {
			return
		}
		if r.Samples++; o.sampled != nil {
			o.sampled(u)
		}
		r.Anonymous, r.Swap = max(r.Anonymous, u.Anonymous), max(r.Swap, u.Swap)
		r.Peak, r.Failures, r.Killed = u.Peak, u.Failures, u.Killed // the kernel only increases them
	})
	follow := o.progress.Follow(name)
	j, err := bench.RunJob(ctx, group.Command(o.Program, args...), func(e lipstream.Event) {
		follow(e)
		switch e.Type {
		case lipstream.EventPlan, lipstream.EventAlert, lipstream.EventWarning:
			r.Notes = append(r.Notes, e.Type+": "+e.Message)
		}
	})
	stop()
	if ctx.Err() != nil {
		return nil, err
	}
	r.Elapsed, r.ExitCode = j.Elapsed.Seconds(), j.ExitCode
	if err != nil && r.ExitCode == 0 {
		r.ExitCode = -1 // the job failed without an exit code
	}
	if r.ExitCode != 0 {
		r.Message = strings.TrimSpace(fault.Message(err) + ": " + j.End.Hint)
		o.progress(fmt.Sprintf("%s: exit code %d: %s", name, r.ExitCode, r.Message))
		return r, watchErr
	}
	if watchErr != nil {
		return nil, watchErr
	}
	job, err := lab.ReadReport(report)
	if err != nil {
		return nil, err
	}
	r.Windows, r.Seconds, r.Plan = job.Windows, job.SecondsPerWindow, job.Plan
	r.Frames, err = countFrames(ctx, o.tools, out)
	o.progress(fmt.Sprintf("%s: %.2f s per window, at most %s of anonymous memory", name, r.Seconds, memory.Size(r.Anonymous)))
	return r, err
}

// countFrames decodes a video and counts its frames.
func countFrames(ctx context.Context, tools media.Tools, path string) (n int64, err error) {
	var format frame.Format
	v, err := lab.OpenVideo(ctx, tools, path, &format)
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

// figures compares the jobs with their goals.
func (r *Report) figures(frames int64) []bench.Figure {
	var out []bench.Figure
	for _, j := range r.Jobs {
		name, k := memory.Size(j.Limit), strconv.FormatInt(j.Limit, 10)
		share := float64(j.Anonymous) / float64(j.Limit)
		if j.Samples == 0 {
			share = math.NaN()
		}
		out = append(out,
			bench.Figure{Key: "exit_" + k, Name: name + ", exit code", Value: float64(j.ExitCode), Min: new(0.0), Max: new(0.0), Note: j.Message},
			bench.Figure{Key: "frames_" + k, Name: name + ", frames", Value: float64(j.Frames), Unit: bench.Frames, Min: new(float64(frames)), Max: new(float64(frames))},
			bench.Figure{Key: "anonymous_" + k, Name: name + ", anonymous memory relative to the limit", Value: share, Unit: bench.Times, Max: new(math.Nextafter(1, 0)),
				Note: fmt.Sprintf("the highest of %d samples, %s", j.Samples, memory.Size(j.Anonymous))},
			bench.Figure{Key: "swap_" + k, Name: name + ", swap", Value: float64(j.Swap), Unit: bench.Bytes, Max: new(0.0)})
	}
	if j := r.Refused; j != nil {
		name := memory.Size(j.Limit)
		out = append(out,
			bench.Figure{Key: "refused", Name: name + ", exit code", Value: float64(j.ExitCode), Min: new(float64(fault.Memory)), Max: new(float64(fault.Memory)), Note: j.Message},
			bench.Figure{Key: "refused_within", Name: name + ", failed after", Value: j.Elapsed, Unit: bench.Seconds, Max: new(30.0)})
	}
	return out
}

// WriteTable writes the jobs and the figures.
func (r *Report) WriteTable(w io.Writer) error {
	steps := "the steps of the profile"
	if r.Steps > 0 {
		steps = strconv.Itoa(r.Steps) + " steps"
	}
	rows := [][]string{{"limit", "exit code", "frames", "windows", "s per window", "anonymous", "peak", "swap", "plan"}}
	jobs := r.Jobs
	if r.Refused != nil {
		jobs = append(jobs[:len(jobs):len(jobs)], *r.Refused)
	}
	for _, j := range jobs {
		plan := "-"
		if p := j.Plan; p != nil {
			plan = fmt.Sprintf("%d x %d frames, %s, offload %s, VAE %d frames, %d slices", p.Windows, p.Frames, p.Precision, p.Offload, p.VAEFrames, p.Slices)
			if p.Tile > 0 {
				plan += fmt.Sprintf(", tiles of %d", p.Tile)
			}
		}
		rows = append(rows, []string{memory.Size(j.Limit), strconv.Itoa(j.ExitCode), strconv.FormatInt(j.Frames, 10), strconv.FormatInt(j.Windows, 10),
			strconv.FormatFloat(j.Seconds, 'f', 2, 64), memory.Size(j.Anonymous), memory.Size(j.Peak), memory.Size(j.Swap), plan})
	}
	heading := fmt.Sprintf("%s, control groups version %d\n%s, %s\n\n", r.Machine, r.Cgroup, r.Models, steps)
	return lab.WriteReport(w, heading, rows, "", r.Figures)
}
