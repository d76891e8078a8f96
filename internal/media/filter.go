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
	if f.Alpha {
		if v.storedFmt() == pixFmt && !v.IsPicture {
			return []string{fmt.Sprintf("scale=%d:%d:%s", f.Width, f.Height, scaleFlags), "format=" + pixFmt}, pixFmt
		}
		colour, plain := *v, f
		colour.HasAlpha, plain.Alpha = false, false
		filters, plainFmt := toFormat(&colour, plain)
		// Where the branches differ in range, new versions of ffmpeg would convert one.
		same := ",setparams=range=" + rangeName(f.FullRange)
		return []string{"split[c][a];[c]" + strings.Join(filters, ",") + same + "[c];[a]" + strings.Join(toAlpha(v, f, plainFmt), ",") + same +
			"[a];[c][a]mergeplanes=0x00010210:" + pixFmt}, pixFmt
	}
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

// storedFmt returns the pixel format that the decoder delivers.
func (v *VideoInfo) storedFmt() string {
	if v.HasAlpha && strings.HasPrefix(v.PixFmt, "yuv4") {
		return "yuva" + strings.TrimPrefix(v.PixFmt, "yuv") // VP8 and VP9
	}
	return v.PixFmt
}

// toAlpha returns the filters that turn a picture into its alpha, as the luma of
// pictures in plainFmt. The conversions of swscale between formats with alpha are not
// used: some versions turn 255 into 1020 of 1023, others 128 into 129.
func toAlpha(v *VideoInfo, f frame.Format, plainFmt string) []string {
	var out []string
	if v.PixFmt == "pal8" {
		out = append(out, "format=rgba")
	}
	out = append(out, "extractplanes=a")
	full := fmt.Sprintf("scale=%d:%d:in_range=pc:out_range=pc:sws_dither=none:%s", f.Width, f.Height, scaleFlags)
	if v.Depth > f.Depth {
		// Some versions of ffmpeg truncate and some round. Rounding up is wrong here: alpha
		// of 10 bits, which is decoded as 12 bits by repeating the upper ones, would change.
		between := min(v.Depth, 12)
		step := 1 << (between - f.Depth)
		out = append(out, full, fmt.Sprintf("format=yuv444p%dle", between), fmt.Sprintf("lut=c0=floor(val/%d)*%d", step, step))
	}
	return append(out, full, "format="+plainFmt)
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
	if f.Depth > 8 && v.Depth > 8 { // otherwise it is not exact, see EncodingFor
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
