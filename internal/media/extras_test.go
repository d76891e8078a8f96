package media

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
)

func TestChapters(t *testing.T) {
	e := Extras{From: &Info{Chapters: []Chapter{{0, 4 * time.Second, "a"}, {4 * time.Second, 8 * time.Second, "b"}, {8 * time.Second, 20 * time.Second, "c"}}}}
	for _, c := range []struct {
		start, end, length time.Duration
		want               string
	}{
		{0, 0, 0, "a 0-4 b 4-8 c 8-20"},
		{0, 0, 10, "a 0-4 b 4-8 c 8-10"},
		{5, 0, 0, "b 0-3 c 3-15"},
		{5, 7, 0, "b 0-2"},
		{0, 6, 30, "a 0-4 b 4-6"}, // the voice is longer
		{30, 0, 0, ""},
	} {
		e.Start, e.End = c.start*time.Second, c.end*time.Second
		var got []string
		for _, x := range e.chapters(c.length * time.Second) {
			got = append(got, x.Title+" "+seconds(x.Start.Seconds())[:len(seconds(x.Start.Seconds()))-7]+"-"+strings.TrimSuffix(seconds(x.End.Seconds()), ".000000"))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v to %v, %v: %q, want %q", c.start, c.end, c.length, got, c.want)
		}
	}
	list := chapterFile([]Chapter{{0, time.Second, "a=b; #c\\d"}})
	if !strings.Contains(list, `title=a\=b\; \#c\\d`) || !strings.Contains(list, "START=0\nEND=1000000\n") {
		t.Errorf("%s", list)
	}
}

func TestTagArgs(t *testing.T) {
	got := tagArgs("g", "title", "a\x00b", "artist", "", "genre", strings.Repeat("ä", 5000))
	if len(got) != 4 || got[0] != "-metadata:g" || got[1] != "title=ab" || got[3] != "genre="+strings.Repeat("ä", longestTag) {
		t.Errorf("%.200q", got)
	}
}

func TestKeptTracks(t *testing.T) {
	info := &Info{Path: "in.mkv", Video: &VideoInfo{Timecode: "01:00:00:00"}, Audio: []AudioInfo{{Codec: "aac"}, {Codec: "dts"}, {Codec: "aac", Language: "fra"}},
		Subtitles: []SubtitleInfo{{Codec: "subrip"}, {Codec: "hdmv_pgs_subtitle"}}, Chapters: []Chapter{{0, time.Second, "a"}}}
	for _, c := range []struct {
		e    Extras
		path string
		kept string
		warn string
	}{
		{Extras{Voice: -1}, "a.mp4", "", ""},
		{Extras{Voice: -1, Audio: true, Subtitles: true}, "a.mkv", "a0 copy a1 copy a2 copy s0 copy s1 copy", ""},
		{Extras{Voice: 0, Audio: true, Subtitles: true}, "a.mp4", "a2 copy s0 mov_text", "sound track 2 (dts), subtitles 2 (hdmv_pgs_subtitle); an output"},
		{Extras{Voice: -1, Subtitles: true}, "a.webm", "s0 webvtt", "subtitles 2 (hdmv_pgs_subtitle), time code; an output"},
		{Extras{Voice: -1, Audio: true}, "a.avi", "", "sound track 1 (aac), sound track 2 (dts), sound track 3 (aac), chapters, time code; an output"},
	} {
		c.e.From = info
		cont, err := containerOf(c.path)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		kept, _ := c.e.tracks(cont)
		for _, k := range kept {
			got = append(got, string(k.kind)+string(rune('0'+k.from))+" "+k.encoder)
		}
		if strings.Join(got, " ") != c.kept {
			t.Errorf("%s: kept %q, want %q", c.path, got, c.kept)
		}
		if w := strings.Join(c.e.Warnings(c.path), "\n"); !strings.Contains(w, c.warn) || (w == "") != (c.warn == "") {
			t.Errorf("%s: %q, want %q", c.path, w, c.warn)
		}
	}
}

