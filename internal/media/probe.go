package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/ffmpeg"
)

// Info is what a media file holds.
type Info struct {
	Path      string
	Container string        // ffmpeg's name: "mov,mp4,m4a,3gp,3g2,mj2"
	Duration  time.Duration // of the longest track; 0 when not known (a picture)
	Start     time.Duration // time of the first packet; may be negative
	Video     *VideoInfo    // nil without a video track
	Audio     []AudioInfo   // in the order of the file
	Subtitles []SubtitleInfo
	Chapters  []Chapter
	Tags      map[string]string // of the file, by lower-case name: title, artist

	demuxer string // forced when the file is a picture: "png_pipe"
}

// VideoInfo describes the video track that is used.
type VideoInfo struct {
	Index         int // of the stream in the file
	Codec         string
	Width, Height int           // as shown, after rotation
	Rotation      int           // degrees clockwise that turn the stored picture upright: 0, 90, 180, 270
	Orientation   int           // EXIF orientation of a picture, 1 to 8; 0 for a video
	FrameRate     Rational      // the constant rate that the track is read at
	VFR           bool          // the file's own frames do not keep a constant rate
	Frames        int64         // at FrameRate; exact for most CFR files, else estimated; 0 when not known; 1 for a picture
	Duration      time.Duration // of the video track; 0 when not known or for a picture
	Start         time.Duration // of the first frame, counted from Info.Start

	PixFmt   string
	Depth    int // bits per sample
	ShiftX   int // chroma subsampling, as powers of two
	ShiftY   int
	RGB      bool // RGB, paletted or gray rather than Y'CbCr
	HasAlpha bool

	// As ffmpeg names them; empty when the file does not say.
	ColorRange, ColorSpace, ColorPrimaries, ColorTransfer string

	HDR *HDR // static metadata of HDR video; nil if there is none

	SampleAspect Rational // shape of a pixel; zero when not known, which means square
	IsPicture    bool     // a still: no rate, no length

	FieldOrder string // as ffmpeg names it: progressive, tt, bb, tb, bt; empty when not known
	Timecode   string // of the first frame, "01:00:00:00"; empty if there is none
	Language   string
	Title      string

	header   [2]Rational // r_frame_rate and avg_frame_rate
	sideData []sideData
}

// AudioInfo describes one audio track.
type AudioInfo struct {
	Codec      string
	SampleRate int
	Channels   int
	Bits       int // of a sample in lossless codecs, else 0
	Duration   time.Duration
	Start      time.Duration // counted from Info.Start
	Language   string
	Title      string
	Default    bool
	Flags      []string // other dispositions, as ffmpeg names them: comment, forced
}

// SubtitleInfo describes one subtitle track.
type SubtitleInfo struct {
	Codec    string
	Language string
	Title    string
	Default  bool
	Flags    []string // as in AudioInfo
}

// Chapter is a chapter of a file. Its times count from Info.Start.
type Chapter struct {
	Start, End time.Duration
	Title      string
}

// NeedVideo returns an error if the file has no video track.
func (i *Info) NeedVideo() error {
	if i.Video == nil {
		return fault.Input.New("read video "+i.Path, "the file has no video track", "choose a video or a picture")
	}
	return nil
}

// NeedAudio returns an error if the file has no audio track.
func (i *Info) NeedAudio() error {
	if len(i.Audio) == 0 {
		return fault.Input.New("read audio "+i.Path, "the file has no audio track",
			"choose a sound file, or a video with sound")
	}
	return nil
}

// DefaultAudio returns the track that a player would choose, by its position
// among the audio tracks, or -1 if there is none.
func (i *Info) DefaultAudio() int {
	if t := slices.IndexFunc(i.Audio, func(a AudioInfo) bool { return a.Default }); t >= 0 {
		return t
	}
	return min(len(i.Audio), 1) - 1
}

// Probe finds out what a file contains. It never follows a playlist or a URL.
func Probe(ctx context.Context, tools Tools, path string) (*Info, error) {
	info, err := probeAny(ctx, tools, path)
	if err == nil && info.Video == nil && len(info.Audio) == 0 {
		err = fault.Input.New("read "+path, "it is not a media file: it has neither video nor sound", playHint)
	}
	if err != nil {
		return nil, err
	}
	return info, nil
}

