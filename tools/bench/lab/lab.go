// Package lab holds what the measurements of tools/bench share.
package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/testdata/demo"
)

// Progress is called with lines for people. It is never nil in a measurement
// that was started from the command line.
type Progress func(line string)

// Binary is the lipstream that a measurement runs.
type Binary struct {
	Program string `default:"bin/lipstream" placeholder:"FILE" help:"The lipstream to run; make build makes it."`
}

// Check returns an error if the program does not exist.
func (b Binary) Check() error {
	_, err := os.Stat(b.Program)
	return fault.Missing.Wrap("find lipstream "+b.Program, fault.WithoutPath(err), "run make build, or set `program`")
}

// In returns an error if the value of a setting is not between low and high.
func In(name string, value, low, high int) error {
	if value < low || value > high {
		return fault.Field(name, strconv.Itoa(value), "is out of range", fmt.Sprintf("give %d to %d", low, high))
	}
	return nil
}

// Seconds returns the length of a number of frames, as ffmpeg and lipstream
// read it.
func Seconds(frames int) string {
	return strconv.FormatFloat(float64(frames)/bench.ClipRate, 'f', 3, 64)
}

// Clip is the input of a measurement, in a folder.
type Clip struct {
	Video  string // the demo's portrait, not moving, without loss
	Voice  string // speaks
	Pauses string // speaks for a while and then falls silent
}

// ClipIn returns the names of the clip's files in dir.
func ClipIn(dir string) Clip {
	return Clip{filepath.Join(dir, "clip.mkv"), filepath.Join(dir, "voice.wav"), filepath.Join(dir, "pauses.wav")}
}

// Make makes the clip, so many frames long; Pauses falls silent after speech
// frames.
func (c Clip) Make(ctx context.Context, tools media.Tools, frames, speech int) error {
	// At 1 s the demo voice begins to speak for 1.5 s without a pause.
	const voiceFrom = "1"
	dir := filepath.Dir(c.Video)
	portrait, voice := filepath.Join(dir, "portrait.png"), filepath.Join(dir, "speech.wav")
	for path, data := range map[string][]byte{portrait: demo.Portrait, voice: demo.Speech} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return fault.Output.Wrap("write "+path, fault.WithoutPath(err))
		}
	}
	length := Seconds(frames)
	for _, args := range [][]string{
		{"-loop", "1", "-framerate", strconv.Itoa(bench.ClipRate), "-i", portrait, "-t", length, "-pix_fmt", "yuv420p", "-c:v", "ffv1", c.Video},
		{"-ss", voiceFrom, "-i", voice, "-af", "apad", "-t", length, "-c:a", "pcm_s16le", c.Voice},
		{"-ss", voiceFrom, "-t", Seconds(speech), "-i", voice, "-af", "apad", "-t", length, "-c:a", "pcm_s16le", c.Pauses},
	} {
		if _, err := bench.FFmpeg(ctx, tools, args...); err != nil {
			return err
		}
	}
	return nil
}

// OpenVideo starts to decode a video. A format without a size is replaced by
// that of the video.
func OpenVideo(ctx context.Context, tools media.Tools, path string, format *frame.Format) (*media.VideoSource, error) {
	info, err := media.Probe(ctx, tools, path)
	if err == nil {
		err = info.NeedVideo()
	}
	if err != nil {
		return nil, err
	}
	if format.Width == 0 {
		*format = media.WorkingFormat(*info.Video)
	}
	return media.OpenVideo(ctx, tools, path, info, media.VideoOptions{Format: *format, Rate: info.Video.FrameRate})
}

// Folder makes a temporary folder for a measurement, and finds ffmpeg. The caller
// removes the folder.
func Folder(ctx context.Context) (dir string, tools media.Tools, err error) {
	if tools, err = media.FindTools(ctx); err != nil {
		return "", tools, err
	}
	dir, err = os.MkdirTemp("", "lipstream-bench-")
	return dir, tools, fault.Output.Wrap("make a folder for the measurement", err)
}

