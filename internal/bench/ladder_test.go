package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/tensor"
)

// These make the test binary stand in for lipstream run: the first says where
// it notes what it was started with.
const (
	runVariable    = "LIPSTREAM_BENCH_RUN"
	brokenVariable = "LIPSTREAM_BENCH_RUN_BROKEN"   // the --offload that fails
	runDefaults    = "LIPSTREAM_BENCH_RUN_DEFAULTS" // options that are not given count as the base's
)

func init() {
	log := os.Getenv(runVariable)
	switch {
	case log == "" || len(os.Args) < 2:
	case os.Args[1] == "run":
		os.Exit(fakeRun(log))
	case filepath.Base(os.Args[1]) == loopScript:
		fmt.Println(`{"peer": "torch", "version": "2.15", "step_seconds": [48], "median_step_seconds": 48, "window_steps": 20, "seconds_per_window": 960, "peak_rss_bytes": 10000, "peak_rss_anon_bytes": 8000}`)
		os.Exit(0)
	}
}

// fakeRun gives a video that depends on the precision, and a report in which a
// step of a window takes a second.
func fakeRun(log string) int {
	option := func(name string) string {
		args := os.Args
		if os.Getenv(runDefaults) != "" {
			args = append(args, ladderBase(20, 1).flags()...)
		}
		if i := slices.Index(args, name); i > 0 {
			return args[i+1]
		}
		return ""
	}
	number := func(name string) float64 {
		v, err := strconv.ParseFloat(option(name), 64)
		if err != nil {
			panic(err)
		}
		return v
	}
	f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 1
	}
	_, _ = fmt.Fprintln(f, strings.Join(os.Args, " "))
	_ = f.Close()
	if option("--offload") == os.Getenv(brokenVariable) {
		fmt.Println(`{"type":"error","message":"run the job: no memory","hint":"take more","exit_code":7}`)
		return 7
	}
	filter := "null"
	if option("--precision") == "bf16" {
		filter = "lutyuv=y=val+2"
	}
	out, err := exec.Command("ffmpeg", "-v", "error", "-y", "-i", option("--video"), "-t", option("--end"), "-vf", filter, "-c:v", "ffv1", option("-o")).CombinedOutput()
	if err != nil {
		fmt.Fprintln(os.Stderr, string(out))
		return 1
	}
	frames := math.Round(number("--end") * clipRate)
	r := lipstream.Report{Frames: int64(frames), Windows: int64(frames / number("--frames-per-window")), SecondsPerWindow: number("--steps"),
		Memory: lipstream.MemoryReport{Peak: 4000, PeakAnonymous: 3000}, Plan: &lipstream.MemoryPlan{Windows: int(number("--windows")),
			FramesPerWindow: int(number("--frames-per-window")), Offload: option("--offload"), Precision: option("--precision")}}
	if option("--precision") == "bf16" {
		r.Memory.Peak = 2000
	}
	text, err := json.Marshal(r)
	if err != nil || os.WriteFile(option("--report"), text, 0o600) != nil {
		return 1
	}
	fmt.Printf(`{"type":"done","frame":%.0f}`+"\n", frames)
	return 0
}

// ladderOptions are those of a ladder whose program is this test, and the file
// that its runs are noted in.
func ladderOptions(t *testing.T) (o LadderOptions, log string) {
	t.Helper()
	if testing.Short() {
		t.Skip("encodes video")
	}
	t.Setenv(wheels.DirVariable, filepath.Dir(backendtest.Library(t, "openvino")))
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := models.Synth(t.Context(), filepath.Join(dir, "models"), models.SynthOptions{Size: "tiny", Resolution: 256, DType: tensor.F32}); err != nil {
		t.Fatal(err)
	}
	log = filepath.Join(dir, "log")
	t.Setenv(runVariable, log)
	t.Setenv(brokenVariable, "nothing")
	return LadderOptions{Program: program, Models: filepath.Join(dir, "models"), Steps: 20, Frames: 4, PeerSteps: 1, Backend: "openvino",
		Work: filepath.Join(dir, "work"), Peers: program, PeerScripts: filepath.Join("..", "..", "tools", "peers")}, log
}

func runs(t *testing.T, log string) int {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(text, []byte("\n"))
}

