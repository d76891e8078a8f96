package ladder

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/tools/bench/lab"
	"github.com/lipstream/lipstream/tools/bench/lab/labtest"
)

// TestMain lets the test binary stand in for lipstream run and for the loop in
// PyTorch.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && filepath.Base(os.Args[1]) == lab.LoopScript {
		fmt.Println(`{"peer": "torch", "version": "2.15", "step_seconds": [48], "median_step_seconds": 48, "window_steps": 20, "seconds_per_window": 960, "peak_rss_bytes": 10000, "peak_rss_anon_bytes": 8000}`)
		return
	}
	if code, ok := labtest.Run(); ok {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// near reports whether two figures agree but for rounding.
func near(a, b float64) bool { return math.Abs(a-b) < 1e-9*max(1, math.Abs(b)) }

// TestMeasure: times are scaled, results compared and kept.
func TestMeasure(t *testing.T) {
	program, models, runs := labtest.Setup(t)
	o := Options{Binary: lab.Binary{Program: program}, Models: models, Steps: 20, Frames: 4, PeerSteps: 1, Backend: "openvino",
		Work: filepath.Join(t.TempDir(), "work"), Peer: lab.Peer{Peers: program, PeerScripts: "../../peers"}}
	t.Setenv(labtest.Broken, "model")
	o.Quick, o.Rows = 2, []string{"bf16", "dpm", "frames", "windows2", "vae-tile", "tiny", "model", "all"}
	r, err := o.Measure(t.Context(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	type want struct {
		run       int
		seconds   float64
		exact     bool
		psnr      bool
		note, err string
	}
	wants := map[string]want{
		"base": {run: 20, seconds: 20, exact: true},
		// Two seconds for two steps are 20 for 20.
		"bf16": {run: 2, seconds: 20, psnr: true},
		"dpm":  {run: 10, seconds: 10, exact: true},
		// Two windows of 2 frames make 4.
		"frames": {run: 2, seconds: 40, exact: true},
		// The fake gives the time of each of two windows, which go over 8 frames.
		"windows2": {run: 2, seconds: 20, exact: true},
		"vae-tile": {run: 2, note: "not run: only for 512 pixels and more"},
		"tiny":     {run: 2, seconds: 20, exact: true},
		"model":    {run: 2, err: "no memory"},
		"all":      {run: 10, seconds: 10, psnr: true},
	}
	if len(r.Rows) != len(wants) {
		t.Errorf("%d rows", len(r.Rows))
	}
	for _, row := range r.Rows {
		w := wants[row.Key]
		if row.StepsRun != w.run || !near(row.Seconds, w.seconds) || row.Exact != w.exact || (row.PSNR != nil) != w.psnr ||
			row.Note != w.note || !strings.Contains(row.Error, w.err) || (row.Error == "") != (w.err == "") {
			t.Errorf("%+v, want %+v", row, w)
		}
		// The fake takes a quarter of a second for each frame, and the base has 4.
		if row.Seconds > 0 && !near(row.VAE, 1) {
			t.Errorf("%s: VAE %f", row.Key, row.VAE)
		}
		// Luma is 2 off everywhere.
		if row.PSNR != nil && math.Abs(*row.PSNR-10*math.Log10(255*255/4.0)) > 1e-6 {
			t.Errorf("%s: PSNR %f", row.Key, *row.PSNR)
		}
	}
	all, _ := r.row(rowAll)
	if !near(all.SpeedUp, 2) || !near(all.MemoryRatio, 0.5) || !near(all.ToTorch, 96) || !near(all.TorchMemory, 0.2) {
		t.Errorf("%+v", all)
	}
	if !near(r.Figures[0].Value, 96) || !near(r.Figures[1].Value, 0.2) {
		t.Errorf("%+v", r.Figures)
	}
	var b bytes.Buffer
	if err := r.WriteTable(&b); err != nil || !strings.Contains(b.String(), "| failed: ") || !strings.Contains(b.String(), "--quick 2") || !strings.Contains(b.String(), "TAESD's rows") {
		t.Errorf("%v\n%s", err, b.String())
	}
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "|") && strings.Count(line, "|") != 14 {
			t.Errorf("%q has other columns", line)
		}
	}
	for _, name := range []string{"a.png", "a.svg"} {
		if err := r.plot(filepath.Join(t.TempDir(), name)); err != nil {
			t.Error(err)
		}
	}

	// Again, only what has failed is run.
	before := len(runs())
	if r, err = o.Measure(t.Context(), func(string) {}); err != nil || len(runs()) != before+1 {
		t.Errorf("%d runs after %d, %v", len(runs()), before, err)
	}
	if again, _ := r.row(rowAll); !near(again.Seconds, 10) || again.PSNR == nil {
		t.Errorf("kept as %+v", again)
	}
	// Other flags are another measurement: both bases, and all.
	o.Threads, o.Rows = 1, []string{"all", "windows2"}
	if _, err = o.Measure(t.Context(), func(string) {}); err != nil || len(runs()) != before+1+4 {
		t.Errorf("%d runs after %d, %v", len(runs()), before+1, err)
	}
	// Without the base there is nothing.
	t.Setenv(labtest.Broken, "none")
	o.Threads = 2
	if _, err = o.Measure(t.Context(), func(string) {}); fault.KindOf(err) != fault.Memory || !strings.Contains(err.Error(), "the base") {
		t.Errorf("%v", err)
	}
}

func TestRefused(t *testing.T) {
	good := Options{Binary: lab.Binary{Program: os.Args[0]}, Steps: 20, Frames: 16, PeerSteps: 1, Models: "nowhere"}
	for want, change := range map[string]func(*Options){
		"`steps`: 0 is out":         func(o *Options) { o.Steps = 0 },
		"`frames`: 25 is out":       func(o *Options) { o.Frames = 25 },
		"`quick`: -1 is out":        func(o *Options) { o.Quick = -1 },
		"`resolution`: 300 is not":  func(o *Options) { o.Resolution = 300 },
		"`rows`: \"bf15\" does not": func(o *Options) { o.Rows = []string{"bf16", "bf15"} },
		"find lipstream nowhere":    func(o *Options) { o.Program = "nowhere" },
		"find the peer nowhere":     func(o *Options) { o.Peers, o.PeerScripts = "python3", "nowhere" },
		"find the checkpoints":      func(*Options) {},
	} {
		o := good
		change(&o)
		_, err := o.Measure(t.Context(), func(string) {})
		if err == nil || !strings.Contains(err.Error(), want) || fault.HintOf(err) == "" {
			t.Errorf("%v (%s), want %q", err, fault.HintOf(err), want)
		}
	}
}

// TestGoals: they are missed where nothing was measured, and only set for
// the original's loop.
func TestGoals(t *testing.T) {
	r := Report{Steps: 20, Frames: 16, Rows: []Row{{Key: rowAll, Seconds: 100, Peak: 600, Anonymous: 500}}}
	r.finish()
	if len(bench.Missed(r.Figures)) != 2 {
		t.Errorf("without PyTorch: %+v", r.Figures)
	}
	r.Loop = &LoopResult{Seconds: 1590, Timing: lab.Timing{Memory: lab.Memory{PeakRSS: 1000, AnonymousPeak: 1000}}}
	r.finish()
	if len(bench.Missed(r.Figures)) != 3 || !near(r.Figures[0].Value, 15.9) || !near(r.Figures[2].Value, 15.9*0.75) {
		t.Errorf("too slow and too large: %+v", r.Figures)
	}
	r.Steps = 2
	r.finish()
	if len(bench.Missed(r.Figures)) != 0 {
		t.Errorf("another measurement: %+v", r.Figures)
	}
}

// TestRowsDiffer: every row changes something of the base, and says
// whether that is the steps.
func TestRowsDiffer(t *testing.T) {
	base := exact(20, 16)
	for _, r := range variants {
		s := base
		r.set(&s)
		if (s == base) != (r.key == rowBase) {
			t.Errorf("%s: %+v", r.key, s)
		}
		if (s.steps != base.steps || s.deepcache != base.deepcache || s.guidanceTo != 0 || s.guidanceEnough > 0 || s.guidanceEvery > 0) != r.resteps {
			t.Errorf("%s does not say that it changes the steps", r.key)
		}
	}
}
