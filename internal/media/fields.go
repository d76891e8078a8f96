package media

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Deinterlace says whether fields become whole frames. The zero value leaves frames as
// they are.
type Deinterlace int

// The ways to deinterlace.
const (
	KeepFields Deinterlace = iota
	MarkedOnly             // frames that the decoder marks as interlaced
	EveryFrame             // all frames, if the file does not mark them
)

// The order of fields in an interlaced output.
const (
	FieldsTop    = "tff"
	FieldsBottom = "bff"
)

// Fields returns the order of the fields of a track, FieldsTop or FieldsBottom, or ""
// if it is not interlaced.
func (v *VideoInfo) Fields() string {
	switch v.FieldOrder {
	case "tt", "tb":
		// The letters mean the field stored first and the one shown first, but files of
		// QuickTime with "tb" begin with the top field (Apple's TN2162,
		// SpatialFirstLineEarly), and so do those that ffmpeg writes.
		return FieldsTop
	case "bb", "bt":
		return FieldsBottom
	}
	return ""
}

// DeinterlaceFor returns what is done with the fields of v for a value of the setting
// `deinterlace`: "yes", "no" or, for anything else, what the file says.
func DeinterlaceFor(v *VideoInfo, setting string) Deinterlace {
	switch {
	case v.IsPicture, setting == "no":
		return KeepFields
	case setting == "yes":
		return EveryFrame
	case v.Fields() != "":
		return MarkedOnly
	}
	return KeepFields
}

// FieldsWarning returns a warning if fields of v remain visible although d treats them,
// or are lost in a file named path that is encoded with codec; or "".
func FieldsWarning(v *VideoInfo, d Deinterlace, path, codec string) string {
	if v.Fields() == "" || v.IsPicture {
		return ""
	}
	if v.Rotation%180 != 0 {
		return "the video is interlaced and turned by a quarter, so its fields become columns and the output shows combs; deinterlace it with another program before"
	}
	ext := strings.ToLower(filepath.Ext(path))
	if d == KeepFields && (ext == ".webm" || ext == ".avi") && codec != "h264" {
		return fmt.Sprintf("%s files with %s cannot say that the video is interlaced, so players will show combs; set `deinterlace` to auto, or choose an output that ends in .mp4, .mov or .mkv", ext, codec)
	}
	return ""
}

// lookBack is how many frames are decoded before the first wanted one when
// deinterlacing: a frame depends on the one before it, wherever reading starts.
const lookBack = 3

// filters returns the filters that deinterlace v to frames at rate.
func (d Deinterlace) filters(v *VideoInfo, rate Rational) []string {
	if d == KeepFields {
		return nil
	}
	mode, which := "send_frame", "interlaced"
	if rate.Float() > 1.5*v.FrameRate.Float() {
		mode = "send_field" // a frame from each field
	}
	if d == EveryFrame {
		which = "all"
	}
	return []string{"bwdif=mode=" + mode + ":parity=auto:deint=" + which}
}
