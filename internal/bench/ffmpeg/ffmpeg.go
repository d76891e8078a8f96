// Package ffmpeg runs ffmpeg for measurements.
package ffmpeg

import (
	"context"
	"os/exec"
	"time"

	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
)

// Usage is the time that a process used.
type Usage struct {
	Elapsed time.Duration
	CPU     time.Duration // of all its threads and of the processes that it waited for (not on Windows)
}

// Command returns a command that overwrites its output and prints nothing but errors.
func Command(tools media.Tools, args ...string) *exec.Cmd {
	return exec.Command(tools.FFmpeg, append([]string{"-hide_banner", "-nostdin", "-loglevel", "error", "-y"}, args...)...)
}

// Run runs ffmpeg to make a test input.
func Run(ctx context.Context, tools media.Tools, args ...string) (u Usage, err error) {
	began := time.Now()
	p, err := child.Start(ctx, Command(tools, args...), 0)
	if err == nil {
		err = p.Wait()
		u = Usage{time.Since(began), p.State().UserTime() + p.State().SystemTime()}
	}
	return u, fault.Internal.Wrap("make test inputs", err)
}

// Transcode decodes a video and encodes it, with a voice, with the settings of lipstream run
// for MP4, and does nothing in between: no engine can be faster on this machine.
func Transcode(ctx context.Context, tools media.Tools, video, voice, out string) (Usage, error) {
	return Run(ctx, tools, "-i", video, "-i", voice, "-map", "0:v:0", "-map", "1:a:0",
		"-c:v", "libx264", "-preset", media.DefaultPreset, "-crf", "18", "-pix_fmt", "yuv420p", "-c:a", "aac", "-movflags", "+faststart", out)
}
