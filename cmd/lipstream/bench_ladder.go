package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/chart"
	"github.com/lipstream/lipstream/internal/fault"
)

type benchLadderCmd struct {
	Models     string   `required:"" placeholder:"FOLDER" help:"Where the checkpoints are. Convert them first: lipstream models prepare --dtype bf16."`
	Rows       []string `placeholder:"ROW,..." help:"Measure only these, and the base: bf16, dpm, deepcache, guidance, frames, windows2, windows4, slices, vae-frames, vae-tile, model, sequential, silence, all, lowmem."`
	Steps      int      `default:"20" placeholder:"N" help:"DDIM's steps in the exact job; DPM-Solver++ takes half as many."`
	Quick      int      `placeholder:"N" help:"Run only N steps in rows that do not change the steps, and scale their time; the table says so."`
	Frames     int      `default:"16" placeholder:"N" help:"Frames of a window, 2 to 24."`
	Resolution int      `placeholder:"256|512" help:"Default: what the checkpoint was made for."`
	Backend    string   `default:"auto" placeholder:"auto|openvino|onnxruntime" help:"What runs the networks."`
	Threads    int      `placeholder:"N" help:"CPU threads. Default: one for each processor."`

	Work        string `placeholder:"FOLDER" help:"Keep what was measured here, and go on from it."`
	Peers       string `placeholder:"PYTHON" help:"Compare with the original's loop in PyTorch: the Python of an environment that tools/peers/setup.sh has made."`
	PeerScripts string `default:"tools/peers" placeholder:"FOLDER" help:"Where the peers' programs are."`
	PeerSteps   int    `default:"3" placeholder:"N" help:"Steps of PyTorch's loop to time, after one to warm up."`
	Plot        string `placeholder:"FILE.png" help:"Draw the seconds per window as PNG."`
	PlotSVG     string `name:"plot-svg" placeholder:"FILE.svg" help:"The same as SVG."`

	benchOutput
}

// Run implements lipstream bench ladder.
func (b *benchLadderCmd) Run(ctx context.Context, c *console) error {
	// Refused now, not after an hour.
	for _, p := range [][3]string{{"--plot", b.Plot, ".png"}, {"--plot-svg", b.PlotSVG, ".svg"}} {
		if p[1] == "" {
			continue
		}
		if err := chart.CheckPath(p[1]); err != nil || !strings.EqualFold(filepath.Ext(p[1]), p[2]) {
			return fault.Usage.New("option "+p[0]+" "+p[1], "has another ending", "give a name that ends in "+p[2])
		}
	}
	if b.Resolution != 0 && b.Resolution != 256 && b.Resolution != 512 && b.Resolution != 128 {
		return fault.Usage.New("option "+fmt.Sprintf("--resolution %d", b.Resolution), "is no resolution of LatentSync", "256 or 512; 128 is quick, to try the command")
	}
	program, err := os.Executable()
	if err != nil {
		return fault.Internal.Wrap("find this program", err)
	}
	report, err := bench.Ladder(ctx, bench.LadderOptions{
		Program: program, Models: b.Models, Rows: b.Rows, Steps: b.Steps, Quick: b.Quick, Frames: b.Frames, Resolution: b.Resolution,
		Backend: b.Backend, Threads: b.Threads, Work: b.Work, Peers: b.Peers, PeerScripts: b.PeerScripts, PeerSteps: b.PeerSteps,
		Progress: func(line string) { _, _ = fmt.Fprintln(c.Err, oneLine(line, maxErrorLine)) },
	})
	if err != nil {
		return err
	}
	for _, path := range []string{b.Plot, b.PlotSVG} {
		if path == "" {
			continue
		}
		if err := report.Plot(path); err != nil {
			return err
		}
	}
	err = b.write(c.Out, report, report.WriteTable)
	if err != nil || !b.Check {
		return err
	}
	return missed(fault.Internal, "", report.Figures)
}