// film makes a video with everything that Extras carries.
func film(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"c.txt": ";FFMETADATA1\ntitle=A film\nartist=Somebody\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=600\ntitle=Intro\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=600\nEND=1200\ntitle=Main; part = 1\n",
		"s.srt": "1\n00:00:00,100 --> 00:00:00,300\nHello\n\n2\n00:00:00,700 --> 00:00:00,900\nWorld\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return generate(t, args(testVideo("64x48", "25", "1.2"), "-i", filepath.Join(dir, "s.srt"), "-i", filepath.Join(dir, "c.txt"),
		"-f lavfi -i aevalsrc=gt(t\\,0.7)*sin(4000*t):d=1.2:s=44100 -f lavfi -i sine=880:d=1.2 -map 0:v -map 3:a -map 4:a -map 1:s -map_metadata 2 -c:v libx264 -preset ultrafast -g 12 -c:a aac -c:s srt",
		"-metadata:s:v:0 language=fra -metadata:s:a:0 language=eng -metadata:s:a:1 language=ger -metadata:s:a:1 title=Comments -disposition:a:1 comment",
		"-metadata:s:s:0 language=spa -metadata:s:v:0 timecode=10:00:00:00 a.mkv")...)
}

// checkExtras checks the file made of film from 0.4 s on with all its tracks.
func checkExtras(t *testing.T, info *Info) {
	t.Helper()
	near := func(a, b time.Duration) bool { return (a - b).Abs() <= 30*time.Millisecond }
	if c := info.Chapters; len(c) != 2 || c[0].Title != "Intro" || c[1].Title != "Main; part = 1" || !near(c[0].End, 200*time.Millisecond) || !near(c[1].End, 800*time.Millisecond) {
		t.Errorf("chapters %+v", c)
	}
	if info.Tags["title"] != "A film" || info.Tags["artist"] != "Somebody" || info.Video.Language != "fra" {
		t.Errorf("tags %v, language %q", info.Tags, info.Video.Language)
	}
	if info.Video.Timecode != "10:00:00:10" {
		t.Errorf("time code %q", info.Video.Timecode)
	}
	if len(info.Audio) != 3 || len(info.Subtitles) != 1 {
		t.Fatalf("sound %+v, subtitles %+v", info.Audio, info.Subtitles)
	}
	a, b := info.Audio[1], info.Audio[2]
	if !info.Audio[0].Default || a.Default || a.Language != "eng" || b.Language != "ger" || a.Start > 50*time.Millisecond || (a.Start+a.Duration-800*time.Millisecond).Abs() > 60*time.Millisecond {
		t.Errorf("sound %+v", info.Audio)
	}
	// The sound that begins at 0.7 s is still with its frame.
	begins := slices.IndexFunc(samples(t, info.Path, 1, 16000), func(v float32) bool { return v > 0.1 || v < -0.1 })
	if begins < 4640 || begins > 4960 {
		t.Errorf("sound begins at %.3f s instead of 0.3", float64(begins)/16000)
	}
	if info.Subtitles[0].Language != "spa" {
		t.Errorf("subtitles %+v", info.Subtitles)
	}
}

// subtitleTimes returns when the subtitles of a file appear.
func subtitleTimes(t *testing.T, path string) []string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "s.srt")
	ff(t, "-i", path, "-map", "0:s", out)
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Split(string(text), "\n"), func(l string) bool { return !strings.Contains(l, "-->") })
}

