package bench

import (
	"bytes"
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
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/models"
)

// LadderOptions say what Ladder measures.
type LadderOptions struct {
	Program    string   // the lipstream binary to run
	Models     string   // folder of the checkpoints
	Rows       []string // keys of LadderRows; none for all
	Steps      int      // of DDIM in the base, 1 to 100
	Quick      int      // steps of rows that do not change the steps; 0 for all
	Frames     int      // of a window, 2 to 24
	Resolution int      // 256 or 512; 0 is the checkpoint's
	Backend    string
	Threads    int // CPU threads, PyTorch's too; 0 is one for each processor
	// Work keeps what was measured, so that an interrupted ladder goes on where
	// it stopped; "" is a temporary folder.
	Work string
	// Peers is a Python that tools/peers/setup.sh has made; "" compares with
	// nothing. PeerScripts is the folder tools/peers.
	Peers, PeerScripts string
	PeerSteps          int               // steps of the peer's loop that are timed, after one to warm up
	Progress           func(line string) // for people, may be nil
}

// ladder is a measurement under way.
type ladder struct {
	LadderOptions
	tools   media.Tools
	dir     string // Work
	program string // SHA-256 of the program
	unet    string // the checkpoint
	sum     string // of the checkpoints' sizes and times
	report  *LadderReport
	// regions are what the engine generates, in each frame of a window.
	regions []*region
	format  frame.Format // of the clip
}

// ladderResult is what a run has given, as it is kept in the work folder.
type ladderResult struct {
	Key    string            `json:"key"` // of all that the result depends on
	Time   time.Time         `json:"time"`
	Report *lipstream.Report `json:"report"`
}

// Ladder measures each switch of the latentsync engine alone, and all together,
// against the exact job and the original's loop in PyTorch. Every row is a run
// of the program in a process of its own. A row that fails is noted; when the
// base fails, so does the ladder.
func Ladder(ctx context.Context, o LadderOptions) (*LadderReport, error) {
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
	l := &ladder{LadderOptions: o, tools: tools, dir: o.Work, unet: set.UNet}
	if l.dir == "" {
		if l.dir, err = os.MkdirTemp("", "lipstream-bench-"); err != nil {
			return nil, fault.Output.Wrap("make a folder for the measurement", err)
		}
		defer func() { _ = os.RemoveAll(l.dir) }()
	} else if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return nil, fault.Output.Wrap("keep the measurement in "+l.dir, fault.WithoutPath(err), "give another --work")
	}
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
		return nil, fault.Usage.New("measure "+o.Models, "what resolution the checkpoint is for is not known", "give --resolution 256 or 512")
	}
	l.report = &LadderReport{Machine: thisMachine(tools), Models: o.Models, Version: version.String(), Resolution: l.Resolution,
		Backend: o.Backend, Threads: o.Threads, Steps: o.Steps, Quick: o.Quick, Frames: o.Frames}
	if err := l.inputs(ctx); err != nil {
		return nil, err
	}
	// Before anything slow: a runtime that is missing is told of at once.
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

// check refuses what cannot be measured.
func (o *LadderOptions) check() ([]ladderSwitch, error) {
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	for _, v := range []struct {
		name             string
		value, low, high int
	}{
		{"--steps", o.Steps, 1, 100}, {"--quick", o.Quick, 0, 100}, {"--frames", o.Frames, 2, 24},
		{"--threads", o.Threads, 0, 1024}, {"--peer-steps", o.PeerSteps, 1, 100},
	} {
		if v.value < v.low || v.value > v.high {
			return nil, fault.Usage.New("option "+v.name+" "+strconv.Itoa(v.value), "is out of range", fmt.Sprintf("%d to %d", v.low, v.high))
		}
	}
	if o.Peers != "" {
		script := filepath.Join(o.PeerScripts, loopScript)
		if _, err := os.Stat(script); err != nil {
			return nil, fault.Missing.Wrap("find the peer "+script, fault.WithoutPath(err), "run it in Lipstream's source folder, or give --peer-scripts")
		}
	}
	return chooseRows(o.Rows)
}

