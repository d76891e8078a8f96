package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lipstream/lipstream/internal/backend/backendtest"
)

// debianPython is the Python that has Debian's torch; it may not be the first in PATH.
const debianPython = "/usr/bin/python3"

func needTorch(t *testing.T) {
	t.Helper()
	if out, err := exec.Command(debianPython, "-c", "import torch, numpy, PIL").CombinedOutput(); err != nil {
		if os.Getenv(backendtest.RequireVariable) != "" {
			t.Fatalf("apt-get install python3-torch python3-numpy python3-pil: %s", out)
		}
		t.Skip("no torch")
	}
}

// freePort reserves a port for a program that the test starts: a socket that is
// bound but does not listen keeps the system from giving the port to others.
func freePort(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(address.(*unix.SockaddrInet4).Port)
}

func comfyuiFolder(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../comfyui")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestComfyUIUnits runs the unit tests of the Python package.
func TestComfyUIUnits(t *testing.T) {
	t.Parallel()
	needTorch(t)
	cmd := exec.CommandContext(t.Context(), debianPython, "-B", "-m", "unittest", "discover", "-s", "comfyui/tests")
	cmd.Dir, cmd.Env = "..", environment(t.TempDir(), newMark())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// driven is the report of drive.py, documented there.
type driven struct {
	OK            bool
	Error         *struct{ Type, Text string }
	Interrupted   bool
	Frames        int
	Width, Height int
	MD5           []string
	Audio         struct {
		Shape      []int
		SampleRate int `json:"sample_rate"`
	}
	Progress, Previews int
	Tensors, Overhead  int64
	Strings            map[string][]string
}

// drive runs a workflow through the nodes.
func drive(t *testing.T, workflow, server string, args ...string) (d driven) {
	t.Helper()
	return driveWith(t, nil, nil, workflow, server, args...)
}

// driveWith runs a workflow with a program that runs the rest of its command line, and
// with additions to the environment.
func driveWith(t *testing.T, wrapper, env []string, workflow, server string, args ...string) (d driven) {
	t.Helper()
	dir := t.TempDir()
	command := slices.Concat(wrapper, []string{debianPython, "-B", filepath.Join(comfyuiFolder(t), "tests", "drive.py"), "workflow",
		"--server", server, "--workflow", workflow, "--input", inputs, "--out", dir}, args)
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	var stderr bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stderr = dir, append(environment(dir, newMark()), env...), &stderr
	out, err := cmd.Output()
	if jsonErr := json.Unmarshal(out, &d); jsonErr != nil {
		t.Fatalf("%v, %v\n%s%s", err, jsonErr, out, stderr.String())
	}
	return d
}

// rgbFrames returns checksums of the frames of a video, converted to RGB24 exactly.
func rgbFrames(t *testing.T, path string) (sums []string) {
	t.Helper()
	const flags = "flags=bicubic+accurate_rnd+full_chroma_int"
	cmd := exec.Command("ffmpeg", "-v", "error", "-i", path, "-an", "-vf",
		"scale="+flags+":in_color_matrix=bt709:in_range=tv,format=gbrp,scale="+flags+",format=rgb24", "-f", "framemd5", "-")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Split(strings.TrimSpace(line), ","); !strings.HasPrefix(line, "#") && len(f) == 6 {
			sums = append(sums, strings.TrimSpace(f[5]))
		}
	}
	return sums
}

// asFrames decodes a video into a file of NumPy and a lossless RGB video with the
// same frames.
func asFrames(t *testing.T, dir, name, source string, count, width, height int) (npy, video string) {
	t.Helper()
	npy, video = filepath.Join(dir, name+".npy"), filepath.Join(dir, name+".mkv")
	raw, err := exec.Command("ffmpeg", "-v", "error", "-i", source, "-vf", fmt.Sprintf("scale=%d:%d", width, height),
		"-frames:v", fmt.Sprint(count), "-f", "rawvideo", "-pix_fmt", "rgb24", "-").Output()
	if err != nil || len(raw) != count*width*height*3 {
		t.Fatalf("%v, %d bytes", err, len(raw))
	}
	head := fmt.Sprintf("{'descr': '|u1', 'fortran_order': False, 'shape': (%d, %d, %d, 3), }", count, height, width)
	head += strings.Repeat(" ", 117-len(head)) + "\n"
	if err := os.WriteFile(npy, append(append([]byte("\x93NUMPY\x01\x00\x76\x00"), head...), raw...), 0o600); err != nil {
		t.Fatal(err)
	}
	encode := exec.Command("ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", fmt.Sprintf("%dx%d", width, height), "-r", "25",
		"-i", "pipe:0", "-c:v", "ffv1", "-pix_fmt", "gbrp", video)
	encode.Stdin = bytes.NewReader(raw)
	if out, err := encode.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return npy, video
}

// TestComfyUI runs workflows through the nodes: the frames are those of the
// command line, memory stays flat, Cancel ends a job, errors have two lines.
func TestComfyUI(t *testing.T) {
	t.Parallel()
	needTorch(t)
	dir := t.TempDir()
	d := startDaemon(t, dir, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--slots", "1")
	server := d.address("http://")
	example := filepath.Join(comfyuiFolder(t), "api_workflows", "lipstream.json")

	direct := func(video, audio, output string) []string {
		t.Helper()
		lipstreamCommand(t, dir, "run", "--video", video, "--audio", audio, "-o", output, "--engine", "preview", "--codec", "ffv1", "--length", "pingpong", "--fps", "25", "-q")
		return rgbFrames(t, filepath.Join(dir, output))
	}
	t.Run("example", func(t *testing.T) {
		_, video := asFrames(t, dir, "portrait", in("portrait.png"), 1, 512, 512)
		got := drive(t, example, server, "--set", "LoadImage.image=portrait.png", "--set", "LoadAudio.audio=one.wav")
		want := direct(video, in("one.wav"), "example.mkv")
		if !got.OK || got.Width != 512 || len(want) == 0 || !slices.Equal(got.MD5, want) {
			t.Errorf("%+v: %d frames, want %d of run", got.Error, len(got.MD5), len(want))
		}
		if got.Progress == 0 || got.Previews == 0 {
			t.Errorf("%d readings of progress, %d previews", got.Progress, got.Previews)
		}
	})
	npy, video := asFrames(t, dir, "head", in("head.mp4"), 16, 320, 240)
	t.Run("frames", func(t *testing.T) {
		got := drive(t, example, server, "--frames", npy, "--set", "LoadAudio.audio=one.wav") // longer than the images: they run back
		want := direct(video, in("one.wav"), "frames.mkv")
		if !got.OK || got.Frames != 25 || !slices.Equal(got.MD5, want) {
			t.Errorf("%+v: %d frames, want %d of run", got.Error, len(got.MD5), len(want))
		}
		if got.Audio.SampleRate != 22050 || !slices.Equal(got.Audio.Shape, []int{1, 1, 22050}) {
			t.Errorf("the audio came back as %+v", got.Audio)
		}
	})
	t.Run("memory", func(t *testing.T) {
		needLong(t) // test_nodes.py checks the same with a substitute for the server
		// As RGB24, the frames alone would exceed the limit below.
		large, _ := asFrames(t, dir, "large", in("long.mp4"), 125, 512, 384)
		if err := ffmpeg(dir, "-i", in("long.wav"), "-t", "5", "five.wav"); err != nil {
			t.Fatal(err)
		}
		got := drive(t, example, server, "--frames", large, "--set", "LoadAudio.audio="+filepath.Join(dir, "five.wav"))
		const megabytes = 2 * 125 * 512 * 384 * 3 * 4 >> 20
		if !got.OK || got.Tensors>>20 < megabytes {
			t.Fatalf("%+v, %d MB of tensors", got.Error, got.Tensors>>20)
		}
		t.Logf("%d MB of tensors, %.1f MB besides", got.Tensors>>20, float64(got.Overhead)/(1<<20))
		if got.Overhead > 64<<20 {
			t.Errorf("%d MB besides the tensors", got.Overhead>>20)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		got := drive(t, example, server, "--frames", npy, "--set", "LoadAudio.audio=long.wav", "--interrupt")
		if !got.Interrupted {
			t.Fatalf("it was not interrupted: %+v", got)
		}
		waitUntil(t, func() bool { // its process ends, then it is removed
			list := lipstreamCommand(t, dir, "jobs", "--server="+server)
			return !strings.Contains(list, "running") && !strings.Contains(list, "cancelled")
		})
	})
	t.Run("no face", func(t *testing.T) {
		wall, _ := asFrames(t, dir, "wall", in("wall.mp4"), 10, 320, 240)
		got := drive(t, example, server, "--frames", wall, "--set", "LoadAudio.audio=one.wav")
		if got.Error == nil || got.Error.Type != "RuntimeError" || !strings.HasPrefix(got.Error.Text, "find a face in comfyui.mkv: ") || strings.Count(got.Error.Text, "\n") != 1 {
			t.Errorf("%+v", got.Error)
		}
	})
	t.Run("files", func(t *testing.T) {
		got := drive(t, filepath.Join(comfyuiFolder(t), "api_workflows", "lipstream_run.json"), server,
			"--set", "LipstreamRun.video=head.mp4", "--set", "LipstreamRun.audio=one.wav", "--set", "LipstreamRun.output_name=out.mp4")
		if !got.OK || len(got.Strings) == 0 {
			t.Fatalf("%+v", got)
		}
		lipstreamCommand(t, dir, "run", "--video", in("head.mp4"), "--audio", in("one.wav"), "-o", "files.mp4", "--engine", "preview", "-q")
		for _, paths := range got.Strings {
			if filepath.Ext(paths[0]) != ".mp4" {
				continue
			}
			if a, b := frameSum(t, paths[0]), frameSum(t, filepath.Join(dir, "files.mp4")); a != b {
				t.Errorf("the frames of %s differ from those of run", paths[0])
			}
			return
		}
		t.Errorf("no result among %v", got.Strings)
	})
}

// TestComfyUILatentSync runs a workflow on a server that has a checkpoint: the
// engine auto is LatentSync, and the frames are those of the command line.
func TestComfyUILatentSync(t *testing.T) {
	t.Parallel()
	needTorch(t)
	dir := t.TempDir()
	needRuntime(t)
	if out, err := models(t, dir, "synth", "--size", "tiny", "--dir", filepath.Join(dir, ".cache", "lipstream", "models")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d := startDaemon(t, dir, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--slots", "1")
	npy, video := asFrames(t, dir, "head", in("head.mp4"), 8, 320, 240)
	got := drive(t, filepath.Join(comfyuiFolder(t), "api_workflows", "lipstream.json"), d.address("http://"),
		"--frames", npy, "--set", "LoadAudio.audio=short.wav", "--set", "LatentSyncNode.inference_steps=2", "--set", "LatentSyncNode.lips_expression=2",
		"--set", `LatentSyncNode.resolution="128"`)
	lipstreamCommand(t, dir, "run", "--video", video, "--audio", in("short.wav"), "-o", "want.mkv", "--engine", "latentsync", "--resolution", "128", "--steps", "2", "--guidance", "2",
		"--seed", "1247", "--codec", "ffv1", "--length", "pingpong", "--fps", "25", "-q")
	if want := rgbFrames(t, filepath.Join(dir, "want.mkv")); !got.OK || got.Frames != 10 || !slices.Equal(got.MD5, want) {
		t.Errorf("%+v: %d frames, want %d of run", got.Error, len(got.MD5), len(want))
	}
	if slices.Equal(got.MD5, rgbFrames(t, video)) {
		t.Error("nothing was changed")
	}
}

// TestComfyUIStarts installs the nodes: they start the server whose path the
// installer wrote down, it has the checkpoints of another node, and it ends with them.
func TestComfyUIStarts(t *testing.T) {
	t.Parallel()
	needTorch(t)
	needRuntime(t)
	dir := t.TempDir()
	makeHome(t, dir)
	if err := os.Mkdir(filepath.Join(dir, "custom_nodes"), 0o755); err != nil {
		t.Fatal(err)
	}
	lipstreamCommand(t, dir, "comfyui", "install", "--path", dir)
	if out, err := models(t, dir, "synth", "--size", "tiny", "--dir", filepath.Join(dir, "custom_nodes", "ComfyUI-LatentSyncWrapper", "checkpoints")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	program := `import importlib.util, sys, os, types
paths = sys.modules["folder_paths"] = types.ModuleType("folder_paths")
paths.base_path, paths.models_dir, paths.folder_names_and_paths = os.getcwd(), os.path.join(os.getcwd(), "models"), {}
folder = os.path.join("custom_nodes", "comfyui-lipstream")
spec = importlib.util.spec_from_file_location("lipstream_nodes", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder])
m = importlib.util.module_from_spec(spec); sys.modules["lipstream_nodes"] = m; spec.loader.exec_module(m)
from lipstream_nodes import service
service.LISTEN = "127.0.0.1:" + sys.argv[1]
c = service.connect("")
workers = []
while not workers:
    workers = c.json("GET", "/v1/devices").get("workers")
engines = workers[0]["engines"]
print(c.url, sorted(m.NODE_CLASS_MAPPINGS), engines, service._child.pid)`
	cmd := exec.Command(debianPython, "-B", "-c", program, freePort(t))
	var stderr bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stderr = dir, environment(dir, newMark()), &stderr
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "'LatentSyncNode', 'LipstreamMemory', 'LipstreamRun', 'VideoLengthAdjuster'") {
		t.Fatalf("%v: %s%s", err, out, stderr.String())
	}
	if !strings.Contains(string(out), "'latentsync'") {
		t.Errorf("the server does not have the checkpoints of ComfyUI: %s", out)
	}
	fields := strings.Fields(string(out))
	if _, err := os.Stat("/proc/" + fields[len(fields)-1]); err == nil {
		t.Error("the server is still running")
	}
}
