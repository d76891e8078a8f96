package media

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
)

// ExactFormat is the working format in which a losslessly encoded RGB video
// keeps every value: 4:4:4 with 10 bits, limited range. 8-bit RGB goes there and
// back through RGBReader without a difference. Of other sources it is their
// working format, which is theirs already.
func ExactFormat(v VideoInfo) frame.Format {
	f := WorkingFormat(v)
	if v.RGB && !v.IsPicture {
		f.ShiftX, f.ShiftY, f.Depth = 0, 0, 10
	}
	return f
}

// RGBReader reads a video as RGB24: frames one after the other, rows from top to
// bottom, three bytes a pixel without padding.
type RGBReader struct {
	ctx  context.Context
	path string
	c    *child
	out  *os.File
}

// OpenRGB begins with frame first, from 0; count 0 is up to the end.
func OpenRGB(ctx context.Context, tools Tools, path string, info *Info, first, count int64) (*RGBReader, error) {
	if err := info.NeedVideo(); err != nil {
		return nil, err
	}
	v := info.Video
	in := "scale=" + scaleFlags
	if !v.RGB {
		in += ":in_color_matrix=" + scaleMatrix(spaceName(matrixOf(*v))) + ":in_range=" + rangeName(v.ColorRange == "pc")
	}
	// Without the planar step swscale takes a short cut that is not exact.
	filters := []string{fmt.Sprintf("trim=start_frame=%d", first), in, "format=gbrp", "scale=" + scaleFlags, "format=rgb24"}
	args := append([]string{"-hide_banner", "-nostdin", "-loglevel", "error"}, inputArgs(info, path)...)
	args = append(args, "-map", "0:"+strconv.Itoa(v.Index), "-an", "-sn", "-dn", "-vf", strings.Join(filters, ","))
	args = append(args, tools.fpsMode("passthrough")...)
	if count > 0 {
		args = append(args, "-frames:v", strconv.FormatInt(count, 10))
	}
	c, out, err := startReader(ctx, tools, append(args, "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"))
	if err != nil {
		return nil, fault.Wrap(fault.Missing, "run ffmpeg", "", err, "")
	}
	return &RGBReader{ctx: ctx, path: path, c: c, out: out}, nil
}

// Read gives io.EOF only where ffmpeg ended well.
func (r *RGBReader) Read(p []byte) (int, error) {
	n, err := r.out.Read(p)
	if err != io.EOF {
		return n, err
	}
	if err := r.ctx.Err(); err != nil {
		return n, fault.Wrap(fault.Cancelled, "read video", r.path, err, "")
	}
	if err := r.c.wait(); err != nil {
		return n, fault.Wrap(exitKind(err, fault.Input), "read video", r.path, err, exitHint(err))
	}
	return n, io.EOF
}

// Close ends ffmpeg.
func (r *RGBReader) Close() error {
	r.c.close()
	_ = r.out.Close()
	return nil
}
