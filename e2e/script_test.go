package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lipstream/lipstream"
)

func TestScripts(t *testing.T) {
	t.Parallel()
	needRuntime(t)
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: prepareScript,
		// The sections of a script hardly depend on each other.
		ContinueOnError: true,
		Condition:       condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fails":  fails,
			"media":  checkMedia,
			"events": checkEvents,
			"diff":   checkDiff,
			"cut":    cutFile,
			"count":  countLines,
			"silent": checkSilent,
			"frames": checkFrames,

			"networks": writeNetworks,
			"empty":    checkEmpty,

			"psnr":    checkPSNR,
			"poison":  poisonFile,
			"evil":    evilFile,
			"sidecar": writeSidecar,
		},
	})
}

// prepareScript sets $IN to the shared inputs, hides the user's home and cache,
// and sets $QUICK to the folder of the runtime that loads networks fastest.
func prepareScript(e *testscript.Env) error {
	e.Setenv("IN", inputs)
	e.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
	e.Setenv("LIPSTREAM", binary)
	e.Setenv("HOME", filepath.Join(e.WorkDir, ".home"))
	e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, ".cache"))
	e.Setenv("LOCALAPPDATA", filepath.Join(e.WorkDir, ".cache")) // Windows
	e.Setenv("LIPSTREAM_RUNTIME_DIR", runtimeDir)
	e.Setenv("QUICK", quickDir)
	return nil
}

// fails implements "fails CODE REGEXP ARGS...": lipstream has to fail with the
// exit code and a message of one line and at most one hint, and leave no file.
func fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fails CODE REGEXP ARGS...")
	}
	work := ts.Getenv("WORK")
	before, err := listing(work)
	ts.Check(err)
	line := args[2:]
	if len(line) > 0 && line[0] == "run" && !slices.Contains(line, "--json") {
		line = append(slices.Clone(line), "--quiet")
	}
	code, err := exitOf(ts.Exec(binary, line...))
	ts.Check(err)
	stderr := ts.ReadFile("stderr")
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d instead of %s: %s", code, args[0], stderr)
	}
	ts.Check(checkMessage(stderr))
	if !regexp.MustCompile(args[1]).MatchString(filepath.ToSlash(stderr)) {
		ts.Fatalf("message %q does not match %q", stderr, args[1])
	}
	if stdout := ts.ReadFile("stdout"); stdout != "" && !slices.Contains(line, "--json") {
		ts.Fatalf("standard output: %q", stdout)
	}
	after, err := listing(work)
	ts.Check(err)
	if d := difference(before, after); d != "" {
		ts.Fatalf("it failed and left:\n%s", d)
	}
}

// mediaFile is what ffprobe reports of a file.
type mediaFile struct {
	Streams []struct {
		CodecType   string `json:"codec_type"`
		CodecName   string `json:"codec_name"`
		Width       int    `json:"width"`
		Height      int    `json:"height"`
		PixFmt      string `json:"pix_fmt"`
		ColorRange  string `json:"color_range"`
		ColorSpace  string `json:"color_space"`
		Primaries   string `json:"color_primaries"`
		Transfer    string `json:"color_transfer"`
		Tag         string `json:"codec_tag_string"`
		FieldOrder  string `json:"field_order"`
		FrameRate   string `json:"r_frame_rate"`
		AverageRate string `json:"avg_frame_rate"`
		Frames      string `json:"nb_read_frames"`
		SampleRate  string `json:"sample_rate"`
		Channels    int    `json:"channels"`
		Duration    string `json:"duration"`
		Tags        map[string]string
		SideData    []map[string]any `json:"side_data_list"`
	}
	Format struct {
		Name     string `json:"format_name"`
		Duration string
		Tags     map[string]string
	}
	Frames []struct {
		SideData []map[string]any `json:"side_data_list"`
	} `json:"-"` // the first one, of HDR video
	Chapters []struct {
		Start string `json:"start_time"`
		End   string `json:"end_time"`
		Tags  map[string]string
	}
}

// probe reads a file with ffprobe, decoding all of it.
func probe(path string) (*mediaFile, error) {
	out, err := exec.Command("ffprobe", "-v", "error", "-count_frames", "-show_streams", "-show_format", "-show_chapters", "-of", "json", "file:"+path).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	var m mediaFile
	if err := json.Unmarshal(out, &m); err != nil {
		return nil, fmt.Errorf("%w in %s", err, out) // a decoding error was printed before it
	}
	if !bytes.Contains(out, []byte(`"smpte2084"`)) {
		return &m, nil
	}
	out, err = exec.Command("ffprobe", "-v", "error", "-select_streams", "v", "-show_frames", "-read_intervals", "%+#1", "-of", "json", "file:"+path).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return &m, json.Unmarshal(out, &struct{ Frames any }{&m.Frames})
}

