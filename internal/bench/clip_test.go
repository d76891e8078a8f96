package bench

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
)

// TestInputs makes a small video and a voice and checks their lengths.
func TestInputs(t *testing.T) {
	if testing.Short() {
		t.Skip("encodes video")
	}
	ctx := t.Context()
	tools, err := media.FindTools(ctx)
	if err != nil {
		if os.Getenv(backendtest.RequireVariable) != "" || os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	m, err := newMaker(ctx, tools, t.TempDir(), RunOptions{Size: Size{256, 144}, piece: 4})
	if err != nil {
		t.Fatal(err)
	}
	// Shorter and longer than the piece that is looped.
	for _, seconds := range []float64{2, 9} {
		video, voice, err := m.inputs(ctx, seconds)
		if err != nil {
			t.Fatal(err)
		}
		v, err := media.Probe(ctx, tools, video)
		if err != nil {
			t.Fatal(err)
		}
		if v.Video == nil || v.Video.Width != 256 || v.Video.Height != 144 || v.Video.Frames != int64(seconds*ClipRate) {
			t.Errorf("%v s: %+v", seconds, v.Video)
		}
		a, err := media.Probe(ctx, tools, voice)
		if err != nil {
			t.Fatal(err)
		}
		if len(a.Audio) != 1 || math.Abs(a.Duration.Seconds()-seconds) > 0.05 {
			t.Errorf("%v s of voice: %v", seconds, a.Duration)
		}
	}
	// A given video is looped like the made one.
	given := &maker{tools: tools, dir: t.TempDir(), piece: filepath.Join(m.dir, "video-2.000.mkv"), voice: m.voice}
	video, voice, err := given.inputs(ctx, 5)
	if err != nil {
		t.Fatal(err)
	}
	v, err := media.Probe(ctx, tools, video)
	if err != nil || math.Abs(v.Duration.Seconds()-5) > 0.1 {
		t.Errorf("looped: %v, %v", v.Duration, err)
	}
	if u, err := given.transcode(ctx, video, voice); err != nil || u.Elapsed <= 0 || u.CPU <= 0 {
		t.Errorf("transcode: %+v, %v", u, err)
	}
	ended, cancel := context.WithDeadline(ctx, time.Unix(0, 0))
	defer cancel()
	if _, err := given.transcode(ended, video, voice); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the end: %v", err)
	}
	gone, stop := context.WithCancel(ctx)
	stop()
	if _, err := given.transcode(gone, video, voice); fault.KindOf(err) != fault.Cancelled {
		t.Errorf("interrupted: %v", err)
	}
}
