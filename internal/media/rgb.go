package media

import (
	"context"
	"io"
	"strconv"
	"strings"
)

// OpenRGB starts reading count frames from frame first (counted from 0) of a video
// of constant rate, as Lipstream writes them. A count of 0 reads up to the end. The
// video is read as RGB24: frames one after the other, rows from top to bottom, three
// bytes a pixel without padding. The end is io.EOF only if ffmpeg has succeeded.
func OpenRGB(ctx context.Context, tools Tools, path string, info *Info, first, count int64) (io.ReadCloser, error) {
	if err := info.NeedVideo(); err != nil {
		return nil, err
	}
	v := info.Video
	in := "scale=" + scaleFlags
	if !v.RGB {
		in += ":in_color_matrix=" + scaleMatrix(spaceName(matrixOf(*v))) + ":in_range=" + rangeName(v.ColorRange == "pc")
	}
	// Without the planar step swscale takes a shortcut that is not exact.
	filters := []string{in, "format=gbrp", "scale=" + scaleFlags, "format=rgb24"}
	var args []string
	if first > 0 {
		// Seek to half a frame before it; ffmpeg drops what comes earlier. The track
		// may begin later than the file (Matroska with AAC: 21 ms).
		args = append(args, "-ss", seconds(v.Start.Seconds()+(float64(first)-0.5)/v.FrameRate.Float()))
	}
	args = append(args, inputArgs(info, path)...)
	args = append(args, "-map", "0:"+strconv.Itoa(v.Index), "-an", "-sn", "-dn", "-vf", strings.Join(filters, ","))
	args = append(args, tools.fpsMode("passthrough")...)
	if count > 0 {
		args = append(args, "-frames:v", strconv.FormatInt(count, 10))
	}
	return openReader(ctx, tools, "read video "+path, append(args, "-f", "rawvideo", "-pix_fmt", "rgb24"))
}
