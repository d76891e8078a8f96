package media

import (
	"fmt"
	"strings"

	"github.com/lipstream/lipstream/internal/frame"
)

// scaleFlags selects the exact arithmetic of swscale; its default is sometimes off
// by 1.
const scaleFlags = "flags=bicubic+accurate_rnd+full_chroma_int"

func rangeName(full bool) string {
	if full {
		return "pc"
	}
	return "tv"
}

// toFormat returns the filters that bring the decoder's pictures into f, and the
// pixel format to ask for. A source that is in f already passes untouched.
func toFormat(v *VideoInfo, f frame.Format) (filters []string, pixFmt string) {
	pixFmt = f.PixFmt()
	if v.RGB || v.IsPicture || v.HasAlpha {
		return throughRGB(v, f), pixFmt
	}
	if strings.HasPrefix(v.PixFmt, "yuvj") && f.FullRange && f.Depth == 8 {
		// The decoder's name for full range; asking for the plain name would
		// make ffmpeg convert to limited range.
		pixFmt = "yuvj" + strings.TrimPrefix(pixFmt, "yuv")
	}
	scale := fmt.Sprintf("scale=%d:%d:%s", f.Width, f.Height, scaleFlags)
	if v.PixFmt != pixFmt {
		scale += ":in_range=" + rangeName(v.ColorRange == "pc") + ":out_range=" + rangeName(f.FullRange)
	}
	return []string{scale, "format=" + pixFmt}, pixFmt
}

// throughRGB flattens alpha over black and converts RGB with the matrix that
// the output is tagged with.
func throughRGB(v *VideoInfo, f frame.Format) []string {
	var out []string
	in := "scale=" + scaleFlags
	if !v.RGB {
		m := spaceName(matrixOf(*v))
		if v.IsPicture && v.ColorSpace == "" {
			m = "smpte170m" // JPEG and WebP are BT.601 whatever their size
		}
		in += ":in_color_matrix=" + scaleMatrix(m) + ":in_range=" + rangeName(v.ColorRange == "pc")
	}
	deep := ""
	if f.Depth > 8 && v.Depth > 8 { // otherwise it is not exact, see CodecFormat
		deep = "10le"
	}
	if v.HasAlpha {
		// premultiply turns straight alpha into the colour over black. Where the
		// frame still claims its Y'CbCr range, ffmpeg 4 takes black for 16.
		out = append(out, in, "format=gbrap"+deep, "setparams=range=pc", "premultiply=inplace=1")
	} else {
		out = append(out, in, "format=gbrp"+deep)
	}
	return append(out,
		fmt.Sprintf("scale=%d:%d:%s:out_color_matrix=%s:out_range=%s", f.Width, f.Height, scaleFlags, scaleMatrix(spaceName(f.Matrix)), rangeName(f.FullRange)),
		"format="+f.PixFmt())
}

// scaleMatrix returns the scale filter's name of a matrix.
func scaleMatrix(space string) string {
	if space == "bt2020nc" || space == "bt2020c" {
		return "bt2020"
	}
	return space
}
