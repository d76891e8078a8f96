package media

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/frame"
)

// pixFormat describes a pixel format.
type pixFormat struct {
	shiftX, shiftY, depth int
	rgb, alpha            bool // rgb: anything that is not Y'CbCr
}

var (
	planarYUV = regexp.MustCompile(`^yuv(j?|a)(4\d\d)p(\d*)(le|be)?$`)
	packedYUV = map[string]pixFormat{
		"nv12": {1, 1, 8, false, false}, "nv21": {1, 1, 8, false, false}, "nv16": {1, 0, 8, false, false},
		"nv24": {0, 0, 8, false, false}, "nv42": {0, 0, 8, false, false}, "nv20": {1, 0, 10, false, false},
		"yuyv422": {1, 0, 8, false, false}, "uyvy422": {1, 0, 8, false, false}, "yvyu422": {1, 0, 8, false, false},
		"uyyvyy411": {1, 0, 8, false, false},
		"p010":      {1, 1, 10, false, false}, "p012": {1, 1, 12, false, false}, "p016": {1, 1, 16, false, false},
		"p210": {1, 0, 10, false, false}, "p212": {1, 0, 12, false, false}, "p216": {1, 0, 16, false, false},
		"p410": {0, 0, 10, false, false}, "p412": {0, 0, 12, false, false}, "p416": {0, 0, 16, false, false},
		"y210": {1, 0, 10, false, false}, "y212": {1, 0, 12, false, false}, "xv30": {0, 0, 10, false, false},
		"xv36": {0, 0, 12, false, false}, "ayuv64": {0, 0, 16, false, true}, "vuya": {0, 0, 8, false, true}, "vuyx": {0, 0, 8, false, false},
	}
	lastNumber = regexp.MustCompile(`(\d+)(?:le|be)?$`)
)

// pixelFormat parses ffmpeg's name of a pixel format. An unknown name counts as
// 8-bit RGB, which at worst causes a needless conversion.
func pixelFormat(name string) pixFormat {
	if m := planarYUV.FindStringSubmatch(name); m != nil {
		p := pixFormat{depth: 8, alpha: m[1] == "a"}
		if n, err := strconv.Atoi(m[3]); err == nil {
			p.depth = n
		}
		switch m[2] {
		case "420", "410":
			p.shiftX, p.shiftY = 1, 1
		case "422", "411":
			p.shiftX = 1
			// The only lossless frame.Format for 4:4:0 is 4:4:4.
		}
		return p
	}
	base := strings.TrimSuffix(strings.TrimSuffix(name, "le"), "be")
	if p, ok := packedYUV[base]; ok {
		return p
	}
	p := pixFormat{depth: 8, rgb: true}
	p.alpha = strings.Contains(name, "rgba") || strings.Contains(name, "bgra") || strings.HasPrefix(name, "argb") ||
		strings.HasPrefix(name, "abgr") || strings.HasPrefix(name, "gbrap") || strings.HasPrefix(name, "ya") || name == "pal8"
	switch {
	case strings.Contains(name, "48"), strings.Contains(name, "64"):
		p.depth = 16
	case strings.HasPrefix(name, "gbr"), strings.HasPrefix(name, "gray"), strings.HasPrefix(name, "ya"), strings.HasPrefix(name, "x2"):
		if m := lastNumber.FindStringSubmatch(name); m != nil {
			if n, _ := strconv.Atoi(m[1]); n >= 8 && n <= 32 {
				p.depth = n
			}
		}
	}
	if strings.HasPrefix(name, "x2") {
		p.depth = 10
	}
	return p
}

// Tags are the colour tags of a stream in ffmpeg's names; empty means unknown.
type Tags struct{ Range, Space, Primaries, Transfer string }

// WorkingFormat returns the format in which a video is read, edited and encoded.
// It keeps the source's chroma subsampling, range and matrix; more than 8 bits
// become 10. There are two exceptions. RGB, gray and paletted video and pictures
// become 8-bit 4:2:0 in BT.709 with limited range, which every player shows. A
// video with an odd width or height becomes 4:4:4, because the encoders do not
// accept 4:2:0 with odd sides, and cutting or padding would change the size.
func WorkingFormat(v VideoInfo) frame.Format {
	f := frame.Format{Width: v.Width, Height: v.Height, ShiftX: 1, ShiftY: 1, Depth: 8, Matrix: frame.BT709}
	if !v.RGB && !v.IsPicture {
		f.ShiftX, f.ShiftY = v.ShiftX, v.ShiftY
		if v.Rotation%180 != 0 && f.ShiftX != f.ShiftY {
			// 4:2:2 turned by a quarter is 4:4:0, which no encoder takes.
			f.ShiftX, f.ShiftY = 0, 0
		}
		if v.Depth > 8 {
			f.Depth = 10
		}
		f.Matrix = matrixOf(v)
		f.FullRange = v.ColorRange == "pc"
	}
	if f.ShiftX == 1 && f.Width%2 != 0 || f.ShiftY == 1 && f.Height%2 != 0 {
		f.ShiftX, f.ShiftY = 0, 0
	}
	return f
}

// matrixOf returns the matrix that players use for the track. Without a tag they
// guess from the size: high definition is BT.709 (mpv's rule).
func matrixOf(v VideoInfo) frame.Matrix {
	switch v.ColorSpace {
	case "bt2020nc", "bt2020c":
		return frame.BT2020
	case "bt470bg", "smpte170m", "fcc":
		return frame.BT601
	case "":
		if v.Width < 1280 && v.Height <= 576 {
			return frame.BT601
		}
	}
	return frame.BT709
}

// spaceName returns ffmpeg's name of a matrix.
func spaceName(m frame.Matrix) string {
	switch m {
	case frame.BT601:
		return "smpte170m"
	case frame.BT2020:
		return "bt2020nc"
	}
	return "bt709"
}

// WorkingTags returns the colour tags of the output: those of the source, and
// always the range and the matrix, even if the source has none. So the output
// looks the same in all players.
func WorkingTags(v VideoInfo, f frame.Format) Tags {
	t := Tags{Range: "tv", Space: spaceName(f.Matrix)}
	if f.FullRange {
		t.Range = "pc"
	}
	if v.RGB || v.IsPicture {
		t.Primaries, t.Transfer = "bt709", "bt709"
		return t
	}
	// Other names of the same matrix stay as they are: bt470bg, bt2020c.
	if v.ColorSpace != "" && v.ColorSpace != "gbr" {
		t.Space = v.ColorSpace
	}
	t.Primaries, t.Transfer = v.ColorPrimaries, v.ColorTransfer
	return t
}
