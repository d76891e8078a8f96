package media

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The parts of ffprobe's answer that are used. Numbers that may be missing or
// strange ("N/A") are kept as text and parsed leniently.
type probeAnswer struct {
	Streams []probeStream `json:"streams"`
	Format  struct {
		FormatName string            `json:"format_name"`
		StartTime  string            `json:"start_time"`
		Duration   string            `json:"duration"`
		Tags       map[string]string `json:"tags"`
	} `json:"format"`
	Chapters []struct {
		Start string            `json:"start_time"`
		End   string            `json:"end_time"`
		Tags  map[string]string `json:"tags"`
	} `json:"chapters"`
}

type probeStream struct {
	Index          int               `json:"index"`
	CodecName      string            `json:"codec_name"`
	CodecType      string            `json:"codec_type"`
	Width          int               `json:"width"`
	Height         int               `json:"height"`
	SampleAspect   string            `json:"sample_aspect_ratio"`
	PixFmt         string            `json:"pix_fmt"`
	ColorRange     string            `json:"color_range"`
	ColorSpace     string            `json:"color_space"`
	ColorTransfer  string            `json:"color_transfer"`
	ColorPrimaries string            `json:"color_primaries"`
	RFrameRate     string            `json:"r_frame_rate"`
	AvgFrameRate   string            `json:"avg_frame_rate"`
	StartTime      string            `json:"start_time"`
	Duration       string            `json:"duration"`
	NbFrames       string            `json:"nb_frames"`
	BitsRaw        string            `json:"bits_per_raw_sample"`
	Bits           int               `json:"bits_per_sample"`
	SampleRate     string            `json:"sample_rate"`
	Channels       int               `json:"channels"`
	Disposition    map[string]int    `json:"disposition"`
	Tags           map[string]string `json:"tags"`
	FieldOrder     string            `json:"field_order"`
	SideData       []sideData        `json:"side_data_list"`
}

// sideData is one element of the side data of a stream or a frame.
type sideData struct {
	Type     string      `json:"side_data_type"`
	Rotation json.Number `json:"rotation"`
	mastering
	MaxContent int `json:"max_content"`
	MaxAverage int `json:"max_average"`
}

// maxSide is the largest width and height. Beyond it a frame would take too much
// memory.
const maxSide = 16384

// playlists are demuxers that open further files by name.
var playlists = []string{"hls", "concat", "dash", "imf", "sdp", "rtsp", "tty", "lavfi", "mpjpeg"}

// parseProbe parses ffprobe's JSON.
func parseProbe(data []byte, kind fileKind) (*Info, error) {
	var a probeAnswer
	if err := json.Unmarshal(data, &a); err != nil {
		return nil, fmt.Errorf("ffprobe printed something unexpected: %w", err)
	}
	for name := range strings.SplitSeq(a.Format.FormatName, ",") {
		if slices.Contains(playlists, name) {
			return nil, errors.New("it is not a media file (" + name + ")")
		}
	}
	info := &Info{
		Container: a.Format.FormatName,
		Duration:  max(0, parseTime(a.Format.Duration)),
		Start:     parseTime(a.Format.StartTime),
		Tags:      map[string]string{},
		demuxer:   kind.demuxer,
	}
	for k, v := range a.Format.Tags {
		info.Tags[strings.ToLower(k)] = v
	}
	var chosen *probeStream
	for i := range a.Streams {
		s := &a.Streams[i]
		switch s.CodecType {
		case "video":
			// Cover art is a picture of the album, not of the speaker.
			if s.Disposition["attached_pic"] == 1 || s.Width <= 0 || s.Height <= 0 {
				continue
			}
			if chosen == nil || chosen.Disposition["default"] != 1 && s.Disposition["default"] == 1 {
				chosen = s
			}
		case "audio":
			rate, _ := strconv.Atoi(s.SampleRate)
			start := s.start(info.Start)
			info.Audio = append(info.Audio, AudioInfo{
				Codec: s.CodecName, SampleRate: max(0, rate), Channels: max(0, s.Channels),
				Bits: s.bits(), Duration: s.duration(start, info.Duration, Rational{}), Start: start,
				Language: language(s.Tags), Title: s.Tags["title"], Default: s.Disposition["default"] == 1, Flags: s.flags(),
			})
		case "subtitle":
			info.Subtitles = append(info.Subtitles, SubtitleInfo{
				Codec: s.CodecName, Language: language(s.Tags), Title: s.Tags["title"], Default: s.Disposition["default"] == 1, Flags: s.flags(),
			})
		}
	}
	for _, c := range a.Chapters {
		info.Chapters = append(info.Chapters, Chapter{parseTime(c.Start) - info.Start, parseTime(c.End) - info.Start, c.Tags["title"]})
	}
	if chosen != nil {
		v, err := chosen.video(info, kind)
		if err != nil {
			return nil, err
		}
		if v.Timecode == "" && !v.IsPicture {
			v.Timecode = a.timecode()
		}
		info.Video = v
	}
	return info, nil
}

// timecode returns the time code of the file, or of its time code track.
func (a *probeAnswer) timecode() string {
	tags := []map[string]string{a.Format.Tags}
	for _, s := range a.Streams {
		if s.CodecType == "data" {
			tags = append(tags, s.Tags)
		}
	}
	for _, t := range tags {
		if code := tagOf(t, "timecode"); code != "" {
			return code
		}
	}
	return ""
}

