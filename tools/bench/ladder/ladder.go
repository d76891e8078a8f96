// Package ladder measures each switch of the latentsync engine.
package ladder

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

// Options configures Measure.
type Options struct {
	lab.Binary
	Models     string   `required:"" placeholder:"FOLDER" help:"Where the checkpoints are. Convert them first: lipstream models prepare --dtype bf16."`
	Rows       []string `placeholder:"ROW" help:"Measure only these, and the base: bf16, dpm, deepcache, guidance, frames, windows2, windows4, slices, vae-frames, vae-tile, model, sequential, silence, all, lowmem."`
	Steps      int      `default:"20" placeholder:"N" help:"DDIM's steps in the exact job; DPM-Solver++ takes half as many."`
	Quick      int      `placeholder:"N" help:"Run only N steps in rows that do not change the steps, and scale their time; the table says so."`
	Frames     int      `default:"16" placeholder:"N" help:"Frames of a window, 2 to 24."`
	Resolution int      `placeholder:"256|512" help:"Default: what the checkpoint was made for. 128 is quick, to try the command."`
	Backend    string   `default:"auto" placeholder:"auto|openvino|onnxruntime" help:"What runs the networks."`
	Threads    int      `placeholder:"N" help:"CPU threads, those of PyTorch too. Default: one for each processor."`

	Work string `placeholder:"FOLDER" help:"Keep the results here, and continue from them."`
	lab.Peer
	PeerSteps int          `default:"3" placeholder:"N" help:"Steps of PyTorch's loop to time, after one to warm up."`
	Progress  lab.Progress `kong:"-"`
}

// ladder is a measurement under way.
type ladder struct {
	Options
	tools   media.Tools
	clip    lab.Clip
	program string // SHA-256 of the program
	unet    string // the checkpoint
	sum     string // of the sizes and times of the checkpoints
	report  *Report
	// regions are what the engine generates, in each frame of a window.
	regions []*bench.Region
	format  frame.Format // of the clip
}

// result is the result of a run, as the work folder keeps it.
type result struct {
	Key    string            `json:"key"` // of all that the result depends on
	Time   time.Time         `json:"time"`
	Report *lipstream.Report `json:"report"`
}

// Measure measures each switch of the latentsync engine alone, and all together,
// against the exact job and the original's loop in PyTorch. Every row is a run
// of the program in a process of its own. A row that fails is noted; if the base
// fails, so does the measurement.
func Measure(ctx context.Context, o Options) (*Report, error) {
	rows, err := o.check()
	if err != nil {
		return nil, err
	}
	set, err := models.Find(o.Models)
	if err != nil {
		return nil, err
	}
	tools, err := media.FindTools(ctx)
	if err != nil {
		return nil, err
	}
	l := &ladder{Options: o, tools: tools, unet: set.UNet}
	if l.Work == "" {
		if l.Work, err = os.MkdirTemp("", "lipstream-bench-"); err != nil {
			return nil, fault.Output.Wrap("make a folder for the measurement", err)
		}
		defer func() { _ = os.RemoveAll(l.Work) }()
	} else if err := os.MkdirAll(l.Work, 0o755); err != nil {
		return nil, fault.Output.Wrap("keep the measurement in "+l.Work, fault.WithoutPath(err), "set `work` to another folder")
	}
	l.clip = lab.ClipIn(l.Work)
	if l.program, err = fileSum(o.Program); err != nil {
		return nil, fault.Internal.Wrap("read "+o.Program, err)
	}
	if l.sum, err = folderState(o.Models); err != nil {
		return nil, fault.Input.Wrap("read "+o.Models, err)
	}
	version, err := models.Identify(ctx, set.UNet)
	if err != nil {
		return nil, err
	}
	if l.Resolution = cmp.Or(l.Resolution, version.Resolution); l.Resolution == 0 {
		return nil, fault.Usage.New("measure "+o.Models, "the resolution of the checkpoint is unknown", "set `resolution` to 256 or 512")
	}
	l.report = &Report{Machine: bench.ThisMachine(tools), Models: o.Models, Version: version.String(), Resolution: l.Resolution,
		Backend: o.Backend, Threads: o.Threads, Steps: o.Steps, Quick: o.Quick, Frames: o.Frames}
	// Long enough for every row; the voice pauses after the first window.
	if err := l.clip.Make(ctx, tools, 5*l.Frames, l.Frames); err != nil {
		return nil, err
	}
	// Before anything slow, so that a missing runtime is reported at once.
	if err := l.findRegions(ctx); err != nil {
		return nil, err
	}
	if err := l.rows(ctx, rows); err != nil {
		return nil, err
	}
	if o.Peers != "" {
		if l.report.Loop, err = l.loop(ctx); err != nil {
			return nil, err
		}
	}
	l.report.finish()
	return l.report, nil
}

