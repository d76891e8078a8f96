package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
)

// VideoOptions says what to read. The zero values of Rate, Start and End mean
// the track's own rate and the whole track.
type VideoOptions struct {
	Format frame.Format  // usually WorkingFormat
	Rate   Rational      // frames are repeated or dropped to this constant rate
	Start  time.Duration // snapped to the nearest frame, so that no frame is resampled
	End    time.Duration // 0: to the end

	Deinterlace Deinterlace
}

// VideoSource reads the frames of a video or a picture in order. One goroutine
// may call Read; another may call Close.
type VideoSource struct {
	*reader
	o    VideoOptions
	want int64 // frames expected; 0 when not known
	n    int64 // frames read
	err  error // sticky

	picture bool
	still   *frame.Frame // a picture, read once
}

// OpenVideo starts reading the video track, or the picture, that info
// describes.
func OpenVideo(ctx context.Context, tools Tools, path string, info *Info, o VideoOptions) (*VideoSource, error) {
	if err := info.NeedVideo(); err != nil {
		return nil, err
	}
	if !o.Rate.Valid() {
		o.Rate = info.Video.FrameRate
	}
	first, last, err := o.part(info)
	if err != nil {
		return nil, err
	}
	return openSpan(ctx, tools, path, info, o, first, last)
}

// CheckPart checks, before any work is done, that the video has the part that o
// asks for, at the rate o.Rate. OpenVideo checks it too.
func CheckPart(info *Info, o VideoOptions) error {
	_, _, err := o.part(info)
	return err
}

// part returns the first frame and the one after the last, on the grid of o.Rate.
func (o VideoOptions) part(info *Info) (first, last int64, err error) {
	v := info.Video
	if v.IsPicture {
		return 0, 1, nil
	}
	first, last = o.Rate.Frame(o.Start), int64(math.MaxInt64)
	if o.End > 0 {
		last = o.Rate.Frame(o.End)
	}
	if o.Start < 0 || last <= first {
		return 0, 0, fault.Field("end", "", fmt.Sprintf("the part from %v to %v is empty", o.Start, o.End), "choose an `end` after `start`")
	}
	// This compares frames instead of times, because a time in the second half of
	// the last frame rounds to the frame after it.
	if total := o.total(v); total > 0 && first >= total {
		return 0, 0, fault.Field("start", o.Start.String(), fmt.Sprintf("lies behind the end of the video (%v)", v.Start+v.Duration), "choose an earlier `start`")
	}
	return first, last, nil
}

// total returns the number of frames of the track on the grid of o.Rate, counted
// from the start of the file, or 0 if its length is not known.
func (o VideoOptions) total(v *VideoInfo) int64 {
	if v.Duration <= 0 {
		return 0
	}
	return max(1, o.Rate.Frame(time.Duration((v.Start.Seconds()-o.offset(v))*1e9)+v.Duration))
}

// offset returns the fraction of a frame by which the track begins after the
// grid, in seconds.
func (o VideoOptions) offset(v *VideoInfo) float64 {
	period := 1 / o.Rate.Float()
	offset := math.Mod(v.Start.Seconds(), period)
	if period-offset < 1e-4 {
		return 0
	}
	return offset
}

// openSpan starts reading frames first to last-1 of the track at o.Rate.
func openSpan(ctx context.Context, tools Tools, path string, info *Info, o VideoOptions, first, last int64) (*VideoSource, error) {
	v := info.Video
	s := &VideoSource{o: o, picture: v.IsPicture}
	if total := o.total(v); !v.IsPicture && total > 0 {
		s.want = max(0, min(last, total)-first)
		if first == 0 && last >= total && o.Rate == v.FrameRate && !v.VFR {
			s.want = v.Frames
		}
	}
	args, err := videoArgs(ctx, tools, path, info, o, first, last)
	if err != nil {
		return nil, err
	}
	s.reader, err = openReader(ctx, tools, "read video "+path, args)
	return s, err
}

// seekable reports whether a container has an index, so that a seek lands on the key
// frame before the wanted time.
func seekable(container string) bool {
	return slices.ContainsFunc(strings.Split(container, ","), func(name string) bool {
		return slices.Contains([]string{"mov", "mp4", "matroska", "webm"}, name)
	})
}

