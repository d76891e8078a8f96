package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// machines returns commands that run programs as on two machines, and the address of the
// second. The second sees the system's files, read-only, and the folder dir, but neither
// the inputs nor the folders of tests. As root, each has a network of its own, with
// nothing but a cable between them; otherwise the second has another loopback address.
func machines(t *testing.T, dir string) (first, second []string, address string) {
	t.Helper()
	hidden := []string{os.TempDir(), inputs, comfyuiFolder(t)}
	second = []string{"bwrap", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"}
	for _, d := range hidden {
		second = append(second, "--tmpfs", d)
	}
	second = append(second, "--ro-bind", binary, binary, "--ro-bind", quickDir, quickDir, "--bind", dir, dir, "--chdir", dir)
	for _, d := range hidden[1:] {
		if out, err := exec.Command(second[0], append(second[1:], "ls", "-A", d)...).CombinedOutput(); err != nil || len(out) > 0 {
			t.Skipf("bwrap cannot hide %s: %v %s", d, err, out)
		}
	}
	here, there := fmt.Sprintf("lipstream%da", os.Getpid()), fmt.Sprintf("lipstream%db", os.Getpid())
	t.Cleanup(func() {
		for _, name := range []string{here, there} {
			_ = exec.Command("ip", "netns", "delete", name).Run() // they may not exist
		}
	})
	if out, err := exec.Command("sh", "-ec", `ip netns add "$1"
		ip netns add "$2"
		ip -n "$1" link add cable type veth peer name cable netns "$2"
		ip -n "$1" address add 10.0.0.1/24 dev cable
		ip -n "$2" address add 10.0.0.2/24 dev cable
		for name; do
			ip -n "$name" link set lo up
			ip -n "$name" link set cable up
		done`, "sh", here, there).CombinedOutput(); err != nil {
		t.Logf("another loopback address instead of a network: %v %s", err, out)
		return nil, second, "127.0.0.2"
	}
	enter := []string{"ip", "netns", "exec"}
	return append(enter, here), slices.Concat(enter, []string{there}, second), "10.0.0.2"
}

// TestComfyUIOtherMachine runs workflows on a server that shares no files with ComfyUI
// and has another address: inputs and results travel, and a token is needed.
func TestComfyUIOtherMachine(t *testing.T) {
	t.Parallel()
	needTorch(t)
	needRuntime(t)
	dir, here := t.TempDir(), t.TempDir()
	makeHome(t, here)
	first, second, address := machines(t, dir)
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(strings.Repeat("0123456789abcdef", 2)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startInside(t, second, dir, "serve", "--listen", address+":0", "--data", filepath.Join(dir, "data"), "--slots", "1", "--token-file", token)
	server := d.address("http://")
	t.Log("the server is at", server)
	env := []string{"LIPSTREAM_SERVER=" + server, "LIPSTREAM_TOKEN_FILE=" + token}
	images, files := filepath.Join(comfyuiFolder(t), "api_workflows", "lipstream.json"), filepath.Join(comfyuiFolder(t), "api_workflows", "lipstream_run.json")
	npy, video := asFrames(t, here, "head", in("head.mp4"), 16, 320, 240)
	audio := []string{"--frames", npy, "--set", "LoadAudio.audio=one.wav"}

	jobs := func(t *testing.T) string {
		t.Helper()
		args := slices.Concat(first, []string{binary, "jobs", "--server=" + server, "--token-file=" + token})
		list, err := exec.CommandContext(t.Context(), args[0], args[1:]...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(list)
	}
	// empty waits until the server has no jobs and no uploads.
	empty := func(t *testing.T) {
		t.Helper()
		waitUntil(t, func() bool {
			entries, err := os.ReadDir(filepath.Join(dir, "data", "uploads"))
			return err == nil && len(entries) == 0 && strings.Count(jobs(t), "\n") <= 1 // the heading
		})
	}
	t.Run("images", func(t *testing.T) {
		got := driveWith(t, first, env, images, "", audio...)
		lipstreamCommand(t, here, "run", "--video", video, "--audio", in("one.wav"), "-o", "images.mkv", "--engine", "preview", "--codec", "ffv1", "--length", "pingpong", "--fps", "25", "-q")
		if want := rgbFrames(t, filepath.Join(here, "images.mkv")); !got.OK || got.Frames != 25 || !slices.Equal(got.MD5, want) {
			t.Errorf("%+v: %d frames, want %d of run", got.Error, len(got.MD5), len(want))
		}
		if got.Progress == 0 {
			t.Error("no progress")
		}
		empty(t)
	})
	t.Run("files", func(t *testing.T) {
		got := driveWith(t, first, env, files, "", "--set", "LipstreamRun.video=head.mp4", "--set", "LipstreamRun.audio=one.wav", "--set", "LipstreamRun.output_name=out.mp4")
		lipstreamCommand(t, here, "run", "--video", in("head.mp4"), "--audio", in("one.wav"), "-o", "files.mp4", "--engine", "preview", "-q")
		want := frameSum(t, filepath.Join(here, "files.mp4"))
		for _, paths := range got.Strings {
			if filepath.Ext(paths[0]) == ".mp4" && frameSum(t, paths[0]) == want {
				empty(t)
				return
			}
		}
		t.Errorf("%+v: no result with the frames of run among %v", got.Error, got.Strings)
	})
	t.Run("cancel", func(t *testing.T) {
		got := driveWith(t, first, env, images, "", "--frames", npy, "--set", "LoadAudio.audio=long.wav", "--interrupt")
		if !got.Interrupted {
			t.Fatalf("it was not interrupted: %+v", got)
		}
		waitUntil(t, func() bool { return !strings.Contains(jobs(t), "running") }) // the client waits only some time to remove it
	})
	refused := func(name, want string, env []string, server string) {
		t.Run(name, func(t *testing.T) {
			if got := driveWith(t, first, env, images, server, audio...); got.Error == nil || !strings.Contains(got.Error.Text, want) {
				t.Errorf("%+v", got.Error)
			}
		})
	}
	refused("no token", "token", env[:1], "")
	// The address in a workflow may be anybody's, and gets no token.
	refused("only in the workflow", "token", env[1:], server)
	refused("elsewhere", "no Lipstream server answers at http://127.0.0.3:1", []string{"LIPSTREAM_SERVER=http://127.0.0.3:1"}, "")
}