// probeAny is Probe for files that may hold only subtitles.
func probeAny(ctx context.Context, tools Tools, path string) (*Info, error) {
	op := strings.TrimSpace("read " + path)
	kind, err := sniff(op, path)
	if err != nil {
		return nil, err
	}
	if kind.refuse != "" {
		return nil, fault.Input.New(op, kind.refuse, kind.hint)
	}
	args := []string{"-v", "error", "-protocol_whitelist", "file,pipe"}
	if kind.demuxer != "" {
		args = append(args, "-f", kind.demuxer)
	}
	args = append(args, "-of", "json", "-show_format", "-show_streams", "-show_chapters", "-i", fileURL(path))
	out, err := output(ctx, tools.FFprobe, args...)
	if err != nil {
		return nil, probeFault(op, err, kind)
	}
	// Several images are the tiles of one picture; a single tile is of no use.
	if kind.heic && bytes.Count(out, []byte(`"codec_type": "video"`)) != 1 {
		return nil, heicFault(op, errors.New("it is stored in tiles, or it is missing"))
	}
	info, err := parseProbe(out, kind)
	if err != nil {
		return nil, fault.Input.Wrap(op, err)
	}
	info.Path = path
	v := info.Video
	if v != nil && v.IsPicture {
		v.orient(kind.orientation)
	} else if v != nil {
		if v.VFR {
			v.measureRate(ctx, tools, path)
		}
		v.countFrames()
		if v.isHDR() {
			v.readHDR(ctx, tools, path)
		}
	}
	return info, nil
}

// probeFault explains to the user why ffprobe could not read the file.
func probeFault(op string, err error, kind fileKind) error {
	x, ok := errors.AsType[*child.ExitError](err)
	if !ok {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			return fault.Missing.Wrap("run ffprobe", err, ffmpeg.InstallHint())
		}
		return fault.Input.Wrap(op, err)
	}
	text := strings.Join(x.Stderr, "\n")
	switch {
	case x.Signal != 0:
		return fault.Internal.Wrap(op, err)
	case kind.heic:
		return heicFault(op, err)
	case kind.boxes && strings.Contains(text, "moov atom not found"):
		return fault.Input.Wrap(op, &explained{"the file is incomplete: its index (the moov atom) is missing", err},
			"copy or download the file again; a recording that was broken off has to be repaired first")
	case strings.Contains(text, "Invalid data found"), strings.Contains(text, "Not yet implemented"):
		return fault.Input.Wrap(op, &explained{"it is not a media file that ffmpeg can read, or it is damaged", err}, playHint)
	}
	return fault.Input.Wrap(op, err, openHint)
}

func heicFault(op string, err error) error {
	return fault.Input.Wrap(op, &explained{"this HEIC picture cannot be read by ffmpeg", err}, "convert it to JPEG or PNG first")
}

const (
	openHint = "check that the file opens in a viewer or a player"
	playHint = "check that the file plays in a video player"
)

// countFrames sets Frames if the container does not say. It stays unknown for a
// file without a length, as browsers record them.
func (v *VideoInfo) countFrames() {
	switch {
	case v.Frames > 0 && !v.VFR:
	case v.Duration <= 0:
		v.Frames = 0
	default:
		v.Frames = max(1, v.FrameRate.Frame(v.Duration))
	}
}

// ratePackets is how many packets are read to find the frame rate: about 20
// seconds.
const ratePackets = 600

// measureRate reads the packets' times of a track whose header has two different
// rates. The track may be VFR, or the header may be slightly wrong.
func (v *VideoInfo) measureRate(ctx context.Context, tools Tools, path string) {
	out, err := output(ctx, tools.FFprobe, "-v", "error", "-protocol_whitelist", "file,pipe",
		"-select_streams", strconv.Itoa(v.Index), "-show_entries", "packet=pts_time", "-read_intervals", fmt.Sprintf("%%+#%d", ratePackets),
		"-of", "csv=p=0", "-i", fileURL(path))
	if err != nil {
		return // keep the header's rate
	}
	var times []float64
	for f := range strings.FieldsFuncSeq(string(out), func(r rune) bool { return r == '\n' || r == ',' || r == '\r' }) {
		if t, err := strconv.ParseFloat(f, 64); err == nil {
			times = append(times, t)
		}
	}
	slices.Sort(times)
	v.rateFrom(times)
}

// rateFrom finds the rate from the frames' times. A rate is constant if nearly all
// distances between frames equal its period.
func (v *VideoInfo) rateFrom(times []float64) {
	if len(times) < 2 {
		return
	}
	gaps := make([]float64, len(times)-1)
	for i := range gaps {
		gaps[i] = times[i+1] - times[i]
	}
	slices.Sort(gaps)
	median := gaps[len(gaps)/2]
	candidates := []Rational{v.header[0], v.header[1], snap(v.header[1])}
	if v.header[0].Valid() {
		// The first rate of an interlaced track counts fields.
		candidates = append(candidates, Rational{v.header[0].Num, 2 * v.header[0].Den}.reduced())
	}
	if median > 0 {
		candidates = append(candidates, rateOf(median))
	}
	for _, r := range candidates {
		if !r.Valid() {
			continue
		}
		fits := 0
		for _, g := range gaps {
			// Containers round times to a millisecond.
			if d := g - 1/r.Float(); d > -0.0011 && d < 0.0011 {
				fits++
			}
		}
		// One gap in a hundred may be a dropped frame.
		if fits > 0 && fits*100 >= 98*len(gaps) {
			v.FrameRate, v.VFR = r, false
			return
		}
	}
	// The frames have one rate, with pauses between them. Reading fills the pauses.
	near, sum := 0, 0.0
	for _, g := range gaps {
		if tolerance := min(0.0011, median/4); g > median-tolerance && g < median+tolerance {
			near++
			sum += g
		}
	}
	if median > 0.002 && 2*near >= len(gaps) {
		v.FrameRate = rateOf(sum / float64(near))
		return
	}
	if !v.header[1].Valid() && median > 0 {
		v.FrameRate = rateOf(median)
	}
}