// facts returns the values that checkMedia compares.
func (m *mediaFile) facts() map[string]string {
	f := map[string]string{"format": m.Format.Name, "duration": m.Format.Duration}
	tracks := 0
	for _, s := range m.Streams {
		tracks++
		switch s.CodecType {
		case "video":
			f["size"] = fmt.Sprintf("%dx%d", s.Width, s.Height)
			f["video"], f["pixfmt"], f["range"], f["space"] = s.CodecName, s.PixFmt, s.ColorRange, s.ColorSpace
			f["primaries"], f["transfer"], f["tag"], f["fields"] = s.Primaries, s.Transfer, s.Tag, s.FieldOrder
			f["timecode"], f["alpha"] = tagOf(s.Tags, "timecode"), tagOf(s.Tags, "alpha_mode")
			f["fps"], f["average"], f["frames"] = s.FrameRate, s.AverageRate, s.Frames
			f["rotation"] = "0"
			for _, d := range s.SideData {
				if r, ok := d["rotation"]; ok {
					f["rotation"] = fmt.Sprint(r)
				}
			}
		case "audio":
			f["audio"], f["rate"], f["channels"], f["sound"] = s.CodecName, s.SampleRate, strconv.Itoa(s.Channels), s.Duration
		}
	}
	f["tracks"] = strconv.Itoa(tracks)
	f["title"] = tagOf(m.Format.Tags, "title")
	m.addTracks(f)
	f["comment"] = tagOf(m.Format.Tags, "comment")
	return f
}

// addTracks adds facts about what a file holds beside its first picture and sound.
func (m *mediaFile) addTracks(f map[string]string) {
	var subtitles, languages, chapters []string
	sounds := 0
	for _, s := range m.Streams {
		switch s.CodecType {
		case "audio":
			sounds++
			if l := tagOf(s.Tags, "language"); l != "" && l != "und" {
				languages = append(languages, l)
			}
		case "subtitle":
			subtitles = append(subtitles, s.CodecName)
		}
	}
	for _, c := range m.Chapters {
		start, err1 := strconv.ParseFloat(c.Start, 64)
		end, err2 := strconv.ParseFloat(c.End, 64)
		if err1 == nil && err2 == nil {
			chapters = append(chapters, fmt.Sprintf("%s %.1f-%.1f", tagOf(c.Tags, "title"), start, end))
		}
	}
	f["sounds"], f["subtitles"], f["languages"], f["chapters"] = strconv.Itoa(sounds), strings.Join(subtitles, ","), strings.Join(languages, ","), strings.Join(chapters, "; ")
	for _, frame := range m.Frames {
		for _, d := range frame.SideData {
			if v, ok := d["max_luminance"]; ok {
				f["mastering"] = fmt.Sprint(v)
			}
			if v, ok := d["max_content"]; ok {
				f["light"] = fmt.Sprintf("%v/%v", v, d["max_average"])
			}
		}
	}
}

// tagOf returns a tag, whose name Matroska writes in capitals.
func tagOf(tags map[string]string, name string) string {
	for k, v := range tags {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// checkMedia implements "media FILE KEY=VALUE KEY~SECONDS KEY:REGEXP ...", which
// compares facts of a file. With ~ the value may be off by 50 ms.
func checkMedia(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: media FILE KEY=VALUE...")
	}
	m, err := probe(ts.MkAbs(args[0]))
	ts.Check(err)
	facts := m.facts()
	for _, want := range args[1:] {
		i := strings.IndexAny(want, "=~:")
		if i < 0 {
			ts.Fatalf("no = in %q", want)
		}
		key, value := want[:i], want[i+1:]
		got, ok := facts[key], true
		switch want[i] {
		case '=':
			ok = got == value
		case ':':
			ok = regexp.MustCompile(value).MatchString(got)
		case '~':
			a, err1 := strconv.ParseFloat(got, 64)
			b, err2 := strconv.ParseFloat(value, 64)
			ok = err1 == nil && err2 == nil && math.Abs(a-b) <= 0.05
		}
		if !ok {
			ts.Fatalf("%s: %s is %q, not %q; all: %v", args[0], key, got, value, facts)
		}
	}
}

// checkEvents implements "events FILE done|error [CODE]", which checks that the
// JSON lines obey their documentation.
func checkEvents(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: events FILE done|error [CODE]")
	}
	var all []lipstream.Event
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		dec := json.NewDecoder(strings.NewReader(line))
		var e lipstream.Event
		if err := dec.Decode(&e); err != nil || dec.More() {
			ts.Fatalf("not one JSON object: %q: %v", line, err)
		}
		all = append(all, e)
	}
	if len(all) < 2 {
		ts.Fatalf("only %d events", len(all))
	}
	starts, last := 0, all[len(all)-1]
	for i, e := range all {
		switch {
		case e.Type == lipstream.EventStart:
			starts++
		case i < len(all)-1 && (e.Type == lipstream.EventDone || e.Type == lipstream.EventError):
			ts.Fatalf("event %d of %d is %s", i+1, len(all), e.Type)
		}
		if i == 0 {
			continue
		}
		was := all[i-1]
		switch {
		case e.Frame < was.Frame || e.NoFace < was.NoFace:
			ts.Fatalf("the count goes back: %+v after %+v", e, was)
		case e.Time.Before(was.Time) || e.Elapsed < was.Elapsed:
			ts.Fatalf("the time goes back: %+v after %+v", e, was)
		case e.MemoryPeak < was.MemoryPeak:
			ts.Fatalf("the peak falls: %+v after %+v", e, was)
		case e.MemoryPeak < e.MemoryNow || e.MemoryPeak <= 0:
			ts.Fatalf("memory makes no sense: %+v", e)
		case e.Frames > 0 && e.Frame > e.Frames:
			ts.Fatalf("more frames than there are: %+v", e)
		}
	}
	if last.Type != args[1] {
		ts.Fatalf("the last event is %+v", last)
	}
	if last.Type == lipstream.EventDone {
		if starts != 1 || last.Frame == 0 || last.Frame != last.Frames || last.Output == "" || last.Engine == "" || last.ExitCode != 0 {
			ts.Fatalf("%d starts, done: %+v", starts, last)
		}
		return
	}
	if starts > 1 || last.Message == "" || len(args) > 2 && strconv.Itoa(last.ExitCode) != args[2] {
		ts.Fatalf("%d starts, error: %+v", starts, last)
	}
}

