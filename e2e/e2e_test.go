// Package e2e_test drives the built binary as a user would, with real ffmpeg
// and a real inference runtime. What a shell can express is in testdata/script;
// signals, killed children, full disks and terminals are Go tests.
//
// No test looks at the clock. A test waits for a state, however long that
// takes, and checks it; only the -timeout of the test run ends a wait.
package e2e_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/backend/backendtest"
)

// Environment variables that change how the tests run.
const (
	binaryVariable = "LIPSTREAM_BIN"  // a binary to test instead of a fresh build
	longVariable   = "LIPSTREAM_LONG" // if set, tests that take minutes run as well
)

// parallel is how many tests run at once unless -parallel says otherwise. It
// exceeds the number of CPUs because many tests wait.
const parallel = "4"

// Set up once by TestMain.
var (
	binary     string // absolute path of lipstream
	inputs     string // folder with the inputs that many tests share
	runtimeDir string // LIPSTREAM_RUNTIME_DIR with all installed runtimes; "" if there is none
	quickDir   string // the same with the runtime that loads networks fastest
	noRuntime  string // why runtimeDir is empty
)

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	if node := os.Getenv(natsVariable); node != "" {
		return runNATS(node)
	}
	flag.Parse()
	if testing.Short() {
		fmt.Println("e2e: skipped because of -short")
		return 0
	}
	explicit := false
	flag.Visit(func(f *flag.Flag) { explicit = explicit || f.Name == "test.parallel" })
	if !explicit {
		if err := flag.Set("test.parallel", parallel); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
	}
	dir, err := os.MkdirTemp("", "lipstream-e2e-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		err = setUp(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return m.Run()
}

// setUp builds the binary, finds the runtime and makes the shared inputs.
func setUp(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		return err
	}
	binary = filepath.Join(dir, "bin", "lipstream")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	if given := os.Getenv(binaryVariable); given != "" {
		data, err := os.ReadFile(given)
		if err == nil {
			err = os.WriteFile(binary, data, 0o700) // scripts run it by this name
		}
		if err != nil {
			return err
		}
	} else {
		build := exec.Command("go", "build", "-o", binary, "./cmd/lipstream")
		build.Dir = ".."
		// A static binary, as users get it, even if the tests run with -race.
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build: %w\n%s", err, out)
		}
	}
	findRuntime()
	if err := findFFmpeg(); err != nil {
		return err
	}
	// For jobs that run in this process.
	if err := errors.Join(os.Setenv("LIPSTREAM_JOBS_DIR", filepath.Join(dir, "jobs")), os.Setenv("LIPSTREAM_RUNTIME_DIR", quickDir)); err != nil {
		return err
	}
	inputs = filepath.Join(dir, "in")
	return makeInputs(inputs)
}

// findRuntime asks the binary where its libraries are, because the tests hide
// the user's home and cache from it. ONNX Runtime loads networks several times
// faster than OpenVINO; tests that are not about inference use it.
func findRuntime() {
	if runtimeDir = os.Getenv("LIPSTREAM_RUNTIME_DIR"); runtimeDir != "" {
		quickDir = runtimeDir
		return
	}
	parents := map[string]int{}
	for _, name := range []string{"openvino", "onnxruntime"} {
		out, err := exec.Command(binary, "runtime", "path", name).CombinedOutput()
		if err != nil {
			noRuntime = strings.TrimSpace(string(out))
			continue
		}
		dir := filepath.Dir(strings.TrimSpace(string(out)))
		if runtimeDir == "" {
			runtimeDir = dir
		}
		quickDir = dir
		// If Lipstream installed both, the parent folder offers both.
		if parents[filepath.Dir(dir)]++; parents[filepath.Dir(dir)] == 2 {
			runtimeDir = filepath.Dir(dir)
		}
	}
}