// rateOf returns the rate of frames that are a period of seconds apart.
func rateOf(period float64) Rational {
	return snap(Rational{int64(1e6/period + 0.5), 1e6}.reduced())
}

// fileKind is what the first bytes of a file reveal.
type fileKind struct {
	demuxer      string // of a picture; empty for anything else
	boxes        bool   // it begins like MP4 or QuickTime
	picture      bool
	orientation  int  // EXIF
	heic         bool // only new versions of ffmpeg read it
	refuse, hint string
}

// sniff distinguishes pictures from videos. It refuses what is not a file that can be
// read more than once, and playlists, because a file from a stranger must not make us
// read other files.
func sniff(op, path string) (fileKind, error) {
	st, err := os.Stat(path)
	switch {
	case path == "":
		return fileKind{}, fault.Input.New(op, "no file was named")
	case os.IsNotExist(err):
		return fileKind{}, fault.Input.New(op, "there is no such file", "check the path")
	case err != nil:
		return fileKind{}, fault.Input.Wrap(op, fault.WithoutPath(err))
	case st.IsDir():
		return fileKind{}, fault.Input.New(op, "it is a directory, not a media file")
	case !st.Mode().IsRegular():
		return fileKind{}, fault.Input.New(op, "it is not a regular file", "save it as a file first, because it is read more than once")
	case st.Size() == 0:
		return fileKind{}, fault.Input.New(op, "the file is empty")
	}
	f, err := os.Open(path)
	if err != nil {
		return fileKind{}, fault.Input.Wrap(op, fault.WithoutPath(err), "check its permissions")
	}
	defer f.Close()
	// EXIF may follow a colour profile; 256 KiB reach that far.
	head, err := io.ReadAll(io.LimitReader(f, 256<<10))
	return sniffBytes(head, strings.ToLower(path)), fault.Input.Wrap(op, fault.WithoutPath(err))
}

func sniffBytes(head []byte, name string) fileKind {
	is := func(at int, magic string) bool {
		return len(head) >= at+len(magic) && string(head[at:at+len(magic)]) == magic
	}
	text := bytes.TrimLeft(head[:min(len(head), 512)], "\xef\xbb\xbf \t\r\n")
	switch {
	case is(0, "\x89PNG\r\n\x1a\n"):
		if i := bytes.Index(head, []byte("acTL")); i > 0 && !bytes.Contains(head[:i], []byte("IDAT")) {
			return fileKind{} // animated: a video
		}
		return fileKind{demuxer: "png_pipe", picture: true, orientation: exifOrientation(head)}
	case is(0, "\xff\xd8\xff"):
		if strings.HasSuffix(name, ".mjpeg") || strings.HasSuffix(name, ".mjpg") {
			return fileKind{}
		}
		return fileKind{demuxer: "jpeg_pipe", picture: true, orientation: exifOrientation(head)}
	case is(0, "RIFF") && is(8, "WEBP"):
		if is(12, "VP8X") && len(head) > 20 && head[20]&2 != 0 {
			return fileKind{refuse: "animated WebP cannot be read by ffmpeg", hint: "convert it to a video or a GIF first"}
		}
		return fileKind{demuxer: "webp_pipe", picture: true, orientation: exifOrientation(head)}
	case is(0, "II*\x00"), is(0, "MM\x00*"):
		return fileKind{demuxer: "tiff_pipe", picture: true, orientation: tiffOrientation(head)}
	case is(0, "BM") && len(head) > 14 && is(6, "\x00\x00\x00\x00"):
		return fileKind{demuxer: "bmp_pipe", picture: true}
	case is(4, "ftypheic"), is(4, "ftypheix"), is(4, "ftypmif1"):
		return fileKind{picture: true, heic: true}
	case is(4, "ftypavif"):
		return fileKind{picture: true}
	case bytes.HasPrefix(text, []byte("#EXTM3U")), bytes.HasPrefix(text, []byte("ffconcat")), bytes.Contains(text, []byte("<MPD")),
		bytes.HasPrefix(text, []byte("v=0")) && bytes.Contains(text, []byte("m=")):
		return fileKind{refuse: "this is a playlist, not a media file", hint: "choose the media file itself"}
	}
	// ffmpeg assumes that any file named .mp4 is one.
	boxes := []string{"ftyp", "moov", "mdat", "wide", "free", "skip", "pnot"}
	return fileKind{boxes: slices.ContainsFunc(boxes, func(box string) bool { return is(4, box) })}
}
