package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/backend/sharedtest"
	"github.com/lipstream/lipstream/internal/fault"
)

// The test binary stands in for lipstream where this variable says how.
const fakeProgram, fakeMark = "LIPSTREAM_BENCH_FAKE", "LIPSTREAM_BENCH_MARK"

func TestMain(m *testing.M) {
	if how := os.Getenv(fakeProgram); how != "" {
		os.Exit(fake(how))
	}
	sharedtest.Main(m)
}

// fake behaves like lipstream run --json.
func fake(how string) int {
	fmt.Println(`{"type":"start","engine":"preview"}`)
	switch how {
	case "good":
		fmt.Println(`{"type":"phase","phase":"frames","elapsed_s":1}`)
		fmt.Println(`{"type":"phase","phase":"finish","elapsed_s":3}`)
		fmt.Println(`{"type":"done","frame":50,"memory_peak":123,"no_face":2,"engine":"preview"}`)
	case "no face":
		fmt.Println(`{"type":"error","message":"no usable face","hint":"another video","exit_code":4}`)
		return 4
	case "garbage":
		fmt.Println("panic: runtime error")
		fmt.Fprintln(os.Stderr, "out of luck\ngoroutine 1")
		return 2
	case "silent":
	case "wait":
		c := make(chan os.Signal, 1)
		signal.Notify(c, os.Interrupt)
		fmt.Println(`{"type":"progress","phase":"frames","frame":1}`)
		<-c
		if os.WriteFile(os.Getenv(fakeMark), nil, 0o600) != nil {
			return 1
		}
		return 130
	}
	return 0
}

func fakeJob(t *testing.T, how string) (RunResult, error) {
	t.Helper()
	t.Setenv(fakeProgram, how)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := RunOptions{Program: program, Engine: "preview", Progress: func(string) {}}
	return o.job(t.Context(), "video", "voice", "out", 2)
}

func TestRunRefusesLengths(t *testing.T) {
	for _, s := range []float64{0, -1, 1e6, math.NaN()} {
		if _, err := Run(t.Context(), RunOptions{Seconds: []float64{10, s}}); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "`seconds`") {
			t.Errorf("%v: %v", s, err)
		}
	}
}

func TestJob(t *testing.T) {
	r, err := fakeJob(t, "good")
	if err != nil || r.Frames != 50 || r.MemoryPeak != 123 || r.NoFace != 2 || !near(r.FramesFPS, 25) || r.FPS <= 0 || r.Engine != "preview" {
		t.Errorf("%+v, %v", r, err)
	}
	for how, kind := range map[string]fault.Kind{"no face": fault.NoFace, "garbage": fault.Internal, "silent": fault.Internal} {
		_, err := fakeJob(t, how)
		if err == nil || fault.KindOf(err) != kind {
			t.Errorf("%s: %v", how, err)
		}
		switch {
		case how == "no face" && (fault.HintOf(err) != "another video" || !strings.Contains(err.Error(), "no usable face")):
			t.Errorf("%v, %s", err, fault.HintOf(err))
		case how == "garbage" && (!strings.Contains(err.Error(), "goroutine 1") || !strings.Contains(err.Error(), "out of luck")):
			t.Error(err)
		}
	}
	j, err := RunJob(t.Context(), exec.Command(filepath.Join(t.TempDir(), "none.exe")), nil)
	if !errors.Is(err, os.ErrNotExist) || fault.KindOf(err) != fault.Internal || j.ExitCode != -1 {
		t.Errorf("%+v, %v", j, err)
	}
}

// TestInterruptedJob: the program is asked to end and may clean up.
func TestInterruptedJob(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no interrupt to send")
	}
	mark := filepath.Join(t.TempDir(), "mark")
	t.Setenv(fakeMark, mark)
	t.Setenv(fakeProgram, "wait")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := RunOptions{Program: program, everyEvent: true, Progress: func(string) { cancel() }}
	if _, err := o.job(ctx, "video", "voice", "out", 2); fault.KindOf(err) != fault.Cancelled {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Error("it was not asked to end")
	}
}

func TestEvents(t *testing.T) {
	const lines = `{"type":"start","elapsed_s":0}
{"type":"phase","phase":"frames","elapsed_s":1.5}
{"type":"progress","phase":"frames","frame":50,"elapsed_s":2}
{"type":"phase","phase":"finish","elapsed_s":5.5,"frame":100}
{"type":"done","frame":100,"memory_peak":1000,"elapsed_s":6}
`
	var j Job
	n := 0
	if err := j.read(strings.NewReader(lines), func(lipstream.Event) { n++ }); err != nil {
		t.Fatal(err)
	}
	if n != 5 || j.End.Type != lipstream.EventDone || j.End.MemoryPeak != 1000 {
		t.Errorf("%d events, the last is %+v", n, j.End)
	}
	if d := j.frames.Seconds(); d != 4 {
		t.Errorf("the frames took %v s", d)
	}
	if err := j.read(strings.NewReader("panic: not JSON\nmore\n"), func(lipstream.Event) {}); err == nil {
		t.Error("a line that is not an event was accepted")
	}
}
