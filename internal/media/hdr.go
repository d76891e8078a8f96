package media

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// HDR is the static metadata of HDR video (SMPTE ST 2086 and CTA-861.3). It says how the
// video was graded; players use it to map it to what their display can show.
type HDR struct {
	Mastering mastering
	// The light level of the brightest pixel and of the brightest frame, cd/m²; 0 when
	// not known.
	MaxContent, MaxAverage int
	// Dynamic is the name of metadata that differ between scenes. Lipstream drops them.
	Dynamic string
}

// mastering describes the display on which a video was graded, in ffprobe's notation:
// fractions such as "34000/50000". Its fields are empty when not known.
type mastering struct {
	RedX   string `json:"red_x"`
	RedY   string `json:"red_y"`
	GreenX string `json:"green_x"`
	GreenY string `json:"green_y"`
	BlueX  string `json:"blue_x"`
	BlueY  string `json:"blue_y"`
	WhiteX string `json:"white_point_x"`
	WhiteY string `json:"white_point_y"`
	MinLum string `json:"min_luminance"`
	MaxLum string `json:"max_luminance"`
}

// isHDR reports whether the transfer function of the track is PQ or HLG.
func (v *VideoInfo) isHDR() bool {
	return v.ColorTransfer == "smpte2084" || v.ColorTransfer == "arib-std-b67"
}

// hdrOf returns the HDR metadata among side data, or nil.
func hdrOf(list []sideData) *HDR {
	var h HDR
	for _, d := range list {
		switch {
		case d.Type == "Mastering display metadata":
			h.Mastering = d.mastering
		case d.Type == "Content light level metadata":
			h.MaxContent, h.MaxAverage = d.MaxContent, d.MaxAverage
		case strings.HasPrefix(d.Type, "DOVI"), strings.HasPrefix(d.Type, "Dolby Vision"):
			h.Dynamic = "Dolby Vision"
		case strings.Contains(d.Type, "SMPTE2094"):
			h.Dynamic = "HDR10+"
		}
	}
	if h == (HDR{}) {
		return nil
	}
	return &h
}

// readHDR looks for HDR metadata in the first frame. Where the container does not hold
// them, the bit stream does.
func (v *VideoInfo) readHDR(ctx context.Context, tools Tools, path string) {
	out, err := output(ctx, tools.FFprobe, "-v", "error", "-protocol_whitelist", "file,pipe", "-select_streams", strconv.Itoa(v.Index),
		"-show_frames", "-show_entries", "frame=side_data_list", "-read_intervals", "%+#1", "-of", "json", "-i", fileURL(path))
	var a struct {
		Frames []struct {
			SideData []sideData `json:"side_data_list"`
		} `json:"frames"`
	}
	if err != nil || json.Unmarshal(out, &a) != nil || len(a.Frames) == 0 {
		return // the frames will show what is wrong
	}
	// The side data of the stream come second: hdrOf takes the last of each kind.
	v.HDR = hdrOf(append(a.Frames[0].SideData, v.sideData...))
}

// static reports whether there is anything to keep.
func (h *HDR) static() bool { return h != nil && (h.Mastering != (mastering{}) || h.MaxContent > 0) }

// x265 returns the parameters of x265 that write the metadata.
func (h *HDR) x265() []string { return h.params("master-display", "max-cll") }

// x264 returns the parameters of x264 that write the metadata.
func (h *HDR) x264() []string { return h.params("mastering-display", "cll") }

func (h *HDR) params(display, light string) (out []string) {
	if !h.static() {
		return nil
	}
	if m := h.Mastering.text(); m != "" {
		out = append(out, display+"="+m)
	}
	if h.MaxContent > 0 {
		out = append(out, fmt.Sprintf("%s=%d,%d", light, h.MaxContent, h.MaxAverage))
	}
	return out
}

// text returns the notation of x264 and x265, in steps of 0.00002 for chromaticities
// and of 0.0001 cd/m², or "" if something is missing.
func (m mastering) text() string {
	steps := func(s string, unit float64) string {
		num, den, _ := strings.Cut(s, "/")
		n, err1 := strconv.ParseFloat(num, 64)
		d, err2 := strconv.ParseFloat(den, 64)
		if v := math.Round(n / d * unit); err1 == nil && err2 == nil && v >= 0 && v <= math.MaxUint32 {
			return strconv.FormatFloat(v, 'f', 0, 64)
		}
		return ""
	}
	const colour, light = 50000, 10000
	parts := []string{
		steps(m.GreenX, colour), steps(m.GreenY, colour), steps(m.BlueX, colour), steps(m.BlueY, colour), steps(m.RedX, colour), steps(m.RedY, colour),
		steps(m.WhiteX, colour), steps(m.WhiteY, colour), steps(m.MaxLum, light), steps(m.MinLum, light),
	}
	if slices.Contains(parts, "") {
		return ""
	}
	return fmt.Sprintf("G(%s,%s)B(%s,%s)R(%s,%s)WP(%s,%s)L(%s,%s)", parts[0], parts[1], parts[2], parts[3], parts[4], parts[5], parts[6], parts[7], parts[8], parts[9])
}

// hdrWarnings returns warnings about metadata that are lost with a codec.
func (v *VideoInfo) hdrWarnings(path, codec string, c container) (out []string) {
	if !v.isHDR() || v.HDR == nil {
		return nil
	}
	if v.HDR.static() && codec != "hevc" && codec != "h264" {
		hint := "choose an output that ends in .mp4 or .mkv"
		if slices.Contains(c.video, "hevc") {
			hint = "set `codec` to hevc"
		}
		out = append(out, fmt.Sprintf("%s: mastering display and content light level are not kept by %s; %s to keep them", path, codec, hint))
	}
	if v.HDR.Dynamic != "" {
		name := "HDR10"
		if v.ColorTransfer == "arib-std-b67" {
			name = "HLG"
		}
		out = append(out, fmt.Sprintf("%s: its metadata of %s do not fit changed frames and are left out; the output is %s", path, v.HDR.Dynamic, name))
	}
	return out
}
