package bench

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
)

// The test binary stands in for lipstream where this variable says how.
const fakeProgram, fakeMark = "LIPSTREAM_BENCH_FAKE", "LIPSTREAM_BENCH_MARK"

func TestMain(m *testing.M) {
	if how := os.Getenv(fakeProgram); how != "" {
		os.Exit(fake(how))
	}
	os.Exit(m.Run())
}

// fake behaves like lipstream run --json, or like a peer of bench unet.
func fake(how string) int {
	if how == "peer" {
		return fakePeer()
	}
	fmt.Println(`{"type":"start","engine":"preview"}`)
	switch how {
	case "good":
		fmt.Println(`{"type":"stage","stage":"frames","elapsed_s":1}`)
		fmt.Println(`{"type":"stage","stage":"finish","elapsed_s":3}`)
		fmt.Println(`{"type":"done","frame":50,"memory_peak":123,"no_face":2,"engine":"preview"}`)
	case "no face":
		fmt.Println(`{"type":"error","message":"no usable face","exit_code":4}`)
		return 4
	case "garbage":
		fmt.Println("panic: runtime error")
		fmt.Fprintln(os.Stderr, "goroutine 1")
		return 2
	case "silent":
	case "wait":
		c := make(chan os.Signal, 1)
		signal.Notify(c, os.Interrupt)
		fmt.Println(`{"type":"progress","stage":"frames","frame":1}`)
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

func TestJob(t *testing.T) {
	r, err := fakeJob(t, "good")
	if err != nil || r.Frames != 50 || r.MemoryPeak != 123 || r.NoFace != 2 || !near(r.FramesFPS, 25) || r.FPS <= 0 || r.Engine != "preview" {
		t.Errorf("%+v, %v", r, err)
	}
	for how, kind := range map[string]fault.Kind{"no face": fault.NoFace, "garbage": fault.Internal, "silent": fault.Internal} {
		if _, err := fakeJob(t, how); err == nil || fault.KindOf(err) != kind {
			t.Errorf("%s: %v", how, err)
		}
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
	o := RunOptions{Program: program, progressAtOnce: true, Progress: func(string) { cancel() }}
	if _, err := o.job(ctx, "video", "voice", "out", 2); fault.KindOf(err) != fault.Cancelled {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Error("it was not asked to end")
	}
}
