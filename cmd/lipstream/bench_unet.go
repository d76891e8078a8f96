package main

import (
	"context"
	"fmt"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/models"
)

type benchUNetCmd struct {
	Checkpoint string `placeholder:"FILE" xor:"what" help:"Checkpoint of a UNet. Converted to the precision where it is of another type; the conversion is kept."`
	Models     string `placeholder:"FOLDER" xor:"what" help:"Take the UNet of a models folder."`
	Size       string `default:"tiny" enum:"tiny,full" help:"Without these two, make a random one, tiny or full (needs 8.5 GB in temporary and cache folder), and delete it afterwards."`

	Backend   string `default:"auto" placeholder:"auto|openvino|onnxruntime" help:"What runs the network."`
	Precision string `default:"f32" enum:"f32,bf16,f16" help:"Of the arithmetic: f32, bf16 or f16."`
	Frames    int    `default:"16" placeholder:"N" help:"Frames of a window, 1 to 24."`
	Latent    int    `default:"32" placeholder:"N" help:"Side of the latents: 32 for 256 pixels, 64 for 512."`
	Batch     int    `default:"1" placeholder:"N" help:"1 runs the two halves of guidance one after the other, as the engine does; 2 runs them together."`
	Steps     int    `default:"3" placeholder:"N" help:"Steps to time, after one to warm up."`
	Threads   int    `placeholder:"N" help:"CPU threads. Default: one for each processor."`

	Dump        string `placeholder:"FOLDER" help:"Keep the graphs as ONNX, with graph.json; the weights stay in the checkpoint."`
	Peers       string `placeholder:"PYTHON" help:"Compare with OpenVINO's Python API and PyTorch: the Python of an environment that tools/peers/setup.sh has made."`
	PeerScripts string `default:"tools/peers" placeholder:"FOLDER" help:"Where the peers' programs are."`

	benchOutput
}

// Run implements lipstream bench unet.
func (b *benchUNetCmd) Run(ctx context.Context, c *console) error {
	file := b.Checkpoint
	if b.Models != "" {
		set, err := models.Find(b.Models)
		if set.UNet == "" {
			return err
		}
		file = set.UNet
	}
	report, err := bench.UNet(ctx, bench.UNetOptions{
		Checkpoint: file, Size: b.Size, Backend: b.Backend, Precision: backend.Precision(b.Precision),
		Frames: b.Frames, Latent: b.Latent, Batch: b.Batch, Steps: b.Steps, Threads: b.Threads,
		Dump: b.Dump, Peers: b.Peers, PeerScripts: b.PeerScripts,
		Progress: func(line string) { _, _ = fmt.Fprintln(c.Err, oneLine(line, maxErrorLine)) },
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
