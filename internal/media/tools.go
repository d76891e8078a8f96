package media

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/ffmpeg"
)

// Tools are the two programs that this package runs.
type Tools struct {
	FFmpeg, FFprobe string // absolute paths
	Source          string // where they were found, such as "PATH"
	Version         string // of ffmpeg, as it prints it: "5.1.9-0+deb12u1"
}

// FindTools finds ffmpeg and ffprobe as ffmpeg.Find does, and checks the version of
// ffmpeg, which must be at least 4.4.
func FindTools(ctx context.Context) (Tools, error) {
	program, err := ffmpeg.Find("ffmpeg")
	if err != nil {
		return Tools{}, err
	}
	probe, err := ffmpeg.Find("ffprobe")
	if err != nil {
		return Tools{}, err
	}
	t := Tools{FFmpeg: program.Path, FFprobe: probe.Path, Source: program.Source}
	if probe.Source != program.Source {
		t.Source += " and " + probe.Source
	}
	out, err := output(ctx, t.FFmpeg, "-version")
	if err != nil {
		return Tools{}, fault.Missing.Wrap("run "+t.FFmpeg, err, ffmpeg.InstallHint())
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return Tools{}, fault.Missing.New("find ffmpeg "+t.FFmpeg, "this program is not ffmpeg", ffmpeg.InstallHint())
	}
	if t.Version = string(m[1]); t.olderThan(4, 4) {
		return Tools{}, fault.Missing.New("find ffmpeg "+t.FFmpeg, "version "+t.Version+" is too old, Lipstream needs 4.4 or newer", ffmpeg.InstallHint())
	}
	return t, nil
}

var (
	versionLine    = regexp.MustCompile(`(?m)^ffmpeg version (\S+)`)
	versionNumbers = regexp.MustCompile(`^n?(\d+)\.(\d+)`)
)

// olderThan reports whether ffmpeg is older than a version. Its own may read
// "5.1.9-0+deb12u1" or "n7.1"; a build from git, such as "N-109000-gabcdef", counts
// as new.
func (t Tools) olderThan(major, minor int) bool {
	m := versionNumbers.FindStringSubmatch(t.Version)
	if m == nil {
		return false
	}
	a, _ := strconv.Atoi(m[1])
	b, _ := strconv.Atoi(m[2])
	return a < major || a == major && b < minor
}

// fpsMode returns the option for how input frames become output frames. It was
// renamed in ffmpeg 5.1, and the old name was removed after ffmpeg 7.
func (t Tools) fpsMode(mode string) []string {
	if t.olderThan(5, 1) {
		return []string{"-vsync", mode}
	}
	return []string{"-fps_mode", mode}
}

// coders caches what `ffmpeg -encoders` and `-decoders` list, by program.
var coders sync.Map // string -> map[string]bool

// has reports whether ffmpeg has the encoder or decoder (kind is "-encoders" or
// "-decoders").
func (t Tools) has(ctx context.Context, kind, name string) (bool, error) {
	key := t.FFmpeg + "\x00" + kind
	if v, ok := coders.Load(key); ok {
		return v.(map[string]bool)[name], nil
	}
	out, err := output(ctx, t.FFmpeg, "-hide_banner", kind)
	if err != nil {
		return false, fault.Missing.Wrap("run "+t.FFmpeg, err)
	}
	list := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) >= 2 && len(f[0]) == 6 {
			list[f[1]] = true
		}
	}
	coders.Store(key, list)
	return list[name], nil
}

// fileURL returns a path as a URL, so that ffmpeg does not take a leading "-" for
// an option or a ":" for a protocol.
func fileURL(path string) string { return "file:" + path }

// seconds formats a time for ffmpeg, which keeps microseconds.
func seconds(s float64) string { return strconv.FormatFloat(s, 'f', 6, 64) }