// The files of the work folder.
const (
	clipFile   = "clip.mkv"
	voiceFile  = "voice.wav"
	pausesFile = "pauses.wav"
	// voiceFrom is where the demo voice begins to speak for 1.5 s without a pause.
	voiceFrom = "1"
)

// inputs makes the clip, the demo's portrait standing still without loss, long
// enough for any row; a voice that speaks; and one that falls silent after the
// first window.
func (l *ladder) inputs(ctx context.Context) error {
	m, err := newMaker(ctx, l.tools, l.dir, RunOptions{Video: "none"})
	if err != nil {
		return err
	}
	return m.still(ctx, clipSeconds(5*l.Frames), filepath.Join(l.dir, clipFile), filepath.Join(l.dir, voiceFile),
		clipSeconds(l.Frames), filepath.Join(l.dir, pausesFile))
}

// clipSeconds writes a number of frames as time.
func clipSeconds(frames int) string {
	return strconv.FormatFloat(float64(frames)/clipRate, 'f', 3, 64)
}

// rows measures all rows.
func (l *ladder) rows(ctx context.Context, rows []ladderSwitch) error {
	jobs, notes, needFull := make([]ladderJob, len(rows)), make([]string, len(rows)), false
	for i, r := range rows {
		jobs[i], notes[i] = r.job(l.LadderOptions, l.Resolution)
		needFull = needFull || r.resteps
	}
	for i, r := range rows {
		j, row := jobs[i], LadderRow{Key: r.key, Name: r.name, Note: notes[i], Steps: l.Steps}
		row.StepsRun, row.Frames = j.settings.steps, j.frames
		if r.resteps {
			row.Steps = j.settings.steps
		}
		row.Flags = strings.Join(j.settings.flags(), " ")
		if row.Note != "" {
			l.report.Rows = append(l.report.Rows, row)
			continue
		}
		// The exact result that the row is compared with has as many steps, but
		// where the row has its own.
		base := ladderJob{id: rowBase, settings: ladderBase(j.settings.steps, l.Frames), frames: l.Frames}
		if r.resteps || r.key == rowBase && needFull {
			base.settings.steps = l.Steps
		}
		base.id += strconv.Itoa(base.settings.steps)
		reference, err := l.measure(ctx, base)
		if err != nil {
			return fmt.Errorf("the base: %w", err) // without it nothing can be compared
		}
		m := reference
		if r.key == rowBase {
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

// fill takes a run into its row.
func (l *ladder) fill(ctx context.Context, row *LadderRow, j, base ladderJob, m, reference ladderResult) error {
	r := m.Report
	if r.Windows == 0 || r.SecondsPerWindow == 0 {
		return fault.Internal.New("read the report of "+row.Name, "it has no windows")
	}
	row.Time, row.Windows, row.SecondsRun, row.Plan = m.Time, r.Windows, r.SecondsPerWindow, r.Plan
	row.Peak, row.Anonymous, row.DeviceBusy = r.Memory.Peak, r.Memory.PeakAnonymous, r.DeviceBusy
	row.seconds(l.Frames)
	whole := LadderRow{Windows: reference.Report.Windows, SecondsRun: reference.Report.SecondsPerWindow,
		Frames: base.frames, Steps: l.Steps, StepsRun: base.settings.steps}
	whole.seconds(l.Frames)
	row.SpeedUp = whole.Seconds / row.Seconds
	if reference.Report.Memory.Peak > 0 {
		row.MemoryRatio = float64(row.Peak) / float64(reference.Report.Memory.Peak)
	}
	if p := r.Plan; p != nil && (p.Offload != string(j.settings.offload) || p.Precision != j.settings.precision ||
		p.FramesPerWindow != j.settings.frames || p.Windows != j.settings.windows) {
		row.Note = fmt.Sprintf("ended with another plan: %d x %d frames, %s, offload %s", p.Windows, p.FramesPerWindow, p.Precision, p.Offload)
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

func (l *ladder) file(j ladderJob, ending string) string { return filepath.Join(l.dir, j.id+ending) }

// measure runs a job, unless the work folder has its result.
func (l *ladder) measure(ctx context.Context, j ladderJob) (m ladderResult, err error) {
	report, out, kept := l.file(j, ".report.json"), l.file(j, ".mkv"), l.file(j, ".json")
	voice := voiceFile
	if j.pauses {
		voice = pausesFile
	}
	args := []string{"run", "--json", "--engine", "latentsync", "--models", l.Models,
		"--video", filepath.Join(l.dir, clipFile), "--audio", filepath.Join(l.dir, voice), "-o", out, "-y", "--codec", "ffv1",
		"--length", "shortest", "--end", clipSeconds(j.frames), "--resume", "never", "--report", report}
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
	// It would speak of an output that is now replaced.
	if err := os.Remove(kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ladderResult{}, fault.Output.Wrap("remove "+kept, fault.WithoutPath(err), "give another --work")
	}
	l.Progress(fmt.Sprintf("%s: %d frames, %s", j.id, j.frames, strings.Join(j.settings.flags(), " ")))
	cmd := exec.CommandContext(ctx, l.Program, args...)
	if _, err = runJob(ctx, cmd, stepProgress(j.id, l.Progress)); err != nil {
		return ladderResult{}, err
	}
	m = ladderResult{Key: key, Time: time.Now().UTC().Truncate(time.Second)}
	if m.Report, err = readReport(report); err != nil {
		return ladderResult{}, err
	}
	if m.Report.Frames != int64(j.frames) {
		return ladderResult{}, fault.Internal.New("run the job "+j.id, fmt.Sprintf("it made %d frames of %d", m.Report.Frames, j.frames))
	}
	m.Report.Memory.History = nil
	l.Progress(fmt.Sprintf("%s: %.2f s per window", j.id, m.Report.SecondsPerWindow))
	return m, keep(kept, m)
}

// keep writes a result so that it is there whole or not at all.
func keep(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = os.WriteFile(path+".part", append(text, '\n'), 0o644)
	}
	if err == nil {
		err = os.Rename(path+".part", path)
	}
	return fault.Output.Wrap("keep the result "+path, err)
}

// readReport reads what lipstream run --report has written.
func readReport(path string) (*lipstream.Report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Internal.Wrap("read the report "+path, fault.WithoutPath(err))
	}
	r := &lipstream.Report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fault.Internal.Wrap("read the report "+path, err)
	}
	return r, nil
}

// runJob runs lipstream run --json to its end and gives its last event. Of a
// job that fails, the error has the kind that the job gave.
func runJob(ctx context.Context, cmd *exec.Cmd, each func(lipstream.Event)) (lipstream.Event, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	// It gets the time to end its own children and remove its files.
	cmd.Cancel = func() error { return interrupt(cmd.Process) }
	cmd.WaitDelay = 20 * time.Second
	ownGroup(cmd)
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return lipstream.Event{}, fault.Internal.Wrap("run "+cmd.Path, err)
	}
	log := eventLog{}
	readErr := log.read(stdout, each)
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return log.end, fault.Cancelled.Wrap("measure", ctx.Err())
	case err != nil:
		return log.end, log.failure(err, stderr.String())
	case readErr != nil:
		return log.end, fault.Internal.Wrap("read the events of "+cmd.Path, readErr)
	case log.end.Type != lipstream.EventDone:
		return log.end, fault.Internal.New("run "+cmd.Path, "it ended well without an event that says so")
	}
	return log.end, nil
}

// stepProgress tells people every now and then how far a job is.
func stepProgress(name string, tell func(string)) func(lipstream.Event) {
	last := time.Now()
	return func(e lipstream.Event) {
		switch {
		case e.Type == lipstream.EventWarning || e.Type == lipstream.EventAlert || e.Type == lipstream.EventPlan:
			tell(name + ": " + e.Message)
		case e.Type == lipstream.EventProgress && time.Since(last) > progressEvery:
			last = time.Now()
			tell(fmt.Sprintf("%s: %s, frame %d of %d, step %d of %d", name, e.Stage, e.Frame, e.Frames, e.Step, e.Steps))
		}
	}
}

// textSum is a SHA-256 over texts.
func textSum(texts ...string) string {
	h := sha256.New()
	for _, t := range texts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(t), t) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil))
}

// fileSum is a SHA-256 over a file.
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

// folderState tells one state of a folder's files from another by their sizes
// and times: checkpoints are too large to be read for it.
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
