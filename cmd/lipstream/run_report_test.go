package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
)

const mib = 1 << 20

func testReport() *lipstream.Report {
	return &lipstream.Report{
		Engine: "latentsync 1.5", Output: "out.mp4", Frames: 250, Elapsed: 700, Windows: 21, SecondsPerWindow: 31.25, DeviceBusy: 0.962,
		Stages: []lipstream.StageReport{
			{Name: "decode", Part: lipstream.PartPipeline, Calls: 250, Busy: 0.994},
			{Name: "engine", Part: lipstream.PartPipeline, Calls: 250, Busy: 660},
			{Name: "UNet", Part: lipstream.PartEngine, Calls: 840, Busy: 599.96, Memory: 3 * gib},
		},
		Memory: lipstream.MemoryReport{
			Peak: 4 * gib, PeakAnonymous: 2 * gib, Before: gib, After: 200 * mib, Budget: 6 * gib,
			History: []lipstream.MemorySample{{At: 0, Total: 10 * mib, Self: 10 * mib}, {At: 699, Total: 4 * gib, Self: 3 * gib, Children: gib, Anonymous: 2 * gib}},
		},
		Phases: []lipstream.PhaseReport{{Name: lipstream.PhaseProbe, Seconds: 1}, {Name: lipstream.PhaseFrames, At: 1, Seconds: 680}},
		Notes:  []lipstream.Note{},
	}
}

func TestPrintReport(t *testing.T) {
	var b bytes.Buffer
	printReport(&b, testReport())
	want := `STAGE   CALLS  BUSY     SHARE  MEMORY
decode  250    0.99 s   0%     -
engine  250    11:00    94%    -
  UNet  840    600.0 s  86%    3.0 GiB
memory: 1.0 GiB before the frames, peak 4.0 GiB (anonymous 2.0 GiB), after 200.0 MiB, budget 6.0 GiB
windows: 21, 31.2 s each, device busy 96.2%
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	// An empty report: no NaN, no line about windows.
	b.Reset()
	printReport(&b, &lipstream.Report{Stages: []lipstream.StageReport{{Name: "decode", Part: lipstream.PartPipeline, Busy: 1}}})
	if got := b.String(); strings.Contains(got, "NaN") || strings.Contains(got, "windows") || !strings.Contains(got, "decode  0      1.00 s  -") {
		t.Errorf("%q", got)
	}
}

// TestWriteReport writes both files, and replaces them.
func TestWriteReport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"m.png", "m.svg", "M.PNG"} {
		flags := reportFlags{Report: filepath.Join(dir, "r.json"), ReportPlot: filepath.Join(dir, name)}
		if err := flags.check(false); err != nil {
			t.Fatal(err)
		}
		if err := flags.write(testReport()); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(flags.Report)
		if err != nil {
			t.Fatal(err)
		}
		var back lipstream.Report
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(testReport(), &back); d != "" {
			t.Errorf("read back (-want +got):\n%s", d)
		}
		plot, err := os.ReadFile(flags.ReportPlot)
		if err != nil || !bytes.HasPrefix(plot, []byte("\x89PNG")) && !bytes.Contains(plot, []byte("<svg")) {
			t.Errorf("%s: %v, %.20q", name, err, plot)
		}
	}
	svg, err := os.ReadFile(filepath.Join(dir, "m.svg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"total", "this process", "children", "anonymous", "budget", "peak", "start of probe", "start of frames", "memory (MiB)"} {
		if !bytes.Contains(svg, []byte(text)) {
			t.Errorf("the plot does not say %q", text)
		}
	}
	// A job that failed before its start has an empty report.
	flags := reportFlags{ReportPlot: filepath.Join(dir, "empty.png")}
	if err := flags.write(&lipstream.Report{}); err != nil {
		t.Error(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(names) > 0 {
		t.Errorf("files left over: %v %v", names, err)
	}
}

func TestReportPathsAreChecked(t *testing.T) {
	dir := t.TempDir()
	face := filepath.Join(dir, "face.png")
	if err := os.WriteFile(face, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "folder.json")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		flags  reportFlags
		dryRun bool
		kind   fault.Kind
		says   string
	}{
		{reportFlags{Report: "r.txt"}, false, fault.Usage, "`report`: r.txt is not the name of a JSON file"},
		{reportFlags{Report: "out.mp4"}, false, fault.Usage, "out.mp4 is not the name of a JSON file"},
		{reportFlags{ReportPlot: "`report_plot`: r.jpg is not the name"}, false, fault.Usage, "r.jpg"},
		{reportFlags{ReportPlot: filepath.Join(dir, "r")}, false, fault.Usage, "is not the name of a PNG or SVG file"},
		{reportFlags{Report: filepath.Join(dir, "r.json")}, true, fault.Usage, "`dry_run`: writes no report"},
		{reportFlags{Report: filepath.Join(dir, "none", "r.json")}, false, fault.Output, "cannot be written"},
		{reportFlags{ReportPlot: filepath.Join(dir, "none", "r.svg")}, false, fault.Output, "cannot be written"},
		{reportFlags{Report: folder}, false, fault.Output, "not a regular file"},
		{reportFlags{ReportPlot: face}, false, fault.Output, "the same file as the input"},
	}
	for _, tt := range tests {
		err := tt.flags.check(tt.dryRun, face, "voice.wav")
		if err == nil || fault.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.says) || fault.HintOf(err) == "" {
			t.Errorf("%+v: %v", tt.flags, err)
		}
	}
	if err := (&reportFlags{}).check(true); err != nil {
		t.Error(err)
	}
}