// findFFmpeg puts the ffmpeg that Lipstream has installed on PATH, if there is none.
func findFFmpeg() error {
	if _, err := exec.LookPath("ffmpeg"); err == nil {
		return nil
	}
	out, err := exec.Command(binary, "runtime", "path", "ffmpeg").Output()
	if err != nil {
		return fmt.Errorf("find ffmpeg: %w", err)
	}
	return os.Setenv("PATH", filepath.Dir(strings.TrimSpace(string(out)))+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// needRuntime skips the test if no runtime is installed, or fails it if one is
// required.
func needRuntime(t *testing.T) {
	t.Helper()
	if runtimeDir != "" {
		return
	}
	if os.Getenv(backendtest.RequireVariable) != "" || os.Getenv("CI") != "" {
		t.Fatal("no runtime is installed: " + noRuntime)
	}
	t.Skip("no runtime is installed: " + noRuntime)
}

// waitUntil polls until ok returns true. Only the -timeout of the test run ends
// it before.
func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	for !ok() {
		if t.Context().Err() != nil {
			t.FailNow()
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// needLong skips a test that takes minutes unless LIPSTREAM_LONG is set.
func needLong(t *testing.T) {
	t.Helper()
	if os.Getenv(longVariable) == "" {
		t.Skip("takes minutes; set " + longVariable + "=1")
	}
}

// makeInputs creates the small files that most tests use:
//
//	portrait.png, speech.wav   of testdata/demo
//	head.mp4      2 s, 25 fps, 320x240: the portrait, nodding; no sound
//	fifth.wav     0.2 s of speech, short.wav 0.4 s, one.wav 1 s, two.wav 2 s, three.wav 3 s; 22050 Hz, mono
//	pair.mp4      2 s, 640x240: two faces side by side
//	long.mp4      60 s of head.mp4; long.wav 60 s of speech
//	wall.mp4      1 s without a face
func makeInputs(dir string) error {
	demo, err := filepath.Abs("../testdata/demo")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"portrait.png", "speech.wav"} {
		data, err := os.ReadFile(filepath.Join(demo, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	const x264 = "-c:v libx264 -preset ultrafast -crf 10 -pix_fmt yuv420p -g 25"
	for _, line := range []string{
		"-loop 1 -framerate 25 -i portrait.png -t 2 -vf scale=340:340,rotate=0.04*sin(2*PI*t),crop=320:240:10:30+4*sin(3*t) " + x264 + " head.mp4",
		"-ss 0.2 -i speech.wav -t 0.2 fifth.wav",
		"-ss 0.2 -i speech.wav -t 0.4 short.wav",
		"-i speech.wav -t 1 one.wav",
		"-i speech.wav -t 2 two.wav",
		"-i speech.wav -t 3 three.wav",
		"-stream_loop 9 -i speech.wav -t 60 long.wav",
		"-stream_loop 29 -i head.mp4 -c copy long.mp4",
		"-i head.mp4 -filter_complex [0]split[a][b];[b]hflip[c];[a][c]hstack " + x264 + " pair.mp4",
		"-f lavfi -i testsrc2=size=320x240:rate=25 -t 1 " + x264 + " wall.mp4",
	} {
		if err := ffmpeg(dir, strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

// ffmpeg runs ffmpeg in dir.
func ffmpeg(dir string, args ...string) error {
	cmd := exec.Command("ffmpeg", append([]string{"-v", "error", "-nostdin", "-y"}, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ffmpeg %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// in returns the path of a shared input.
func in(name string) string { return filepath.Join(inputs, name) }

// environment returns the environment of lipstream in the Go tests, with its own
// home, cache and temporary folder below dir. mark identifies its children.
func environment(dir, mark string) []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case strings.HasPrefix(name, "LIPSTREAM_"), strings.HasPrefix(name, "HF_"), name == "HOME", name == "XDG_CACHE_HOME", name == "TMPDIR", name == "NO_COLOR", name == "TERM":
			continue
		}
		env = append(env, kv)
	}
	cache, temporary := filepath.Join(dir, ".cache"), filepath.Join(dir, ".tmp")
	return append(env, "HOME="+filepath.Join(dir, ".home"), "XDG_CACHE_HOME="+cache, "TMPDIR="+temporary,
		"LOCALAPPDATA="+cache, "TMP="+temporary, // Windows
		"LIPSTREAM_RUNTIME_DIR="+quickDir, markVariable+"="+mark)
}

// markVariable in the environment of a job identifies its children, even if
// their parent has ended.
const markVariable = "E2E_MARK"

// listing returns every file below dir with its size and modification time.
// A failed command must not change any of them.
func listing(dir string) (map[string]string, error) {
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasSuffix(path, filepath.Join("lipstream", "jobs")) {
			return filepath.SkipDir // checkpoints of interrupted jobs
		}
		if d.IsDir() {
			return nil
		}
		st, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil // removed in the meantime
		}
		if err != nil {
			return err
		}
		out[path] = fmt.Sprintf("%d bytes of %s", st.Size(), st.ModTime().Format(time.RFC3339Nano))
		return nil
	})
	return out, err
}

// difference describes how two listings differ, or returns "".
func difference(before, after map[string]string) string {
	var b strings.Builder
	for path, now := range after {
		switch was, ok := before[path]; {
		case !ok:
			fmt.Fprintf(&b, "new file %s: %s\n", path, now)
		case was != now:
			fmt.Fprintf(&b, "changed file %s: %s, was %s\n", path, now, was)
		}
	}
	for path := range before {
		if _, ok := after[path]; !ok {
			fmt.Fprintf(&b, "lost file %s\n", path)
		}
	}
	return b.String()
}

// noDisplay is what ONNX Runtime prints where Windows has no display, as in Wine.
const noDisplay = "Failed to create DXGI factory.\r\n"

// checkMessage checks what a failed command printed: one line "lipstream: ..."
// and at most one line "hint: ...".
func checkMessage(stderr string) error {
	stderr = strings.TrimPrefix(stderr, noDisplay)
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	switch {
	case !strings.HasSuffix(stderr, "\n") || !strings.HasPrefix(lines[0], "lipstream: "):
		return fmt.Errorf("the message does not start with \"lipstream: \": %q", stderr)
	case len(lines) > 2, len(lines) == 2 && !strings.HasPrefix(lines[1], "hint: "):
		return fmt.Errorf("more than one message and one hint: %q", stderr)
	}
	for _, bad := range []string{"goroutine ", "panic:", "%!", "<nil>", "runtime error"} {
		if strings.Contains(stderr, bad) {
			return fmt.Errorf("the message contains %q: %q", bad, stderr)
		}
	}
	return nil
}

// exitOf returns the exit code in the error of a command that ran: -1 for a
// signal, 0 for no error.
func exitOf(err error) (int, error) {
	if err == nil {
		return 0, nil
	}
	if x, ok := errors.AsType[*exec.ExitError](err); ok {
		return x.ExitCode(), nil
	}
	return 0, err
}
