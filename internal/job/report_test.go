package job

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/pipeline"
)

// worker is an engine that has nothing but a report.
type worker struct {
	lip.Engine
	report lip.Report
}

func (worker) Name() string         { return "worker 1" }
func (w worker) Report() lip.Report { return w.report }

// reported returns the report and the events of a job that does this with its
// reporter.
func reported(t *testing.T, do func(*reporter), failed error) (*Report, []Event) {
	t.Helper()
	var events []Event
	r := newReporter(t.Context(), ObserverFunc(func(e Event) { events = append(events, e) }))
	do(r)
	var result Result
	if failed == nil {
		result = Result{Frames: 3, FPS: 25}
	}
	r.end(&result, failed)
	if result.Report == nil {
		t.Fatal("no report")
	}
	return result.Report, events
}

func TestReport(t *testing.T) {
	plan := memory.Plan{Windows: 1, Frames: 8, VAEFrames: 1, Tile: 256, Slices: 2, Offload: memory.OffloadModel, Precision: "bf16"}
	e := worker{report: lip.Report{
		Work:    []lip.Work{{Name: "UNet", Calls: 40, Busy: 8 * time.Second, Memory: 3 << 30}, {Name: "step"}},
		Windows: 2, Window: 9 * time.Second, Wall: 10 * time.Second, Busy: 9700 * time.Millisecond,
		Plan: &plan, Budget: 5 << 30,
	}}
	var held []byte
	report, events := reported(t, func(r *reporter) {
		r.start("latentsync", "as asked", Job{Output: "out.mp4"})
		r.phase(PhaseProbe)
		r.phase(PhaseLoad)
		held = make([]byte, 64<<20)
		for i := range held {
			held[i] = 1
		}
		r.phase(PhaseFrames)
		r.frames(pipeline.Stats{Frames: 3, NoFace: 1, Cuts: 2, Stages: []pipeline.StageTime{{Name: "decode", Calls: 3, Busy: 1234567 * time.Nanosecond}}})
		r.note(EventAlert, "15 of 24 GB")
		r.planned(plan, "the GPU is nearly full")
		r.warn("short")
		r.phase(PhaseFinish)
		r.worked(e)
	}, nil)
	if held[5] != 1 {
		t.Fatal(held[5])
	}
	want := []StageReport{
		{Name: "decode", Part: PartPipeline, Calls: 3, Busy: 0.001235},
		{Name: "UNet", Part: PartEngine, Calls: 40, Busy: 8, Memory: 3 << 30},
	}
	if d := cmp.Diff(want, report.Stages); d != "" {
		t.Errorf("stages (-want +got):\n%s", d)
	}
	if report.Windows != 2 || report.SecondsPerWindow != 4.5 || report.DeviceBusy != 0.97 {
		t.Errorf("windows %d, %g s, busy %g", report.Windows, report.SecondsPerWindow, report.DeviceBusy)
	}
	if report.Engine != "worker 1" || report.Output != "out.mp4" || report.Error != "" || report.Frames != 3 || report.NoFace != 1 || report.Cuts != 2 || report.FPS != 25 {
		t.Errorf("%+v", report)
	}
	if d := cmp.Diff(&plan, report.Plan); d != "" || report.Memory.Budget != 5<<30 {
		t.Errorf("plan within %d (-want +got):\n%s", report.Memory.Budget, d)
	}
	checkPhases(t, report, PhaseProbe, PhaseLoad, PhaseFrames, PhaseFinish)
	load := report.Phases[1]
	if load.End < load.Begin+50<<20 || load.Peak < load.End || load.End != report.Phases[2].Begin || report.Memory.Before != load.End {
		t.Errorf("64 MiB were taken: %+v, before %d", load, report.Memory.Before)
	}
	const replanned = "the GPU is nearly full: continues with 1 window of 8 frames, tiles of 256 pixels, attention in 2 slices, bf16, offload model"
	if len(report.Notes) != 3 {
		t.Fatalf("notes %+v", report.Notes)
	}
	types := []string{EventAlert, EventPlan, EventWarning}
	for i, message := range []string{"15 of 24 GB", replanned, "short"} {
		if n := report.Notes[i]; n.Kind != types[i] || n.Message != message || n.At < 0 || n.At > report.Elapsed {
			t.Errorf("note %+v", n)
		}
	}
	var sent []string
	for _, e := range events {
		if e.Type == EventAlert || e.Type == EventPlan {
			sent = append(sent, e.Type+" "+e.Phase+" "+e.Message)
		}
	}
	if d := cmp.Diff([]string{"alert frames 15 of 24 GB", "plan frames " + replanned}, sent); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
}

// checkPhases checks that the phases follow each other without gaps to the end of
// the job.
func checkPhases(t *testing.T, report *Report, names ...string) {
	t.Helper()
	var got []string
	for i, p := range report.Phases {
		got = append(got, p.Name)
		next := report.Elapsed
		if i+1 < len(report.Phases) {
			next = report.Phases[i+1].At
		}
		if gap := next - p.At - p.Seconds; gap < -3e-6 || gap > 3e-6 {
			t.Errorf("phase %s from %g for %g, the next at %g", p.Name, p.At, p.Seconds, next)
		}
		if p.Begin <= 0 || p.End <= 0 || p.Peak < max(p.Begin, p.End) || p.Peak > report.Memory.Peak {
			t.Errorf("phase %+v with a peak of %d", p, report.Memory.Peak)
		}
	}
	if d := cmp.Diff(names, got); d != "" {
		t.Errorf("phases (-want +got):\n%s", d)
	}
}

