// Package labtest lets a test binary imitate lipstream run.
package labtest

import (
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
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/tensor"
)

const (
	logVariable = "LIPSTREAM_TEST_RUN" // the file to which its command line is appended
	// Broken is the environment variable with the value of --offload for which it fails.
	Broken = "LIPSTREAM_TEST_RUN_BROKEN"
	// Until is the environment variable with the file that must exist before it ends.
	Until = "LIPSTREAM_TEST_RUN_UNTIL"
)

// Run imitates lipstream run if this process was started as such, and reports whether it
// was. TestMain must call it first.
func Run() (code int, ok bool) {
	log := os.Getenv(logVariable)
	if log == "" || len(os.Args) < 2 || os.Args[1] != "run" {
		return 0, false
	}
	if err := run(log); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	for until := os.Getenv(Until); until != ""; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(until); err == nil {
			break
		}
	}
	if option("--offload") == os.Getenv(Broken) {
		return 7, true
	}
	return 0, true
}

// option returns the value of a flag, or its default.
func option(name string) string {
	if i := slices.Index(os.Args, name); i > 0 {
		return os.Args[i+1]
	}
	return map[string]string{"--precision": "f32", "--frames-per-window": "1", "--windows": "1", "--offload": "none"}[name]
}

// run makes a video that depends on the precision, and a report in which each step of a
// window takes a second.
func run(log string) error {
	number := func(name string) float64 {
		v, err := strconv.ParseFloat(option(name), 64)
		if err != nil {
			panic(err)
		}
		return v
	}
	f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := fmt.Fprintln(f, strings.Join(os.Args, " ")); err != nil {
		return err
	}
	if option("--offload") == os.Getenv(Broken) {
		fmt.Println(`{"type":"error","message":"run the job: no memory","hint":"take more","exit_code":7}`)
		return nil
	}
	filter, peak := "null", int64(4000)
	if option("--precision") == "bf16" {
		filter, peak = "lutyuv=y=val+2", 2000
	}
	out, err := exec.Command("ffmpeg", "-v", "error", "-y", "-i", option("--video"), "-t", option("--end"), "-vf", filter, "-c:v", "ffv1", option("-o")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	frames, window := math.Round(number("--end")*bench.ClipRate), number("--frames-per-window")
	text, err := json.Marshal(lipstream.Report{Frames: int64(frames), Windows: int64(frames / window), SecondsPerWindow: number("--steps"),
		Stages: []lipstream.StageReport{{Name: "VAE decoder", Part: lipstream.PartEngine, Busy: frames / 4}, {Name: "VAE decoder", Part: lipstream.PartPipeline, Busy: 9}},
		Memory: lipstream.MemoryReport{Peak: peak, PeakAnonymous: 3000}, Plan: &lipstream.MemoryPlan{Windows: int(number("--windows")),
			Frames: int(window), Offload: memory.Offload(option("--offload")), Precision: option("--precision")}})
	if err != nil {
		return err
	}
	fmt.Printf(`{"type":"done","frame":%.0f}`+"\n", frames)
	return os.WriteFile(option("--report"), text, 0o600)
}

// Setup prepares a test that uses its own binary as the program. It returns the program, a
// folder with tiny checkpoints, and a function that returns the command lines so far.
func Setup(t *testing.T) (program, folder string, runs func() []string) {
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
	folder, log := filepath.Join(dir, "models"), filepath.Join(dir, "log")
	if _, err := models.Synth(t.Context(), folder, models.SynthOptions{Size: "tiny", Resolution: 256, DType: tensor.F32}); err != nil {
		t.Fatal(err)
	}
	t.Setenv(logVariable, log)
	t.Setenv(Broken, "nothing")
	return program, folder, func() []string {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
}