// check returns the rows to measure, or what is wrong with the options.
func (o *Options) check() ([]variant, error) {
	if o.Resolution != 0 && o.Resolution != 128 && o.Resolution != 256 && o.Resolution != 512 {
		return nil, fault.Field("resolution", fmt.Sprint(o.Resolution), "is not a resolution of LatentSync", "set it to 256 or 512; 128 is quick, to try the command")
	}
	err := cmp.Or(lab.In("steps", o.Steps, 1, 100), lab.In("quick", o.Quick, 0, 100), lab.In("frames", o.Frames, 2, 24),
		lab.In("threads", o.Threads, 0, 1024), lab.In("peer_steps", o.PeerSteps, 1, 100),
		o.Binary.Check(), o.Peer.Check(lab.LoopScript))
	if err != nil {
		return nil, err
	}
	return chooseRows(o.Rows)
}

// rows measures all rows.
func (l *ladder) rows(ctx context.Context, variants []variant) error {
	needFull := false
	for _, v := range variants {
		needFull = needFull || v.resteps
	}
	for _, v := range variants {
		j := v.job(l.Options)
		row := Row{Key: v.key, Name: v.name, Steps: l.Steps, StepsRun: j.settings.steps, Frames: j.frames,
			Flags: strings.Join(j.settings.flags(), " ")}
		if v.resteps {
			row.Steps = j.settings.steps
		}
		if v.pixels > l.Resolution {
			row.Note = fmt.Sprintf("not run: for %d pixels and more", v.pixels)
			l.report.Rows = append(l.report.Rows, row)
			continue
		}
		// A row is compared with an exact result of as many steps, or, if it
		// changes the steps, with the full one.
		base := job{settings: exact(j.settings.steps, l.Frames), frames: l.Frames}
		if v.resteps || v.key == rowBase && needFull {
			base.settings.steps = l.Steps
		}
		base.id = fmt.Sprint(rowBase, base.settings.steps)
		reference, err := l.measure(ctx, base)
		if err != nil {
			return fmt.Errorf("the base: %w", err) // nothing can be compared without it
		}
		m := reference
		if v.key == rowBase {
			j = base
			row.StepsRun = base.settings.steps
			row.Flags = strings.Join(base.settings.flags(), " ")
		} else if m, err = l.measure(ctx, j); ctx.Err() != nil {
			return err
		}
		if err == nil {
			err = l.fill(ctx, &row, j, base, m, reference)
		}
		if ctx.Err() != nil {
			return fault.Cancelled.Wrap("measure", ctx.Err())
		}
		if err != nil {
			row.Error = fault.Message(err)
			l.Progress(row.Name + ": " + row.Error)
		}
		l.report.Rows = append(l.report.Rows, row)
	}
	return nil
}

