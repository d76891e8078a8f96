// Package lab is the common part of the measurements in tools/bench.
package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/bench/ffmpeg"
	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/testdata/demo"
)

// Progress is called with lines for people.
type Progress func(line string)

// Binary is the lipstream that a measurement runs.
type Binary struct {
	Program string `default:"bin/lipstream" placeholder:"FILE" help:"The lipstream program to measure; build it with make build."`
}

// Check returns an error if the program does not exist.
func (b Binary) Check() error {
	_, err := os.Stat(b.Program)
	return fault.Missing.Wrap("find lipstream "+b.Program, fault.WithoutPath(err), "run make build, or set `program`")
}

// In returns an error if the value of a setting is not between low and high.
func In(name string, value, low, high int) error {
	if value < low || value > high {
		return fault.Field(name, strconv.Itoa(value), "is out of range", fmt.Sprintf("use a number from %d to %d", low, high))
	}
	return nil
}

// Seconds returns the length of a number of frames in the form that ffmpeg and
// lipstream accept.
func Seconds(frames int) string {
	return strconv.FormatFloat(float64(frames)/bench.ClipRate, 'f', 3, 64)
}

// Clip is the input of a measurement, in a folder.
type Clip struct {
	Video  string // the demo's portrait as a still, lossless video
	Voice  string // speech without a pause
	Pauses string // speech followed by silence
}

// MakeClip writes the files of a clip with the given number of frames to dir. Pauses falls
// silent after speech frames.
func MakeClip(ctx context.Context, tools media.Tools, dir string, frames, speech int) (Clip, error) {
	// At 1 s the demo voice begins to speak for 1.5 s without a pause.
	const voiceFrom = "1"
	c := Clip{filepath.Join(dir, "clip.mkv"), filepath.Join(dir, "voice.wav"), filepath.Join(dir, "pauses.wav")}
	portrait, voice := filepath.Join(dir, "portrait.png"), filepath.Join(dir, "speech.wav")
	for path, data := range map[string][]byte{portrait: demo.Portrait, voice: demo.Speech} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return c, fault.Output.Wrap("write "+path, fault.WithoutPath(err))
		}
	}
	length := Seconds(frames)
	for _, args := range [][]string{
		{"-loop", "1", "-framerate", strconv.Itoa(bench.ClipRate), "-i", portrait, "-t", length, "-pix_fmt", "yuv420p", "-c:v", "ffv1", c.Video},
		{"-ss", voiceFrom, "-i", voice, "-af", "apad", "-t", length, "-c:a", "pcm_s16le", c.Voice},
		{"-ss", voiceFrom, "-t", Seconds(speech), "-i", voice, "-af", "apad", "-t", length, "-c:a", "pcm_s16le", c.Pauses},
	} {
		if _, err := ffmpeg.Run(ctx, tools, args...); err != nil {
			return c, err
		}
	}
	return c, nil
}

// Flags returns arguments for lipstream from pairs of a flag and its value. It leaves
// out flags whose value is 0 or "".
func Flags(pairs ...any) []string {
	var args []string
	for pair := range slices.Chunk(pairs, 2) {
		if value := fmt.Sprint(pair[1]); value != "" && value != "0" {
			args = append(args, pair[0].(string), value)
		}
	}
	return args
}

// RunArgs returns the arguments of lipstream run for the first frames of the clip with
// the latentsync engine. The output is lossless.
func (c Clip) RunArgs(models, voice, out, report string, frames int) []string {
	return []string{"run", "--json", "--engine", "latentsync", "--models", models, "--video", c.Video, "--audio", voice,
		"-o", out, "-y", "--codec", "ffv1", "--length", "shortest", "--end", Seconds(frames), "--resume", "never", "--report", report}
}

// OpenVideo starts to decode a video. If format has no size, it is set to the format
// of the video.
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

// Sample calls f immediately, then once per interval, and a last time during the call
// of stop. stop may be called more than once.
func Sample(interval time.Duration, f func()) (stop func()) {
	quit := make(chan struct{})
	var sampler sync.WaitGroup
	sampler.Go(func() {
		for {
			f()
			select {
			case <-quit:
				f()
				return
			case <-time.After(interval):
			}
		}
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

// Follow returns a handler of a job's events. It reports the progress at intervals, and
// warnings, alerts and changes of the plan immediately.
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
	Peers       string `placeholder:"PYTHON" help:"Also measure other implementations, with the Python of an environment made by tools/peers/setup.sh."`
	PeerScripts string `default:"tools/peers" placeholder:"FOLDER" help:"Folder with the scripts that run the other implementations."`
}

// The scripts of the peers.
const (
	LoopScript     = "loop.py"           // LatentSync's loop in PyTorch
	TorchScript    = "unet.py"           // its network
	OpenVINOScript = "openvino_graph.py" // Lipstream's graphs in OpenVINO's Python API
	MuseTalkScript = "musetalk.py"       // MuseTalk's networks in PyTorch
)

// Check returns an error if a peer is to be measured and one of the scripts is missing.
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

// Timing is the result of a script, with what the scripts have in common.
type Timing struct {
	Peer    string    `json:"peer"`
	Version string    `json:"version"`
	Load    float64   `json:"load_seconds"` // from opening the checkpoint until it can run
	Steps   []float64 `json:"step_seconds"`
	Median  float64   `json:"median_step_seconds"`
	Memory
}

// Run runs a script and decodes the line of JSON that it prints.
func (p Peer) Run(ctx context.Context, result any, script string, args ...string) error {
	path := filepath.Join(p.PeerScripts, script)
	out, err := child.Output(ctx, exec.Command(p.Peers, append([]string{path}, args...)...), bench.Grace, 1<<20)
	if err != nil {
		return fault.Missing.Wrap("run the peer "+path, err,
			"make the Python environment with tools/peers/setup.sh PATH and set `peers` to PATH/bin/python")
	}
	if err := json.Unmarshal(out, result); err != nil {
		return fault.Internal.Wrap("read the result of "+path, fmt.Errorf("%q: %w", out, err))
	}
	return nil
}

// WriteReport writes a heading, a table, remarks and the figures. The table is in
// Markdown with aligned columns; its first row is the header, and all rows have the same
// length.
func WriteReport(w io.Writer, heading string, rows [][]string, remarks string, figures []bench.Figure) error {
	plain := strings.NewReplacer("|", "/", "\n", " ") // a text must not end its cell
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], 3, len([]rune(cell)))
		}
	}
	b := bytes.NewBufferString(heading)
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
	b.WriteString("\n" + remarks)
	if _, err := b.WriteTo(w); err != nil {
		return err
	}
	return bench.WriteTable(w, figures)
}
