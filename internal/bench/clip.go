package bench

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/bench/ffmpeg"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/testdata/demo"
)

const (
	ClipRate = 25 // frames per second of a test video
	// pieceSeconds is the length of the video that is encoded; a longer one
	// repeats it. All movements have periods that divide it, so that nothing
	// jumps where it repeats.
	pieceSeconds = 20
)

// maker creates test inputs in its own folder.
type maker struct {
	tools media.Tools
	dir   string
	piece string // the video that is looped
	voice string // the sound that is looped
}

// newMaker prepares the inputs: the given files, or the demo's face, which moves,
// comes nearer and tilts in noise before a blurred background, and its voice.
func newMaker(ctx context.Context, tools media.Tools, dir string, o RunOptions) (*maker, error) {
	m := &maker{tools: tools, dir: dir, piece: o.Video, voice: o.Audio}
	voice, portrait := filepath.Join(dir, "speech.wav"), filepath.Join(dir, "portrait.png")
	for path, data := range map[string][]byte{voice: demo.Speech, portrait: demo.Portrait} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return nil, fault.Output.Wrap("write "+path, err)
		}
	}
	m.voice = cmp.Or(m.voice, voice)
	if m.piece != "" {
		return m, nil
	}
	m.piece = filepath.Join(dir, "piece.mp4")
	piece := cmp.Or(o.piece, pieceSeconds)
	// No B-frames: a copy could not be cut to the frame with them.
	_, err := ffmpeg.Run(ctx, m.tools, "-loop", "1", "-framerate", strconv.Itoa(ClipRate), "-i", portrait,
		"-filter_complex", Movement(o.Size, piece), "-map", "[out]", "-t", strconv.Itoa(piece),
		"-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-bf", "0", "-g", strconv.Itoa(2*ClipRate), m.piece)
	return m, err
}

// Movement returns the filter graph that makes the portrait move, from its input to the
// output [out]. It repeats after the given number of seconds. It turns before it
// scales, because ffmpeg's rotate wants frames of one size.
func Movement(size Size, seconds int) string {
	w, h := size.Width, size.Height
	wave := func(by float64, periods int) string {
		return fmt.Sprintf("%g*sin(2*PI*t*%d/%d)", by, periods, seconds)
	}
	side := fmt.Sprintf("2*trunc(%d*(1.05+%s)/2)", h, wave(0.15, 2))
	return strings.Join([]string{
		"[0:v]split[a][b]",
		fmt.Sprintf("[a]scale=%[1]d:%[2]d:force_original_aspect_ratio=increase,crop=%[1]d:%[2]d,boxblur=20:2[ground]", w, h),
		fmt.Sprintf("[b]format=rgba,rotate=a='%s':ow='hypot(iw,ih)':oh=ow:c=black@0,scale=w='%s':h='%s':eval=frame:flags=bicubic[face]",
			wave(0.12, 5), side, side),
		fmt.Sprintf("[ground][face]overlay=x='(W-w)/2+W*%s':y='(H-h)/2+H*%s':eval=frame,noise=alls=5:allf=t+u,format=yuv420p[out]",
			wave(0.08, 3), wave(0.03, 4)),
	}, ";")
}

// inputs makes a video and a voice of this length, without encoding the
// video again.
func (m *maker) inputs(ctx context.Context, seconds float64) (video, voice string, err error) {
	length := strconv.FormatFloat(seconds, 'f', 3, 64)
	// Matroska holds whatever codec a given video has.
	video, voice = filepath.Join(m.dir, "video-"+length+".mkv"), filepath.Join(m.dir, "voice-"+length+".wav")
	if _, err := ffmpeg.Run(ctx, m.tools, "-stream_loop", "-1", "-i", m.piece, "-map", "0:v:0", "-t", length, "-c", "copy", video); err != nil {
		return "", "", err
	}
	_, err = ffmpeg.Run(ctx, m.tools, "-stream_loop", "-1", "-i", m.voice, "-map", "0:a:0", "-t", length, "-c:a", "pcm_s16le", voice)
	return video, voice, err
}

// transcode does what a job does around its engine.
func (m *maker) transcode(ctx context.Context, video, voice string) (ffmpeg.Usage, error) {
	out := filepath.Join(m.dir, "transcoded.mp4")
	defer func() { _ = os.Remove(out) }()
	return ffmpeg.Transcode(ctx, m.tools, video, voice, out)
}
