package media

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
)

// Encoding says how a video is encoded.
type Encoding struct {
	Codec  string
	Format frame.Format
}

// EncodingFor returns how v is encoded into a file named path with the codec that the
// user wants; "" leaves the choice to the video and the container. A video with alpha
// gets a codec that keeps it, if the container has one. A video of more than 8 bits gets
// hevc instead of h264, because few players can show h264 of 10 bits.
//
// The format is WorkingFormat, with these exceptions. Alpha is kept if codec and
// container can: by prores as 4:4:4 of 10 bits, by vp9 as 4:2:0 of 8 bits, by ffv1 in the
// format of the colours. RGB video that is encoded without loss (ffv1) becomes 4:4:4 with
// 10 bits and limited range, which OpenRGB converts back to the same 8-bit RGB. (RGB of
// more bits is reduced to 8.)
func EncodingFor(v VideoInfo, path, codec string) Encoding {
	cont := containers[strings.ToLower(filepath.Ext(path))]
	e := Encoding{cmp.Or(codec, cont.standard(v)), WorkingFormat(v)}
	f := &e.Format
	f.Alpha = v.HasAlpha && slices.Contains(cont.alpha, e.Codec)
	switch {
	case e.Codec == "ffv1" && v.RGB && !v.IsPicture, e.Codec == "prores" && f.Alpha:
		f.ShiftX, f.ShiftY, f.Depth = 0, 0, 10
	case e.Codec == "vp9" && f.Alpha:
		f.ShiftX, f.ShiftY, f.Depth = 1, 1, 8
	}
	return e
}

// standard returns the codec for a video if the user wants none.
func (c container) standard(v VideoInfo) string {
	switch {
	case len(c.video) == 0: // an extension that containerOf refuses
		return ""
	case v.HasAlpha && len(c.alpha) > 0:
		return c.alpha[0]
	case v.Depth > 8 && !v.RGB && !v.IsPicture && c.video[0] == "h264" && slices.Contains(c.video, "hevc"):
		return "hevc"
	}
	return c.video[0]
}

// Choose returns EncodingFor, as far as this ffmpeg can do it, and warnings about what
// the output cannot keep. It returns an error if the codec that the user wants does not
// work. Settings in warnings are in backquotes.
func Choose(ctx context.Context, tools Tools, info *Info, path, codec string) (e Encoding, warnings []string, err error) {
	cont, err := containerOf(path)
	if err != nil {
		return e, nil, err
	}
	v := *info.Video
	if v.HasAlpha {
		readable, err := tools.readsAlpha(ctx, &v)
		if err != nil {
			return e, nil, err
		}
		if !readable {
			v.HasAlpha = false
			warnings = append(warnings, fmt.Sprintf("%s: this ffmpeg cannot read the alpha of %s, so the output is opaque; lipstream runtime install ffmpeg installs one that can", info.Path, v.Codec))
		}
	}
	e = EncodingFor(v, path, codec)
	_, _, err = chooseCodec(ctx, tools, path, cont, e.Codec, e.Format)
	if codec == "" && e.Codec != cont.video[0] && fault.KindOf(err) == fault.Missing {
		was := e.Codec
		e = EncodingFor(v, path, cont.video[0])
		_, _, err = chooseCodec(ctx, tools, path, cont, e.Codec, e.Format)
		warnings = append(warnings, fmt.Sprintf("this ffmpeg was built without %s, so the video of %d bits is encoded as %s, which few players can show; lipstream runtime install ffmpeg installs one with it",
			encoderNames[was][0], v.Depth, e.Codec))
	}
	if err != nil {
		return e, nil, err
	}
	ext := strings.ToLower(filepath.Ext(path))
	switch {
	case !v.HasAlpha:
	case !e.Format.Alpha && len(cont.alpha) > 0:
		warnings = append(warnings, fmt.Sprintf("%s: %s cannot keep its alpha, so what is transparent becomes black; set `codec` to %s", info.Path, e.Codec, strings.Join(cont.alpha, " or ")))
	case !e.Format.Alpha:
		warnings = append(warnings, fmt.Sprintf("%s: %s files cannot keep its alpha, so what is transparent becomes black; choose an output that ends in .mov (prores), .mkv (ffv1) or .webm (vp9)", info.Path, ext))
	case e.Codec == "vp9" && v.Depth > 8:
		warnings = append(warnings, fmt.Sprintf("%s: vp9 keeps alpha only with 8 bits, the source has %d; choose an output that ends in .mov (prores) or .mkv (ffv1)", info.Path, min(v.Depth, 10)))
	}
	return e, append(warnings, v.hdrWarnings(info.Path, e.Codec, cont)...), nil
}

// readsAlpha reports whether ffmpeg can decode the alpha of v.
func (t Tools) readsAlpha(ctx context.Context, v *VideoInfo) (bool, error) {
	name := alphaDecoders[v.Codec]
	if name == "" {
		return true, nil
	}
	return t.has(ctx, "-decoders", name)
}

// alphaDecoders are the decoders that read alpha, by codec. ffmpeg's own ignore it.
var alphaDecoders = map[string]string{"vp9": "libvpx-vp9", "vp8": "libvpx"}

// alphaFrames is how many frames CheckAlpha looks at.
const alphaFrames = 50

// CheckAlpha looks at the first frames of RGB video with an alpha channel, and clears
// HasAlpha if they are opaque: GIF and PNG files usually have the channel but do not use
// it. In other formats alpha is there because somebody asked for it.
func (i *Info) CheckAlpha(ctx context.Context, tools Tools) error {
	v := i.Video
	if v == nil || !v.HasAlpha || !v.RGB {
		return nil
	}
	args := append(inputArgs(i, i.Path), "-map", "0:"+strconv.Itoa(v.Index), "-an", "-sn", "-dn", "-frames:v", strconv.Itoa(alphaFrames))
	r, err := openReader(ctx, tools, "read video "+i.Path, append(args, "-f", "rawvideo", "-pix_fmt", "rgba"))
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	used, err := transparent(r)
	if used || err != nil {
		return err
	}
	v.HasAlpha = false
	return nil
}

// transparent reports whether a pixel of RGBA that r reads is not opaque.
func transparent(r io.Reader) (bool, error) {
	buf := make([]byte, 1<<16)
	for {
		n, err := io.ReadFull(r, buf)
		for i := 3; i < n; i += 4 {
			if buf[i] < 255 {
				return true, nil
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}
