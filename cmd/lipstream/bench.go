package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/fault"
)

type benchCmd struct {
	Sync benchSyncCmd `cmd:"" help:"Measure on a finished video how the lips follow the voice."`
	Run  benchRunCmd  `cmd:"" help:"Measure speed and memory of whole jobs."`
	UNet benchUNetCmd `cmd:"" name:"unet" help:"Measure a step of LatentSync's denoising network."`

	Ladder benchLadderCmd `cmd:"" help:"Measure each optimisation of LatentSync alone, and all together."`
	Serve  benchServeCmd  `cmd:"" help:"Measure the server under load: calls of its API, events, memory."`
	Limit  benchLimitCmd  `cmd:"" help:"Run LatentSync under memory limits of the kernel."`
}

type benchSyncCmd struct {
	Video string `arg:"" name:"OUT" help:"The video that lipstream run has made."`

	Audio   string   `placeholder:"VOICE" help:"The voice. Default: the video's own sound."`
	Source  string   `placeholder:"FACE" help:"Video or picture that OUT was made from: compares the pixels outside the mouth."`
	Length  string   `default:"pad" placeholder:"pad|loop|pingpong|shortest" help:"As given to lipstream run."`
	Start   timeFlag `placeholder:"TIME" help:"As given to lipstream run."`
	Face    string   `default:"largest" placeholder:"largest|center|left|right|N" help:"As given to lipstream run."`
	Backend string   `default:"auto" placeholder:"auto|openvino|onnxruntime" help:"What runs the networks."`
	Threads int      `placeholder:"N" help:"CPU threads of the networks."`

	benchOutput
}

// benchOutput are the options that all benchmarks share.
type benchOutput struct {
	JSON   bool   `name:"json" help:"Print the report as JSON instead of a table."`
	Report string `placeholder:"FILE" help:"Write the report as JSON, with all measured values, into a file."`
	Check  bool   `help:"Fail when a goal is missed."`
}

// Run implements lipstream bench sync.
func (b *benchSyncCmd) Run(ctx context.Context, c *console) error {
	last := time.Now()
	report, err := bench.Sync(ctx, bench.SyncOptions{
		Video: b.Video, Audio: b.Audio, Source: b.Source, Length: b.Length, Start: time.Duration(b.Start),
		Face: b.Face, Backend: b.Backend, Threads: b.Threads,
		Progress: func(done, expected int64) {
			if time.Since(last) > lineInterval {
				last = time.Now()
				_, _ = fmt.Fprintf(c.Err, "measured %d of %d frames\n", done, expected)
			}
		},
	})
	if err != nil {
		return err
	}
	err = b.write(c.Out, report, func(w io.Writer) error { return bench.WriteTable(w, report.Figures) })
	if err != nil || !b.Check {
		return err
	}
	// The video is not what it should be, whatever program has made it.
	return missed(fault.Input, b.Video, report.Figures)
}

type benchRunCmd struct {
	Seconds []float64 `default:"10,60" placeholder:"S" help:"Length of the video; may be given more than once: the peak memory of the longest is compared with that of the shortest."`
	Size    string    `default:"1280x720" placeholder:"WxH" help:"Size of the video that is made."`
	Video   string    `placeholder:"FILE" help:"Use this video, looped, instead of making one."`
	Audio   string    `placeholder:"FILE" help:"Use this voice, looped, instead of the demo's."`
	Engine  string    `default:"preview" placeholder:"preview|latentsync" help:"As for lipstream run."`
	Backend string    `default:"auto" placeholder:"auto|openvino|onnxruntime" help:"What runs the networks."`
	Threads int       `placeholder:"N" help:"CPU threads of the networks."`

	benchOutput
}

// Bounds of what can be asked for.
const (
	minBenchSide, maxBenchSide = 128, 8192
	maxBenchSeconds            = 24 * 3600
)

// Run implements lipstream bench run.
func (b *benchRunCmd) Run(ctx context.Context, c *console) error {
	w, h, err := parseSize(b.Size)
	if err != nil {
		return err
	}
	for _, s := range b.Seconds {
		if !(s >= 0.1 && s <= maxBenchSeconds) { // false for NaN, too
			return fault.Usage.New("option --seconds "+strconv.FormatFloat(s, 'g', -1, 64), "is out of range", "give seconds between 0.1 and a day")
		}
	}
	program, err := os.Executable()
	if err != nil {
		return fault.Internal.Wrap("find this program", err)
	}
	report, err := bench.Run(ctx, bench.RunOptions{
		Program: program, Seconds: b.Seconds, Width: w, Height: h, Video: b.Video, Audio: b.Audio,
		Engine: b.Engine, Backend: b.Backend, Threads: b.Threads,
		Progress: func(line string) { _, _ = fmt.Fprintln(c.Err, line) },
	})
	if err != nil {
		return err
	}
	err = b.write(c.Out, report, report.WriteTable)
	if err != nil || !b.Check {
		return err
	}
	return missed(fault.Internal, "", report.Figures)
}

// parseSize reads WxH. Both must be even: the made video is 4:2:0.
func parseSize(s string) (w, h int, err error) {
	a, b, ok := strings.Cut(s, "x")
	w, errW := strconv.Atoi(a)
	h, errH := strconv.Atoi(b)
	in := func(v int) bool { return v >= minBenchSide && v <= maxBenchSide && v%2 == 0 }
	if !ok || errW != nil || errH != nil || !in(w) || !in(h) {
		return 0, 0, fault.Usage.New("option --size "+strconv.Quote(s), "is no size of a video",
			fmt.Sprintf("write width x height, both even and from %d to %d: 1280x720", minBenchSide, maxBenchSide))
	}
	return w, h, nil
}

// write puts the report where it was asked for.
func (o *benchOutput) write(w io.Writer, report any, table func(io.Writer) error) error {
	var b bytes.Buffer
	enc := newEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(report); err != nil {
		return fault.Internal.Wrap("write the report", err)
	}
	if o.Report != "" {
		if err := os.WriteFile(o.Report, b.Bytes(), 0o644); err != nil {
			return fault.Output.Wrap("write the report "+o.Report, err)
		}
	}
	if !o.JSON {
		return fault.Output.Wrap("print the report", table(w))
	}
	_, err := w.Write(b.Bytes())
	return fault.Output.Wrap("print the report", err)
}

// missed is the error of --check; nil when all goals are reached.
func missed(kind fault.Kind, subject string, figures []bench.Figure) error {
	names := bench.Missed(figures)
	if len(names) == 0 {
		return nil
	}
	return kind.New("reach the goals "+subject, "missed: "+strings.Join(names, "; "))
}

var _ json.Marshaler = bench.Figure{} // else NaN would fail the report