// Sample calls f at once, then in every interval, and a last time when stop is
// called, which waits for it. stop may be called more than once.
func Sample(interval time.Duration, f func()) (stop func()) {
	quit := make(chan struct{})
	var sampler sync.WaitGroup
	sampler.Go(func() {
		for ended := false; !ended; {
			f()
			select {
			case <-quit:
				ended = true
			case <-time.After(interval):
			}
		}
		f()
	})
	return sync.OnceFunc(func() {
		close(quit)
		sampler.Wait()
	})
}

// ReadReport reads what lipstream run --report has written.
func ReadReport(path string) (*lipstream.Report, error) {
	text, err := os.ReadFile(path)
	r := &lipstream.Report{}
	if err == nil {
		err = json.Unmarshal(text, r)
	}
	if err != nil {
		return nil, fault.Internal.Wrap("read the report "+path, fault.WithoutPath(err))
	}
	return r, nil
}

// Follow returns a function that reports from time to time how far a job is,
// and at once what went wrong.
func (p Progress) Follow(name string) func(lipstream.Event) {
	last := time.Now()
	return func(e lipstream.Event) {
		switch {
		case e.Type == lipstream.EventWarning || e.Type == lipstream.EventAlert || e.Type == lipstream.EventPlan:
			p(name + ": " + e.Message)
		case e.Type == lipstream.EventProgress && time.Since(last) > bench.ProgressInterval:
			last = time.Now()
			p(fmt.Sprintf("%s: %s, frame %d of %d, step %d of %d", name, e.Phase, e.Frame, e.Frames, e.Step, e.Steps))
		}
	}
}

// Peer is another implementation to compare with.
type Peer struct {
	Peers       string `placeholder:"PYTHON" help:"Compare with other implementations: the Python of an environment that tools/bench/peers/setup.sh has made."`
	PeerScripts string `default:"tools/bench/peers" placeholder:"FOLDER" help:"Where the programs of the peers are."`
}

// The scripts of the peers.
const (
	LoopScript     = "loop.py"           // the original's loop in PyTorch
	TorchScript    = "unet.py"           // its network
	OpenVINOScript = "openvino_graph.py" // Lipstream's graphs in OpenVINO's Python API
)

// Check returns an error if peers are wanted and one of the scripts is missing.
func (p Peer) Check(scripts ...string) error {
	if p.Peers == "" {
		return nil
	}
	for _, s := range scripts {
		if _, err := os.Stat(filepath.Join(p.PeerScripts, s)); err != nil {
			return fault.Missing.Wrap("find the peer "+filepath.Join(p.PeerScripts, s), fault.WithoutPath(err),
				"run this in Lipstream's source folder, or set `peer_scripts`")
		}
	}
	return nil
}

// Run runs a script and decodes the line of JSON that it prints.
func (p Peer) Run(ctx context.Context, result any, script string, args ...string) error {
	path := filepath.Join(p.PeerScripts, script)
	out, err := child.Output(ctx, exec.Command(p.Peers, append([]string{path}, args...)...), bench.Grace, 1<<20)
	if err != nil {
		return fault.Missing.Wrap("run the peer "+path, err,
			"make the Python environment with tools/bench/peers/setup.sh PATH and set `peers` to PATH/bin/python")
	}
	if err := json.Unmarshal(out, result); err != nil {
		return fault.Internal.Wrap("read the result of "+path, fmt.Errorf("%q: %w", out, err))
	}
	return nil
}

// WriteMarkdown writes a Markdown table whose source is aligned as well. The
// first row is the header; rows have equal lengths.
func WriteMarkdown(w io.Writer, rows [][]string) error {
	plain := strings.NewReplacer("|", "/", "\n", " ") // a text must not end its cell
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], 3, len([]rune(cell)))
		}
	}
	var b strings.Builder
	line := func(row []string, fill string) {
		for i, width := range widths {
			b.WriteString("|" + fill + plain.Replace(row[i]) + strings.Repeat(fill, width-len([]rune(row[i]))) + fill)
		}
		b.WriteString("|\n")
	}
	line(rows[0], " ")
	line(make([]string, len(widths)), "-")
	for _, row := range rows[1:] {
		line(row, " ")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
