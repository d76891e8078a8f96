package media

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/lipstream/lipstream/internal/fault"
)

// Tools are the two programs that this package runs.
type Tools struct {
	FFmpeg, FFprobe string // absolute paths, or as given in the environment
	Version         string // of ffmpeg, as it prints it: "5.1.9-0+deb12u1"
}

// The environment variables that name the programs when they are not on PATH.
const (
	EnvFFmpeg  = "LIPSTREAM_FFMPEG"
	EnvFFprobe = "LIPSTREAM_FFPROBE"
)

// FindTools finds ffmpeg and ffprobe and checks the version of ffmpeg, which must
// be at least 4.4.
func FindTools(ctx context.Context) (Tools, error) {
	var t Tools
	var err error
	if t.FFmpeg, err = findTool("ffmpeg", EnvFFmpeg); err != nil {
		return Tools{}, err
	}
	if t.FFprobe, err = findTool("ffprobe", EnvFFprobe); err != nil {
		return Tools{}, err
	}
	out, err := output(ctx, t.FFmpeg, "-version")
	if err != nil {
		return Tools{}, fault.Missing.Wrap("run "+t.FFmpeg, err, installHint())
	}
	var ok bool
	if t.Version, ok = parseVersion(string(out)); !ok {
		return Tools{}, fault.Missing.New("find ffmpeg "+t.FFmpeg, "this program is not ffmpeg", installHint())
	}
	if major, minor, ok := versionNumber(t.Version); ok && (major < 4 || major == 4 && minor < 4) {
		return Tools{}, fault.Missing.New("find ffmpeg "+t.FFmpeg, "version "+t.Version+" is too old, Lipstream needs 4.4 or newer", installHint())
	}
	return t, nil
}

func findTool(name, env string) (string, error) {
	given := os.Getenv(env)
	look := name
	if given != "" {
		look = given
	}
	path, err := exec.LookPath(look)
	if err == nil {
		// A relative path would break if the process changed its folder.
		if abs, err := filepath.Abs(path); err == nil {
			return abs, nil
		}
		return path, nil
	}
	if given != "" {
		return "", fault.Missing.New("find "+name+" "+given, "there is no such program",
			"set "+env+" to the program, or unset it to search PATH")
	}
	return "", fault.Missing.New("find "+name, name+" is not installed (not found on PATH)", installHint())
}

// installHint returns how to install ffmpeg on this machine.
func installHint() string {
	line := "sudo apt-get install ffmpeg"
	switch runtime.GOOS {
	case "darwin":
		line = "brew install ffmpeg"
	case "windows":
		line = "winget install Gyan.FFmpeg"
	default:
		for _, m := range [][2]string{
			{"apt-get", line}, {"dnf", "sudo dnf install ffmpeg"}, {"pacman", "sudo pacman -S ffmpeg"},
			{"apk", "sudo apk add ffmpeg"}, {"zypper", "sudo zypper install ffmpeg"}, {"brew", "brew install ffmpeg"},
		} {
			if _, err := exec.LookPath(m[0]); err == nil {
				line = m[1]
				break
			}
		}
	}
	return "install it: " + line
}

var versionLine = regexp.MustCompile(`(?m)^ffmpeg version (\S+)`)

func parseVersion(out string) (string, bool) {
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return "", false
	}
	return m[1], true
}

var versionNumbers = regexp.MustCompile(`^n?(\d+)\.(\d+)`)

// versionNumber reads "5.1.9-0+deb12u1" or "n7.1". A build from git, such as
// "N-109000-gabcdef", has no number: ok is false, and the build counts as new.
func versionNumber(v string) (major, minor int, ok bool) {
	m := versionNumbers.FindStringSubmatch(v)
	if m == nil {
		return 0, 0, false
	}
	major, err1 := strconv.Atoi(m[1])
	minor, err2 := strconv.Atoi(m[2])
	return major, minor, err1 == nil && err2 == nil
}

// fpsMode returns the option for how input frames become output frames. It was
// renamed in ffmpeg 5.1, and the old name was removed after ffmpeg 7.
func (t Tools) fpsMode(mode string) []string {
	if major, minor, ok := versionNumber(t.Version); ok && (major < 5 || major == 5 && minor < 1) {
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

// regular checks, before ffmpeg runs, that path is a file that can be read more
// than once.
func regular(op, path string) error {
	st, err := os.Stat(path)
	switch {
	case path == "":
		return fault.Input.New(op, "no file was named")
	case os.IsNotExist(err):
		return fault.Input.New(op+" "+path, "there is no such file", "check the path")
	case err != nil:
		return fault.Input.Wrap(op+" "+path, unpath(err))
	case st.IsDir():
		return fault.Input.New(op+" "+path, "it is a directory, not a media file")
	case !st.Mode().IsRegular():
		return fault.Input.New(op+" "+path, "it is not a regular file", "save it as a file first, because it is read more than once")
	case st.Size() == 0:
		return fault.Input.New(op+" "+path, "the file is empty")
	}
	f, err := os.Open(path)
	if err != nil {
		return fault.Input.Wrap(op+" "+path, unpath(err), "check its permissions")
	}
	return f.Close()
}

// unpath removes the path from an error, because the error around it names it.
func unpath(err error) error {
	if pe, ok := err.(*os.PathError); ok {
		return pe.Err
	}
	if le, ok := err.(*os.LinkError); ok {
		return le.Err
	}
	return err
}

// seconds formats a time for ffmpeg, which keeps microseconds.
func seconds(s float64) string { return strconv.FormatFloat(s, 'f', 6, 64) }

func secondsOf[D ~int64](d D) string { return fmt.Sprintf("%d.%06d", d/1e9, d%1e9/1e3) }
