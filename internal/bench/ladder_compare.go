package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/lipstream/lipstream/internal/backend/runtimes"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/testdata/demo"
)

// still makes the demo's portrait a lossless video, a part of the demo's voice
// that speaks, and one that falls silent. Times are in seconds, as ffmpeg takes
// them.
func (m *maker) still(ctx context.Context, length, video, voice, speech, pauses string) error {
	portrait := filepath.Join(m.dir, "portrait.png")
	if err := os.WriteFile(portrait, demo.Portrait, 0o600); err != nil {
		return fault.Output.Wrap("write "+portrait, err)
	}
	for _, args := range [][]string{
		{"-loop", "1", "-framerate", fmt.Sprint(clipRate), "-i", portrait, "-t", length, "-pix_fmt", "yuv420p", "-c:v", "ffv1", video},
		{"-ss", voiceFrom, "-i", m.voice, "-af", "apad", "-t", length, "-c:a", "pcm_s16le", voice},
		{"-ss", voiceFrom, "-t", speech, "-i", m.voice, "-af", "apad", "-t", length, "-c:a", "pcm_s16le", pauses},
	} {
		if _, err := m.ffmpeg(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// open starts to decode a video, an output in the clip's format.
func (l *ladder) open(ctx context.Context, path string) (*media.VideoSource, frame.Format, error) {
	info, err := media.Probe(ctx, l.tools, path)
	if err == nil {
		err = info.NeedVideo()
	}
	if err != nil {
		return nil, frame.Format{}, err
	}
	format := l.format
	if format.Width == 0 {
		format = media.WorkingFormat(*info.Video) // the clip itself
	}
	v, err := media.OpenVideo(ctx, l.tools, path, info, media.VideoOptions{Format: format, Rate: info.Video.FrameRate})
	return v, format, err
}

// findRegions finds the region that the engine generates in each frame of the
// clip's first window.
func (l *ladder) findRegions(ctx context.Context) error {
	nets, err := runtimes.Open(ctx, l.Backend)
	if err != nil {
		return err
	}
	defer func() { _ = nets.Close() }()
	clip := filepath.Join(l.dir, clipFile)
	reader, format, err := l.open(ctx, clip)
	if err != nil {
		return err
	}
	s := &syncRun{o: SyncOptions{Face: "largest", Threads: l.Threads}, nets: nets}
	source, err := s.walk(ctx, reader, format)
	if err != nil {
		return errors.Join(err, reader.Close())
	}
	defer source.close()
	l.format = format
	for n := range l.Frames {
		t, err := source.next(ctx)
		if err != nil {
			return err
		}
		if t.Face == nil {
			return fault.NoFace.New("find a face in "+clip, fmt.Sprintf("none in frame %d", n))
		}
		l.regions = append(l.regions, newMasker().mask(format, t.Face.Align)) // a masker's result is its own
		source.release(t.Frame)
	}
	return nil
}

// psnr compares the generated region of two outputs of the clip, over the
// frames of one window: luma, dB, or exact when no sample of any plane differs.
func (l *ladder) psnr(ctx context.Context, base, out string) (db float64, exact bool, err error) {
	var sides [2]*media.VideoSource
	var frames [2]*frame.Frame
	for i, path := range []string{base, out} {
		v, format, err := l.open(ctx, path)
		if err != nil {
			return 0, false, err
		}
		defer func() { _ = v.Close() }() // only read from
		sides[i], frames[i] = v, frame.New(format)
	}
	var inside errorSum
	for n, region := range l.regions {
		for i, path := range []string{base, out} {
			if err := sides[i].Read(frames[i]); errors.Is(err, io.EOF) {
				return 0, false, fault.Internal.New("compare "+path, fmt.Sprintf("it ends after %d frames of %d", n, l.Frames))
			} else if err != nil {
				return 0, false, err
			}
		}
		_, in := difference(frames[0], frames[1], region)
		inside.add(in)
	}
	return inside.luma(l.format.Depth), inside.sum == [3]float64{}, nil
}