// fill puts the result of a run into its row.
func (l *ladder) fill(ctx context.Context, row *Row, j, base job, m, reference result) error {
	r := m.Report
	if r.Windows == 0 || r.SecondsPerWindow == 0 {
		return fault.Internal.New("read the report of "+row.Name, "it has no windows")
	}
	row.Time, row.Windows, row.SecondsRun, row.Plan = m.Time, r.Windows, r.SecondsPerWindow, r.Plan
	row.Peak, row.Anonymous, row.DeviceBusy = r.Memory.Peak, r.Memory.PeakAnonymous, r.DeviceBusy
	row.seconds(l.Frames)
	whole := Row{Windows: reference.Report.Windows, SecondsRun: reference.Report.SecondsPerWindow,
		Frames: base.frames, Steps: l.Steps, StepsRun: base.settings.steps}
	whole.seconds(l.Frames)
	row.SpeedUp = whole.Seconds / row.Seconds
	if reference.Report.Memory.Peak > 0 {
		row.MemoryRatio = float64(row.Peak) / float64(reference.Report.Memory.Peak)
	}
	if p := r.Plan; p != nil && (p.Offload != j.settings.offload || p.Precision != j.settings.precision ||
		p.Frames != j.settings.frames || p.Windows != j.settings.windows) {
		row.Note = fmt.Sprintf("ended with another plan: %d x %d frames, %s, offload %s", p.Windows, p.Frames, p.Precision, p.Offload)
	}
	if j.pauses {
		row.Note = strings.TrimPrefix(row.Note+"; of 4 windows the last 3 are silent", "; ")
		return nil
	}
	if row.Key == rowBase {
		row.Exact = true
		return nil
	}
	value, exact, err := l.psnr(ctx, l.file(base, ".mkv"), l.file(j, ".mkv"))
	if err != nil {
		return err
	}
	row.Exact = exact
	if !exact {
		row.PSNR = &value
	}
	return nil
}

func (l *ladder) file(j job, ending string) string { return filepath.Join(l.Work, j.id+ending) }

// measure runs a job, unless the work folder has its result.
func (l *ladder) measure(ctx context.Context, j job) (m result, err error) {
	report, out, kept := l.file(j, ".report.json"), l.file(j, ".mkv"), l.file(j, ".json")
	voice := l.clip.Voice
	if j.pauses {
		voice = l.clip.Pauses
	}
	args := []string{"run", "--json", "--engine", "latentsync", "--models", l.Models,
		"--video", l.clip.Video, "--audio", voice, "-o", out, "-y", "--codec", "ffv1",
		"--length", "shortest", "--end", lab.Seconds(j.frames), "--resume", "never", "--report", report}
	args = append(args, j.settings.flags()...)
	args = append(args, "--resolution", strconv.Itoa(l.Resolution))
	if l.Backend != "" {
		args = append(args, "--backend", l.Backend)
	}
	if l.Threads > 0 {
		args = append(args, "--threads", strconv.Itoa(l.Threads))
	}
	key := textSum(append([]string{l.program, l.sum}, args...)...)
	if text, err := os.ReadFile(kept); err == nil && json.Unmarshal(text, &m) == nil && m.Key == key && m.Report != nil {
		if _, err := os.Stat(out); err == nil {
			return m, nil
		}
	}
	// It describes an output that is now replaced.
	if err := os.Remove(kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return result{}, fault.Output.Wrap("remove "+kept, fault.WithoutPath(err), "set `work` to another folder")
	}
	l.Progress(fmt.Sprintf("%s: %d frames, %s", j.id, j.frames, strings.Join(j.settings.flags(), " ")))
	if _, err = bench.RunJob(ctx, exec.Command(l.Program, args...), l.Progress.Follow(j.id)); err != nil {
		return result{}, err
	}
	m = result{Key: key, Time: time.Now().UTC().Truncate(time.Second)}
	if m.Report, err = lab.ReadReport(report); err != nil {
		return result{}, err
	}
	if m.Report.Frames != int64(j.frames) {
		return result{}, fault.Internal.New("run the job "+j.id, fmt.Sprintf("it made %d frames of %d", m.Report.Frames, j.frames))
	}
	m.Report.Memory.History = nil
	l.Progress(fmt.Sprintf("%s: %.2f s per window", j.id, m.Report.SecondsPerWindow))
	return m, keep(kept, m)
}

// keep writes a result, whole or not at all.
func keep(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = disk.WriteFile(path, append(text, '\n'), 0o644)
	}
	return fault.Output.Wrap("keep the result "+path, fault.WithoutPath(err))
}

// textSum returns a SHA-256 of texts.
func textSum(texts ...string) string {
	h := sha256.New()
	for _, t := range texts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(t), t)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// fileSum returns the SHA-256 of a file.
func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// folderState returns a sum that changes with the sizes and times of the files in
// a folder. Checkpoints are too large to be read for it.
func folderState(dir string) (string, error) {
	var texts []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := os.Stat(path) // behind links
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			texts = append(texts, fmt.Sprint(path, info.Size(), info.ModTime().UnixNano()))
		}
		return err
	})
	return textSum(texts...), err
}
