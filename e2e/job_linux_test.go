package e2e_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/lipstream/lipstream"
)

// interrupt sends a signal and checks how the job ends.
func (j *job) interrupt(sig os.Signal) {
	j.t.Helper()
	if err := j.cmd.Process.Signal(sig); err != nil {
		j.t.Fatal(err)
	}
	j.fails(130, "lipstream: interrupted\n")
}

// TestSignals interrupts a job in every phase.
func TestSignals(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for stage, ready := range map[string]func(lipstream.Event) bool{
			"probe":  func(lipstream.Event) bool { return true },
			"listen": func(e lipstream.Event) bool { return e.Phase == lipstream.PhaseListen },
			"load":   func(e lipstream.Event) bool { return e.Phase == lipstream.PhaseFrames },
			"frames": func(e lipstream.Event) bool { return e.Frame >= 5 },
		} {
			t.Run(sig.String()+" in "+stage, func(t *testing.T) {
				j := newJob(t, t.TempDir(), longJob()...).start()
				j.until(stage, ready)
				j.interrupt(sig)
			})
		}
	}
}

// TestInterruptKeepsOutput checks that an interrupted job leaves the file that
// it should replace.
func TestInterruptKeepsOutput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "out.mp4"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	j := newJob(t, dir, longJob("--overwrite")...).start()
	j.untilFrame()
	j.interrupt(os.Interrupt)
}

// TestFFmpegKilled kills the decoder or the encoder, as the kernel does when
// memory is short. A truncated video must not pass for a complete one.
func TestFFmpegKilled(t *testing.T) {
	t.Parallel()
	for name, arg := range map[string]string{"decoder": "pipe:1", "encoder": "pipe:0"} {
		t.Run(name, func(t *testing.T) {
			j := newJob(t, t.TempDir(), longJob()...).start()
			j.untilFrame()
			if err := syscall.Kill(j.child(arg).pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			j.fails(1, "ffmpeg was killed by signal 9", "\nhint: ")
		})
	}
	t.Run("encoder, by itself", func(t *testing.T) {
		// On SIGTERM, ffmpeg finishes its file and exits; the file is not complete.
		j := newJob(t, t.TempDir(), longJob()...).start()
		j.untilFrame()
		if err := syscall.Kill(j.child("pipe:0").pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		j.fails(6, "write video out.mp4: ")
	})
}

// TestFileSizeLimit imitates a full disk where none can be mounted.
func TestFileSizeLimit(t *testing.T) {
	t.Parallel()
	j := newJob(t, t.TempDir())
	j.cmd.Path = "/bin/sh"
	// The unit is 512 or 1024 bytes; the file would have hundreds of them.
	j.cmd.Args = append([]string{"sh", "-c", `ulimit -f 32; exec "$0" "$@"`, binary}, longJob("--crf", "1")...)
	j.start().fails(6, "write video out.mp4: the file has reached the", "\nhint: ")
}

// TestReadOnly writes to a read-only file system: permissions do not stop root.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mount(t, filepath.Join(dir, "fixed"), syscall.MS_RDONLY, "size=96k")
	newJob(t, dir, longJob("-o", "fixed/out.mp4")...).start().
		fails(6, "write video fixed/out.mp4: the folder fixed cannot be written: read-only file system", "\nhint: ")
}

// mount mounts a small tmpfs at dir, or skips the test.
func mount(t *testing.T, dir string, flags uintptr, options string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		t.Skipf("no small disk can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := filepath.Join(dir, "small")
	mount(t, out, 0, "size=96k")
	t.Run("while encoding", func(t *testing.T) {
		newJob(t, dir, longJob("--crf", "1", "-o", "small/out.mp4")...).start().
			fails(6, "write video small/out.mp4: the disk is full", "\nhint: ")
	})
	t.Run("at the end", func(t *testing.T) {
		// The job is so short that the encoder still holds all of it when the frames end.
		newJob(t, dir, "run", "--video", in("head.mp4"), "--audio", in("one.wav"), "-o", "small/out.mp4", "--length", "shortest", "--crf", "1", "-q").start().
			fails(6, "write video small/out.mp4: the disk is full", "\nhint: ")
	})
	t.Run("from the start", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(out, "fill"), make([]byte, 96<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		newJob(t, dir, "run", "--video", in("head.mp4"), "--audio", in("one.wav"), "-o", "small/out.mp4", "-q").start().
			fails(6, "write video small/out.mp4: the disk is full", "\nhint: ")
	})
}