// TestLadder: times are scaled, results compared and kept.
func TestLadder(t *testing.T) {
	o, log := ladderOptions(t)
	t.Setenv(brokenVariable, "model")
	o.Quick, o.Rows = 2, []string{"bf16", "dpm", "frames", "windows2", "vae-tile", "model", "all"}
	r, err := Ladder(t.Context(), o)
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
		"vae-tile": {run: 2, note: "not run: for 512 pixels and more"},
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
	if err := r.WriteTable(&b); err != nil || !strings.Contains(b.String(), "| failed: ") || !strings.Contains(b.String(), "--quick 2") {
		t.Errorf("%v\n%s", err, b.String())
	}
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "|") && strings.Count(line, "|") != 13 {
			t.Errorf("%q has other columns", line)
		}
	}
	for _, name := range []string{"a.png", "a.svg"} {
		if err := r.Plot(filepath.Join(t.TempDir(), name)); err != nil {
			t.Error(err)
		}
	}

	// Again, only what has failed is run.
	before := runs(t, log)
	if r, err = Ladder(t.Context(), o); err != nil || runs(t, log) != before+1 {
		t.Errorf("%d runs after %d, %v", runs(t, log), before, err)
	}
	if again, _ := r.row(rowAll); !near(again.Seconds, 10) || again.PSNR == nil {
		t.Errorf("kept as %+v", again)
	}
	// Other flags are another measurement: both bases, and all.
	o.Threads, o.Rows = 1, []string{"all", "windows2"}
	if _, err = Ladder(t.Context(), o); err != nil || runs(t, log) != before+1+4 {
		t.Errorf("%d runs after %d, %v", runs(t, log), before+1, err)
	}
	// Without the base there is nothing.
	t.Setenv(brokenVariable, "none")
	o.Threads = 2
	if _, err = Ladder(t.Context(), o); fault.KindOf(err) != fault.Memory || !strings.Contains(err.Error(), "the base") {
		t.Errorf("%v", err)
	}
}

func TestLadderRefused(t *testing.T) {
	good := LadderOptions{Steps: 20, Frames: 16, PeerSteps: 1, Models: "nowhere"}
	for want, change := range map[string]func(*LadderOptions){
		"--steps 0: is out":        func(o *LadderOptions) { o.Steps = 0 },
		"--frames 25: is out":      func(o *LadderOptions) { o.Frames = 25 },
		"--quick -1: is out":       func(o *LadderOptions) { o.Quick = -1 },
		`"bf15": there is no such`: func(o *LadderOptions) { o.Rows = []string{"bf16", "bf15"} },
		"find the peer":            func(o *LadderOptions) { o.Peers, o.PeerScripts = "python3", "nowhere" },
		"find the checkpoints":     func(*LadderOptions) {},
	} {
		o := good
		change(&o)
		_, err := Ladder(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), want) || fault.HintOf(err) == "" {
			t.Errorf("%v (%s), want %q", err, fault.HintOf(err), want)
		}
	}
}

// TestLadderGoals: they are missed where nothing was measured, and only set for
// the original's loop.
func TestLadderGoals(t *testing.T) {
	r := LadderReport{Steps: 20, Frames: 16, Rows: []LadderRow{{Key: rowAll, Seconds: 100, Peak: 600, Anonymous: 500}}}
	r.finish()
	if len(Missed(r.Figures)) != 2 {
		t.Errorf("without PyTorch: %+v", r.Figures)
	}
	r.Loop = &LoopResult{Seconds: 799, PeakRSS: 1000, AnonymousPeak: 1000}
	r.finish()
	if len(Missed(r.Figures)) != 2 || !near(r.Figures[0].Value, 7.99) || !near(r.Figures[2].Value, 7.99*0.75) {
		t.Errorf("too slow and too large: %+v", r.Figures)
	}
	r.Steps = 2
	r.finish()
	if len(Missed(r.Figures)) != 0 {
		t.Errorf("another measurement: %+v", r.Figures)
	}
}

// TestLadderRowsDiffer: every row changes something of the base, and says
// whether that is the steps.
func TestLadderRowsDiffer(t *testing.T) {
	base := ladderBase(20, 16)
	for _, r := range ladderRows {
		s := base
		r.set(&s)
		if (s == base) != (r.key == rowBase) {
			t.Errorf("%s: %+v", r.key, s)
		}
		if (s.steps != base.steps || s.deepcache != base.deepcache) != r.resteps {
			t.Errorf("%s does not say that it changes the steps", r.key)
		}
	}
}