// TestReportOfFailure reports a job that failed in its load phase, and one that
// failed before its first phase.
func TestReportOfFailure(t *testing.T) {
	report, _ := reported(t, func(r *reporter) {
		r.start("latentsync", "", Job{Output: "out.mp4"})
		r.phase(PhaseLoad)
	}, fault.Missing.New("load m.pt", "is damaged", "get another"))
	if report.Error != "load m.pt: is damaged" || report.Engine != "latentsync" || report.Frames != 0 || report.Plan != nil {
		t.Errorf("%+v", report)
	}
	checkPhases(t, report, PhaseLoad)

	report, _ = reported(t, func(*reporter) {}, errors.New("wrong option"))
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	for _, empty := range []string{`"stages":[]`, `"phases":[]`, `"notes":[]`, `"history":[{`, `"error":"wrong option"`, `"windows":0`} {
		if !strings.Contains(string(text), empty) {
			t.Errorf("no %s in %s", empty, text)
		}
	}
}

// TestReportOfRun checks that a job that was refused or cancelled has a report.
func TestReportOfRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, ctx := range map[string]context.Context{"refused": t.Context(), "cancelled": ctx} {
		result, err := Run(ctx, Job{}, nil)
		if err == nil || result.Report == nil || result.Report.Error != fault.Message(err) || result.Report.Memory.Peak == 0 {
			t.Errorf("%s: %v, %+v", name, err, result.Report)
		}
	}
}

// TestReportWithoutWindows reports an engine that measures nothing, and one whose
// second window is not done yet.
func TestReportWithoutWindows(t *testing.T) {
	report, _ := reported(t, func(r *reporter) { r.worked(worker{}) }, nil)
	if report.Engine != "worker 1" || len(report.Stages) != 0 || report.Windows != 0 || report.SecondsPerWindow != 0 || report.DeviceBusy != 0 || report.Plan != nil || report.Memory.Budget != 0 {
		t.Errorf("%+v", report)
	}
	first := lip.Report{Windows: 1, Window: 3 * time.Second, Busy: time.Second}
	report, _ = reported(t, func(r *reporter) { r.worked(worker{report: first}) }, nil)
	if report.Windows != 1 || report.SecondsPerWindow != 3 || report.DeviceBusy != 0 {
		t.Errorf("%+v", report)
	}
}

func TestThinKeepsPeaks(t *testing.T) {
	began := time.Unix(1000, 0)
	for _, n := range []int{0, 1, 599, 600, 601, 1200, 1201} {
		history := make([]memory.Sample, n)
		for i := range history {
			history[i] = memory.Sample{Time: began.Add(time.Duration(i) * time.Second), Usage: memory.Usage{Self: int64(i % 7), Children: 5, Mapped: 3, Anonymous: 2}}
		}
		if n > 100 {
			history[71].Usage.Self = 1000
		}
		got := thin(history, began, maxSamples)
		if len(got) > maxSamples || len(got) < min(n, maxSamples/3) {
			t.Errorf("%d samples of %d", len(got), n)
		}
		found := n <= 100
		for i, s := range got {
			if i > 0 && s.At <= got[i-1].At {
				t.Fatalf("of %d: %g s after %g s", n, s.At, got[i-1].At)
			}
			found = found || s == MemorySample{At: 71, Total: 1005, Self: 1000, Children: 5, Mapped: 3, Anonymous: 2}
		}
		if !found {
			t.Errorf("the peak of %d samples was lost", n)
		}
	}
}

func TestNotesAreBounded(t *testing.T) {
	report, _ := reported(t, func(r *reporter) {
		for range 2 * maxNotes {
			r.warn("again")
		}
	}, nil)
	if len(report.Notes) != maxNotes {
		t.Errorf("%d notes", len(report.Notes))
	}
}

// TestReportOfDevice reports where the engine computed, and the peak of the GPU's memory.
func TestReportOfDevice(t *testing.T) {
	report, _ := reported(t, func(r *reporter) {
		r.used(9 << 30) // no GPU yet
		r.device("onnxruntime", backend.Device{ID: "cuda:0", Name: "a card"}, &memory.GPU{Total: 24 << 30, Used: 1 << 30})
		r.used(7 << 30)
		r.used(5 << 30)
	}, nil)
	if want := (DeviceMemory{24 << 30, 1 << 30, 7 << 30}); report.Memory.Device == nil || *report.Memory.Device != want || report.Backend != "onnxruntime" || report.Device != "cuda:0" || report.DeviceName != "a card" {
		t.Errorf("%+v, %+v", report, report.Memory.Device)
	}
	report, _ = reported(t, func(r *reporter) { r.device("openvino", backend.Device{ID: "cpu"}, nil) }, nil)
	if report.Memory.Device != nil || report.Device != "cpu" {
		t.Errorf("%+v", report)
	}
}