func videoArgs(ctx context.Context, tools Tools, path string, info *Info, o VideoOptions, first, last int64) ([]string, error) {
	v := info.Video
	var args, filters []string
	if v.IsPicture {
		// orientFilters turn the picture upright, see exif.go.
		args = append(args, "-noautorotate")
		if f := orientFilters[v.Orientation]; f != "" {
			filters = append(filters, f)
		}
	} else {
		// A track that begins a part of a frame after the file (Matroska with
		// AAC: 21 ms) keeps its frames on the grid; whole missing frames are
		// filled with the first one. Left alone, the part would be rounded up
		// to a frame too many.
		period, offset := 1/o.Rate.Float(), o.offset(v)
		at := float64(first) * period
		// Times stay those of the file and are shifted here, so that the fps
		// filter works on the same grid wherever reading starts, and a frame is
		// the same one whether it is reached from the beginning or by a seek.
		// (ffmpeg's own shift is by other amounts for MPEG-TS.) Without
		// -noaccurate_seek ffmpeg would drop the frame still shown at the start.
		args = append(args, "-copyts")
		filters = append(filters, o.Deinterlace.filters(v, o.Rate)...)
		if first > 0 {
			back := 0.5
			if o.Deinterlace != KeepFields {
				back += lookBack
			}
			if t := at + offset - back*period; t > 0 && seekable(info.Container) {
				args = append(args, "-noaccurate_seek", "-ss", seconds(t))
			}
		}
		if shift := info.Start.Seconds() + offset; shift != 0 {
			filters = append(filters, fmt.Sprintf("setpts=round(PTS-(%s)/TB)", seconds(shift)))
		}
		filters = append(filters, fmt.Sprintf("fps=fps=%s:start_time=%s:round=near", o.Rate, seconds(at)))
	}
	toward, pixFmt := toFormat(v, o.Format)
	filters = append(filters, toward...)
	if name := alphaDecoders[v.Codec]; v.HasAlpha && name != "" {
		ok, err := tools.readsAlpha(ctx, v)
		if err != nil {
			return nil, err
		}
		if ok {
			args = append(args, "-c:v", name)
		}
	}
	args = append(args, inputArgs(info, path)...)
	args = append(args, "-map", "0:"+strconv.Itoa(v.Index), "-an", "-sn", "-dn", "-vf", strings.Join(filters, ","))
	args = append(args, tools.fpsMode("passthrough")...)
	if n := last - first; last != math.MaxInt64 {
		args = append(args, "-frames:v", strconv.FormatInt(n, 10))
	}
	// Without direct, ffmpeg copies each frame once more and writes it in pieces of 32 KiB.
	return append(args, "-f", "rawvideo", "-pix_fmt", pixFmt, "-avioflags", "direct"), nil
}

// inputArgs returns the arguments for the input. They only allow local files.
func inputArgs(info *Info, path string) []string {
	args := []string{"-protocol_whitelist", "file,pipe"}
	if info.demuxer != "" {
		args = append(args, "-f", info.demuxer)
	}
	return append(args, "-i", fileURL(path))
}

// Read fills f with the next frame and returns io.EOF after the last one. A
// picture never ends. Read does not set f.Index.
func (s *VideoSource) Read(f *frame.Frame) error {
	if s.err != nil {
		return s.err
	}
	if f.Format != s.o.Format {
		return fault.Internal.New(s.op, "the frame has another format than the source")
	}
	if s.still != nil {
		copy(f.Data, s.still.Data)
		return fault.Cancelled.Wrap(s.op, s.ctx.Err())
	}
	if _, err := io.ReadFull(s.reader, f.Data); err != nil {
		s.err = s.ended(err)
		return s.err
	}
	s.n++
	if s.picture {
		s.still = frame.New(f.Format)
		copy(s.still.Data, f.Data)
		return s.reader.Close()
	}
	return nil
}

// ended returns the reason why no frame follows.
func (s *VideoSource) ended(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.Internal.New(s.op, "ffmpeg stopped within a frame")
	}
	if errors.Is(err, io.EOF) && s.n == 0 {
		cause := "no frame can be decoded"
		if w := summary(s.ffmpeg.Stderr()); w != "" {
			cause += ": " + w
		}
		return fault.Input.New(s.op, cause, playHint)
	}
	return err
}

// Short reports, once Read has returned io.EOF, whether more than 5 % of the
// expected frames are missing because the file is truncated or damaged.
func (s *VideoSource) Short() bool {
	return errors.Is(s.err, io.EOF) && s.want > 1 && s.n*100 < s.want*95
}