// tagOf returns a tag whose name may be in capitals, as Matroska writes it.
func tagOf(tags map[string]string, name string) string {
	for k, v := range tags {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// flags returns the names of the dispositions of a track, in alphabetical order.
func (s *probeStream) flags() []string {
	var out []string
	for name, on := range s.Disposition {
		if on == 1 && name != "default" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (s *probeStream) bits() int {
	if n, err := strconv.Atoi(s.BitsRaw); err == nil && n > 0 {
		return min(n, 64)
	}
	return min(max(0, s.Bits), 64)
}

// duration returns a track's own length. start is when it starts, container the
// length of the file according to the container, and rate that of a video track.
func (s *probeStream) duration(start, container time.Duration, rate Rational) time.Duration {
	if d := parseTime(s.Duration); d > 0 {
		return d
	}
	// Matroska has a tag for it, "00:00:01.001000000". Some versions of ffmpeg
	// write the time of the track's end into it, others its length: the one
	// that is a whole number of frames is the length.
	for k, v := range s.Tags {
		if k == "DURATION" || strings.HasPrefix(k, "DURATION-") {
			d := parseClock(v)
			less := d - start
			if d <= 0 || less <= 0 {
				continue
			}
			if off := func(d time.Duration) time.Duration { return (d - rate.Time(rate.Frame(d))).Abs() }; rate.Valid() && off(d) < off(less) {
				return d
			}
			return less
		}
	}
	return max(0, container-start)
}

// start returns a track's start, counted from the container's.
func (s *probeStream) start(container time.Duration) time.Duration {
	if s.StartTime == "" || s.StartTime == "N/A" {
		return 0
	}
	return max(0, parseTime(s.StartTime)-container)
}

func language(tags map[string]string) string {
	if l := tags["language"]; l != "und" {
		return l
	}
	return ""
}

func (s *probeStream) video(info *Info, kind fileKind) (*VideoInfo, error) {
	if s.Width > maxSide || s.Height > maxSide {
		return nil, fmt.Errorf("the picture is too large: %dx%d, at most %d on a side", s.Width, s.Height, maxSide)
	}
	v := &VideoInfo{
		Index: s.Index, Codec: s.CodecName, Width: s.Width, Height: s.Height, PixFmt: s.PixFmt,
		ColorRange: known(s.ColorRange), ColorSpace: known(s.ColorSpace),
		ColorPrimaries: known(s.ColorPrimaries), ColorTransfer: known(s.ColorTransfer),
		SampleAspect: ParseRational(s.SampleAspect), IsPicture: kind.picture,
		FieldOrder: known(s.FieldOrder), Timecode: tagOf(s.Tags, "timecode"), Language: language(s.Tags), Title: s.Tags["title"],
		HDR: hdrOf(s.SideData), sideData: s.SideData,
	}
	p := pixelFormat(s.PixFmt)
	v.Depth, v.ShiftX, v.ShiftY, v.RGB, v.HasAlpha = p.depth, p.shiftX, p.shiftY, p.rgb, p.alpha
	if v.ColorRange == "" && strings.HasPrefix(s.PixFmt, "yuvj") {
		v.ColorRange = "pc"
	}
	// VP8 and VP9 carry alpha as a second picture beside the first.
	if tagOf(s.Tags, "alpha_mode") == "1" {
		v.HasAlpha = true
	}
	if v.IsPicture {
		v.Frames, v.SampleAspect = 1, Rational{}
		info.Duration = 0
		return v, nil
	}
	v.Rotation = s.rotation()
	if v.Rotation%180 != 0 {
		v.Width, v.Height = v.Height, v.Width
		v.SampleAspect = Rational{v.SampleAspect.Den, v.SampleAspect.Num}
	}
	v.Start = s.start(info.Start)
	v.Frames, _ = strconv.ParseInt(s.NbFrames, 10, 64)
	v.setRate(ParseRational(s.RFrameRate), ParseRational(s.AvgFrameRate))
	v.Duration = s.duration(v.Start, info.Duration, v.FrameRate)
	return v, nil
}

// setRate chooses the rate from the header's two: r, the lowest that all
// timestamps fit, and the average.
func (v *VideoInfo) setRate(r, avg Rational) {
	v.header = [2]Rational{r, avg}
	switch {
	case r.Valid() && avg.Valid() && math.Abs(r.Float()/avg.Float()-1) <= 1e-3 && r.Float() <= 1000:
		v.FrameRate = snap(r)
	case avg.Valid() && avg.Float() <= 1000:
		v.FrameRate, v.VFR = snap(avg), true
	case r.Valid() && r.Float() <= 120:
		v.FrameRate, v.VFR = snap(r), true
	default:
		v.FrameRate, v.VFR = Rational{25, 1}, true
	}
}

// rotation returns the rotation in degrees clockwise, rounded to quarter turns.
func (s *probeStream) rotation() int {
	deg, found := 0.0, false
	for _, d := range s.SideData {
		if f, err := d.Rotation.Float64(); err == nil {
			deg, found = -f, true // the display matrix counts the other way
		}
	}
	if !found {
		// Only old versions of ffmpeg show the tag.
		deg, _ = strconv.ParseFloat(s.Tags["rotate"], 64)
	}
	if math.IsNaN(deg) || math.Abs(deg) > 1e6 {
		return 0
	}
	q := int(math.Round(deg/90)) % 4
	return (q + 4) % 4 * 90
}

func known(tag string) string {
	if tag == "unknown" || tag == "unspecified" || tag == "reserved" {
		return ""
	}
	return tag
}

// maxTime keeps times far from the limits of their type.
const maxTime = 1e6 * time.Hour

// parseTime reads seconds, exactly to the nanosecond.
func parseTime(s string) time.Duration {
	d, err := time.ParseDuration(s + "s")
	if err != nil || d.Abs() > maxTime {
		return 0
	}
	return d
}

// parseClock reads "01:02:03.004000000".
func parseClock(s string) time.Duration {
	h, rest, _ := strings.Cut(s, ":")
	m, sec, _ := strings.Cut(rest, ":")
	return parseTime(h + "h" + m + "m" + sec)
}