func TestExtras(t *testing.T) {
	slow(t)
	in := film(t)
	info := probe(t, in)
	voice := probe(t, generate(t, args("-f lavfi -i sine=d=1:r=16000 v.wav")...))
	extras := func(o *SinkOptions) {
		o.Audio, o.Duration = voice, 800*time.Millisecond
		o.Extras = &Extras{From: info, Start: 400 * time.Millisecond, Voice: -1, Audio: true, Subtitles: true}
	}
	for _, ext := range some(2, []string{".mkv", ".mp4", ".mov"}) {
		t.Run(ext, func(t *testing.T) {
			// The frames are those of a silent part, as a job writes them.
			part := generate(t, args(testVideo("64x48", "25", "0.8"), "-c:v libx264 -preset ultrafast p.mp4")...)
			whole := filepath.Join(t.TempDir(), "o"+ext)
			checkExtras(t, encode(t, part, whole, "", extras))
			if s := subtitleTimes(t, whole); len(s) != 1 || !strings.HasPrefix(s[0], "00:00:00,3") {
				t.Errorf("subtitles at %q", s)
			}
			// The same when parts are joined.
			half := generate(t, args(testVideo("64x48", "25", "0.4"), "-c:v libx264 -preset ultrafast p.mp4")...)
			joined := filepath.Join(t.TempDir(), "o"+ext)
			o := SinkOptions{Format: WorkingFormat(*info.Video), Rate: info.Video.FrameRate}
			extras(&o)
			if err := Join(t.Context(), tools(t), []string{half, half}, joined, o); err != nil {
				t.Fatal(err)
			}
			clean(t, filepath.Dir(joined))
			checkExtras(t, probe(t, joined))
		})
	}
	// No subtitle falls into the part.
	empty := filepath.Join(t.TempDir(), "o.mkv")
	first := generate(t, args(testVideo("64x48", "25", "0.08"), "-c:v libx264 -preset ultrafast p.mp4")...)
	got := encode(t, first, empty, "", func(o *SinkOptions) {
		extras(o)
		o.Duration, o.Extras.Start, o.Extras.Audio = 80*time.Millisecond, 0, false
		o.Mix = []*Info{voice}
	})
	if len(got.Audio) != 1 || len(got.Chapters) != 1 || got.Video.Timecode != "10:00:00:00" {
		t.Errorf("%+v", got)
	}
	// A file that is gone meanwhile.
	gone := *info
	gone.Path = filepath.Join(t.TempDir(), "gone.mkv")
	o := SinkOptions{Format: WorkingFormat(*info.Video), Rate: info.Video.FrameRate}
	extras(&o)
	o.Extras.From = &gone
	dir := t.TempDir()
	_, err := OpenSink(t.Context(), tools(t), filepath.Join(dir, "o.mkv"), o)
	wantFault(t, err, fault.Input, "copy the tracks", "keep_tracks")
	clean(t, dir)
}

// TestShortTrack: the sound to keep ends before the part begins.
func TestShortTrack(t *testing.T) {
	info := probe(t, generate(t, args(testVideo("64x48", "25", "1.2"), "-f lavfi -i sine=880:d=0.4 -map 0:v -map 1:a -c:v libx264 -preset ultrafast -c:a aac a.mkv")...))
	part := generate(t, args(testVideo("64x48", "25", "0.2"), "-c:v libx264 -preset ultrafast p.mp4")...)
	dir := t.TempDir()
	var noted, warned []string
	got := encode(t, part, filepath.Join(dir, "o.mkv"), "", func(o *SinkOptions) {
		o.Duration, o.Extras = 200*time.Millisecond, &Extras{From: info, Start: 800 * time.Millisecond, Voice: -1, Audio: true}
		o.Warn = func(w string) { warned = append(warned, w) }
		o.Note = func(path string) error {
			if _, err := os.Lstat(path); !os.IsNotExist(err) || !disk.IsTempName(filepath.Base(path)) {
				t.Errorf("%s: noted after it was created, or not a temporary name", path)
			}
			noted = append(noted, filepath.Ext(path))
			return nil
		}
	})
	if len(got.Audio) != 0 || len(warned) != 1 || !strings.Contains(warned[0], "no sound in the part") {
		t.Errorf("sound %+v, warnings %q", got.Audio, warned)
	}
	if want := []string{".mkv", tracksSuffix, textSuffix, chaptersSuffix}; !slices.Equal(noted, want) {
		t.Errorf("noted %q, want %q", noted, want)
	}
	clean(t, dir)
}

// TestListsAfterClose: a job that is cancelled while the lists are written again leaves
// none of them.
func TestListsAfterClose(t *testing.T) {
	dir := t.TempDir()
	sink, err := OpenSink(t.Context(), tools(t), filepath.Join(dir, "o.mp4"), SinkOptions{Format: frame.Format{Width: 64, Height: 48, Depth: 8, ShiftX: 1, ShiftY: 1}, Rate: Rational{25, 1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	if err := writeList(sink.beside(tracksSuffix), "late"); err != nil {
		t.Fatal(err)
	}
	if err := sink.commit(); err == nil {
		t.Error("a closed output was completed")
	}
	clean(t, dir)
}
