package media

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

// Extras is what the output gets from the file of the video beside its frames: tags,
// time code, chapters, and, if they are wanted, its tracks of sound and subtitles.
// Times are shifted to the part of the video that is used.
type Extras struct {
	From       *Info
	Start, End time.Duration // of the part; an End of 0 is that of the file
	Audio      bool          // keep tracks of sound
	Voice      int           // position of the track of sound that is the voice, which is not kept twice; -1: none
	Subtitles  bool          // keep tracks of subtitles
}

// carried are the tags of a file that go into the output. All containers know them.
var carried = []string{"title", "artist", "album_artist", "composer", "album", "date", "genre", "copyright", "description",
	"synopsis", "show", "episode_id", "network", "grouping"}

// subtitles lists by muxer the codecs of subtitles that go in as they are, and the
// encoder for other text.
var subtitles = map[string]struct {
	copies []string
	text   string
}{
	"mp4":      {[]string{"mov_text", "dvd_subtitle"}, "mov_text"},
	"mov":      {[]string{"mov_text"}, "mov_text"},
	"matroska": {[]string{"subrip", "ass", "ssa", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle"}, "srt"},
	"webm":     {[]string{"webvtt"}, "webvtt"},
}

// textSubtitles are the codecs of subtitles that can be converted.
var textSubtitles = []string{"subrip", "ass", "ssa", "webvtt", "mov_text", "text"}

// keptTrack is a track that goes into the output.
type keptTrack struct {
	kind     byte // 'a' or 's'
	from     int  // position among the tracks of its kind
	codec    string
	encoder  string
	language string
	title    string
	flags    []string
}

// tracks returns the tracks to keep, and what a container cannot take.
func (e *Extras) tracks(c container) (kept []keptTrack, lost []string) {
	for i, a := range e.From.Audio {
		switch {
		case !e.Audio || i == e.Voice:
		case slices.Contains(c.copies, a.Codec):
			kept = append(kept, keptTrack{'a', i, a.Codec, "copy", a.Language, a.Title, a.Flags})
		default:
			lost = append(lost, fmt.Sprintf("sound track %d (%s)", i+1, a.Codec))
		}
	}
	can := subtitles[c.format]
	for i, t := range e.From.Subtitles {
		encoder := "copy"
		if !slices.Contains(can.copies, t.Codec) {
			encoder = can.text
		}
		flags := t.Flags
		if t.Default {
			flags = append(slices.Clone(flags), "default")
		}
		switch {
		case !e.Subtitles:
		case encoder != "" && (encoder == "copy" || slices.Contains(textSubtitles, t.Codec)):
			kept = append(kept, keptTrack{'s', i, t.Codec, encoder, t.Language, t.Title, flags})
		default:
			lost = append(lost, fmt.Sprintf("subtitles %d (%s)", i+1, t.Codec))
		}
	}
	return kept, lost
}

// Warnings returns warnings about what a file named path cannot take.
func (e *Extras) Warnings(path string) (out []string) {
	c, err := containerOf(path)
	if err != nil {
		return nil
	}
	_, lost := e.tracks(c)
	if c.format == "avi" && len(e.chapters(0)) > 0 {
		lost = append(lost, "chapters")
	}
	if !c.timecode() && e.From.Video.Timecode != "" {
		lost = append(lost, "time code")
	}
	if len(lost) > 0 {
		out = append(out, fmt.Sprintf("%s: left out, because %s files cannot take it: %s; an output that ends in .mkv takes the most",
			e.From.Path, strings.ToLower(filepath.Ext(path)), strings.Join(lost, ", ")))
	}
	return out
}

// timecode reports whether the container keeps time code.
func (c container) timecode() bool {
	return slices.Contains([]string{"mp4", "mov", "matroska"}, c.format)
}

// chapters returns the chapters of the part, cut to an output of some length; 0 means
// that it is not known.
func (e *Extras) chapters(length time.Duration) (out []Chapter) {
	end := e.length(length)
	for _, c := range e.From.Chapters {
		c.Start, c.End = max(0, c.Start-e.Start), c.End-e.Start
		if end > 0 {
			c.End = min(c.End, end)
		}
		if c.End > c.Start {
			out = append(out, c)
		}
	}
	return out
}

// length returns how long the part is that an output of some length shows; 0 means not
// known.
func (e *Extras) length(output time.Duration) time.Duration {
	if part := e.End - e.Start; part > 0 && (output == 0 || part < output) {
		return part
	}
	return output
}

// args returns the arguments that add the extras to the output, whose inputs so far are
// before in number. It writes files beside s.temp for ffmpeg to read.
func (e *Extras) args(s *Sink, before int, copyts bool) (in, out []string, err error) {
	c, length := s.cont, s.o.Duration
	title := "title"
	if c.format == "mp4" || c.format == "mov" {
		title = "handler_name" // what they have as the title of a track
	}
	kept, _ := e.tracks(c)
	inputs, err := e.extract(s, kept)
	if err != nil {
		return nil, nil, err
	}
	number := map[byte]int{'a': 1} // the voice is track 0
	for _, path := range inputs {
		info, err := probeAny(s.ctx, s.tools, path)
		sound := slices.ContainsFunc(kept, func(k keptTrack) bool { return k.kind == 'a' && path == s.beside(k.suffix()) })
		if fault.KindOf(err) == fault.Input {
			// Nothing of these tracks falls into the part, so ffmpeg has left a file that
			// cannot be read.
			if sound && s.o.Warn != nil {
				s.o.Warn(e.From.Path + ": the tracks to keep are left out, because they have no sound in the part of the video that is used")
			}
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if !copyts && info.Start != 0 {
			// ffmpeg lets each input begin at 0, but subtitles may begin late.
			in = append(in, "-itsoffset", seconds(info.Start.Seconds()))
		}
		in = append(in, inputArgs(info, path)...)
		position := map[byte]int{}
		for _, k := range kept {
			if path != s.beside(k.suffix()) {
				continue
			}
			at := fmt.Sprintf("%c:%d", k.kind, number[k.kind])
			out = append(out, "-map", fmt.Sprintf("%d:%c:%d", before, k.kind, position[k.kind]), "-c:"+at, k.encoder,
				"-disposition:"+at, cmp.Or(strings.Join(k.flags, "+"), "0"))
			out = append(out, tagArgs("s:"+at, "language", k.language, title, k.title)...)
			number[k.kind]++
			position[k.kind]++
		}
		before++
	}
	if len(kept) > 0 {
		out = append(out, "-disposition:v:0", "default", "-disposition:a:0", "default")
	}
	if list := e.chapters(length); len(list) > 0 && c.format != "avi" {
		path, n := s.beside(chaptersSuffix), strconv.Itoa(before)
		if err := writeList(path, chapterFile(list)); err != nil {
			return nil, nil, err
		}
		in = append(in, "-f", "ffmetadata", "-protocol_whitelist", "file,pipe", "-i", fileURL(path))
		out = append(out, "-map_metadata", n, "-map_metadata:s:v:0", n+":g", "-map_chapters", n)
	} else {
		out = append(out, noMetadata...)
	}
	v := e.From.Video
	out = append(out, tagArgs("s:v:0", "language", v.Language, title, v.Title)...)
	if code := ShiftTimecode(v.Timecode, v.FrameRate.Frame(e.Start), v.FrameRate, s.o.Rate); code != "" && c.timecode() {
		out = append(out, tagArgs("s:v:0", "timecode", code)...)
	}
	for _, name := range carried {
		out = append(out, tagArgs("g", name, e.From.Tags[name])...)
	}
	return in, out, nil
}

// extract copies the part of the tracks to keep into files of their own, and returns
// their names. In one run with the frames, the tracks could not be cut where the part
// begins and ends, because the sound may need -copyts.
func (e *Extras) extract(s *Sink, kept []keptTrack) (paths []string, err error) {
	if len(kept) == 0 {
		return nil, nil
	}
	var args []string
	// The frames are moved onto their grid, and the tracks with them.
	if at := e.Start.Seconds() + (VideoOptions{Rate: s.o.Rate}).offset(e.From.Video); at > 0 {
		args = append(args, "-ss", seconds(at))
	}
	if d := e.length(s.o.Duration); d > 0 {
		args = append(args, "-t", seconds(d.Seconds()))
	}
	args = append(args, inputArgs(e.From, e.From.Path)...)
	for suffix, format := range map[string]string{tracksSuffix: "matroska", textSuffix: "mov"} {
		var maps []string
		for _, k := range kept {
			if k.suffix() == suffix {
				maps = append(maps, "-map", fmt.Sprintf("0:%c:%d", k.kind, k.from))
			}
		}
		if len(maps) > 0 {
			paths = append(paths, s.beside(suffix))
			// Without -copypriorss 0, what lies before Start would be copied as well.
			args = append(append(args, maps...), "-c", "copy", "-copypriorss", "0", "-map_metadata", "-1", "-map_chapters", "-1",
				"-f", format, "-y", fileURL(s.beside(suffix)))
		}
	}
	slices.Sort(paths)
	_, err = output(s.ctx, s.tools.FFmpeg, append([]string{"-hide_banner", "-nostdin", "-loglevel", "error"}, args...)...)
	if s.ctx.Err() != nil {
		return nil, fault.Cancelled.Wrap(s.op, s.ctx.Err())
	}
	return paths, fault.Input.Wrap("copy the tracks of "+e.From.Path, err, "set `keep_tracks` to none")
}

// suffix returns the suffix of the file that extract copies the track to. Only MP4 and
// QuickTime hold mov_text.
func (k keptTrack) suffix() string {
	if k.codec == "mov_text" {
		return textSuffix
	}
	return tracksSuffix
}

// noMetadata keeps ffmpeg from copying tags and chapters of the inputs. With chapters
// from a file these options would remove their titles, so the (empty) tags of that file
// take the place of all others.
var noMetadata = []string{"-map_metadata", "-1", "-map_chapters", "-1"}

// The extensions of the files that ffmpeg reads while it writes an output.
const (
	tracksSuffix   = ".tracks"
	textSuffix     = ".text"
	chaptersSuffix = ".chapters"
	partsSuffix    = ".parts"
)

func writeList(path, content string) error {
	return fault.Output.Wrap("write "+path, fault.WithoutPath(os.WriteFile(path, []byte(content), 0o600)))
}

// longestTag is the most characters of a tag that are kept: a program takes only so many
// bytes of arguments, 32 KiB in all on Windows.
const longestTag = 1000

// tagArgs returns the arguments that set tags, given as names and values. Empty values
// are left out.
func tagArgs(where string, tags ...string) (out []string) {
	for i := 0; i < len(tags); i += 2 {
		value := []rune(strings.ReplaceAll(tags[i+1], "\x00", ""))
		if len(value) > 0 {
			out = append(out, "-metadata:"+where, tags[i]+"="+string(value[:min(len(value), longestTag)]))
		}
	}
	return out
}

// chapterFile returns chapters in ffmpeg's own format.
func chapterFile(list []Chapter) string {
	escape := strings.NewReplacer(`\`, `\\`, "=", `\=`, ";", `\;`, "#", `\#`, "\n", "\\\n", "\x00", "")
	var b strings.Builder
	b.WriteString(";FFMETADATA1\n")
	for _, c := range list {
		fmt.Fprintf(&b, "[CHAPTER]\nTIMEBASE=1/1000000\nSTART=%d\nEND=%d\ntitle=%s\n", c.Start.Microseconds(), c.End.Microseconds(), escape.Replace(c.Title))
	}
	return b.String()
}