// checkDiff implements "diff A B X,Y,W,H FROM,TO same|changed", which compares an
// area of two videos of the same rate, in the frames FROM up to TO. "Same" allows
// for encoding: a mean difference of at most 1.5 of 255 levels in every frame.
func checkDiff(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 5 {
		ts.Fatalf("usage: diff A B X,Y,W,H FROM,TO same|changed")
	}
	var x, y, w, h, from, to int
	_, err := fmt.Sscanf(args[2]+","+args[3], "%d,%d,%d,%d,%d,%d", &x, &y, &w, &h, &from, &to)
	ts.Check(err)
	read := func(name string) []byte {
		cmd := exec.Command("ffmpeg", "-v", "error", "-nostdin", "-i", "file:"+ts.MkAbs(name), "-an", "-vf",
			fmt.Sprintf("crop=%d:%d:%d:%d,trim=start_frame=%d:end_frame=%d,setpts=N/25/TB,extractplanes=y", w, h, x, y, from, to),
			"-f", "rawvideo", "-pix_fmt", "gray", "-fps_mode", "passthrough", "pipe:1")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			ts.Fatalf("%v: %s", err, stderr.String())
		}
		return out
	}
	a, b := read(args[0]), read(args[1])
	if len(a) != len(b) || len(a) != w*h*(to-from) {
		ts.Fatalf("%d and %d bytes instead of %d", len(a), len(b), w*h*(to-from))
	}
	most := 0.0
	for f := range to - from {
		sum := 0.0
		for i := f * w * h; i < (f+1)*w*h; i++ {
			sum += math.Abs(float64(a[i]) - float64(b[i]))
		}
		most = max(most, sum/float64(w*h))
	}
	ts.Logf("mean difference of the worst frame: %.2f", most)
	if (most > 1.5) != (args[4] == "changed") {
		ts.Fatalf("the mean difference is %.2f, which is not %s", most, args[4])
	}
}

// checkEmpty implements "empty DIR": the folder has no files.
func checkEmpty(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: empty DIR")
	}
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(entries) > 0 {
		ts.Fatalf("%s contains %v", args[0], entries)
	}
}

// checkSilent implements "silent": the last command printed nothing on standard error.
func checkSilent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: silent")
	}
	if text := strings.TrimPrefix(ts.ReadFile("stderr"), noDisplay); text != "" {
		ts.Fatalf("standard error: %q", text)
	}
}

// cutFile implements "cut FILE BYTES NEW", which copies the first bytes of a
// file. BYTES may be a percentage of its length.
func cutFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: cut FILE BYTES|N%% NEW")
	}
	data, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	n, err := strconv.Atoi(strings.TrimSuffix(args[1], "%"))
	ts.Check(err)
	if strings.HasSuffix(args[1], "%") {
		n = len(data) * n / 100
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), data[:n], 0o600))
}

// countLines implements "count N REGEXP FILE": N lines have to match.
func countLines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: count N REGEXP FILE")
	}
	re, n := regexp.MustCompile(args[1]), 0
	for line := range strings.Lines(ts.ReadFile(args[2])) {
		if re.MatchString(strings.TrimSpace(line)) {
			n++
		}
	}
	if strconv.Itoa(n) != args[0] {
		ts.Fatalf("%d lines match %q, not %s:\n%s", n, args[1], args[0], ts.ReadFile(args[2]))
	}
}
