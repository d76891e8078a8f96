// Package unet measures a step of the denoising network.
package unet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/runtimes"
	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/tensor"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

// The goals apply to the published topology, 2 x 16 frames, 32 x 32 latents, OpenVINO and
// bfloat16.
const (
	goalOpenVINO  = 1.1  // relative to a step of the same graphs in OpenVINO's Python API
	goalTorch     = 0.75 // relative to a step in PyTorch
	goalLoad      = 5.0  // seconds
	goalAnonymous = 3.2e9
	goalResident  = 5e9
)

// Options configures Measure.
type Options struct {
	Checkpoint string `placeholder:"FILE" xor:"what" help:"Checkpoint of a UNet. If its type differs from the precision, it is converted, and the converted file is kept."`
	Models     string `placeholder:"FOLDER" xor:"what" help:"Use the UNet of a models folder."`
	Size       string `default:"tiny" enum:"tiny,full" help:"Without these two, use a random UNet, tiny or full (needs 8.5 GB in the temporary and the cache folder), and delete it afterwards."`

	Backend   string            `default:"auto" placeholder:"auto|openvino|onnxruntime" help:"Runtime of the network."`
	Precision backend.Precision `default:"f32" enum:"f32,bf16,f16" help:"Precision of the arithmetic: f32, bf16 or f16."`
	Frames    int               `default:"16" placeholder:"N" help:"Frames per window, 1 to 24."`
	Latent    int               `default:"32" placeholder:"N" help:"Width and height of the latents: 32 for 256 pixels, 64 for 512."`
	Batch     int               `default:"1" placeholder:"N" help:"1 computes the two halves of guidance one after the other, as the engine does; 2 computes them together."`
	Steps     int               `default:"3" placeholder:"N" help:"Steps to time, after one to warm up."`
	DeepCache bool              `name:"deepcache" help:"Also time the step in which DeepCache skips the deep layers."`
	Nodes     bool              `help:"Also count the nodes that ONNX Runtime runs: copies, casts, and those on the CPU."`
	Device    string            `default:"cpu" placeholder:"NAME" help:"Device, such as cpu or cuda:0. On a GPU tensors stay there between the graphs, as in a job."`
	Threads   int               `placeholder:"N" help:"CPU threads, also for the peers. Default: one per processor."`

	Dump string `placeholder:"FOLDER" help:"Write the graphs to this folder as ONNX, with graph.json. The weights stay in the checkpoint."`
	lab.Peer
}

// Result is the time and memory of one implementation.
type Result struct {
	lab.Timing
	Warmup        float64 `json:"warmup_seconds"` // the first step
	AnonymousLoad int64   `json:"rss_anon_after_load_bytes,omitempty"`
	AnonymousStep int64   `json:"rss_anon_after_first_step_bytes,omitempty"`
	// Cheap are the steps in which DeepCache skips the deep layers, if they were timed.
	Cheap       []float64 `json:"cheap_step_seconds,omitempty"`
	MedianCheap float64   `json:"median_cheap_step_seconds,omitempty"`
}

// Report is the result of Measure.
type Report struct {
	Machine    bench.Machine `json:"machine"`
	Checkpoint string        `json:"checkpoint"`
	Prepared   string        `json:"prepared,omitempty"` // the converted file that was loaded instead
	Channels   []int         `json:"channels"`
	Backend    string        `json:"backend"`
	Precision  string        `json:"precision"`
	Frames     int           `json:"frames"`
	Latent     int           `json:"latent"`
	Batch      int           `json:"batch"`
	Threads    int           `json:"threads"`
	Device     string        `json:"device"`
	Nodes      *Nodes        `json:"nodes,omitempty"`
	Peers      []Result      `json:"results"` // Lipstream first
	bench.Results
}

// Measure measures a step of the denoising network with guidance, that is, of two windows:
// its time, the time to load the network, and the memory. With Peers it then measures two
// other implementations, each in a new process.
func (o Options) Measure(ctx context.Context, progress lab.Progress) (*Report, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "lipstream-bench-")
	if err != nil {
		return nil, fault.Output.Wrap("make a folder for the measurement", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if o.Dump == "" {
		o.Dump = filepath.Join(dir, "dump")
	} else if o.Dump, err = filepath.Abs(o.Dump); err != nil {
		return nil, fault.Output.Wrap("write the graphs "+o.Dump, err)
	}
	u := &run{Options: o, progress: progress, report: &Report{Machine: bench.ThisMachine(media.Tools{}), Precision: string(o.Precision),
		Frames: o.Frames, Latent: o.Latent, Batch: o.Batch, Threads: o.Threads}}
	defer func() {
		for _, f := range u.remove {
			_ = os.Remove(f)
		}
	}()
	if err := u.prepare(ctx, dir); err != nil {
		return nil, err
	}
	own, err := u.own(ctx)
	if err != nil {
		return nil, err
	}
	u.report.Peers = []Result{own}
	if o.Peers != "" {
		results, err := u.peers(ctx)
		if err != nil {
			return nil, err
		}
		u.report.Peers = append(u.report.Peers, results...)
	}
	u.report.Figures = u.report.figures()
	return u.report, nil
}

// check returns an error if an option is wrong, and sets the defaults.
func (o *Options) check() error {
	err := cmp.Or(lab.In("frames", o.Frames, 1, network.Published().Positions), lab.In("latent", o.Latent, 8, 128),
		lab.In("batch", o.Batch, 1, 2), lab.In("steps", o.Steps, 1, 1000), lab.In("threads", o.Threads, 0, 1024),
		o.Peer.Check(lab.OpenVINOScript, lab.TorchScript))
	switch {
	case err != nil:
		return err
	case o.Latent%8 != 0:
		return fault.Field("latent", strconv.Itoa(o.Latent), "is not a multiple of 8", "set it to 32 for 256 pixels, or 64 for 512")
	case o.Peers != "" && o.Precision == backend.F16 && o.Device == "cpu":
		return fault.Field("precision", "f16", "is a precision that the other implementations do not support on a CPU", "set it to bf16 or f32")
	}
	o.Threads = cmp.Or(o.Threads, runtime.NumCPU())
	if o.Models != "" {
		set, err := models.Find(o.Models, models.LatentSync)
		if set.UNet == "" {
			return err
		}
		o.Checkpoint = set.UNet
	}
	return nil
}

// run is a measurement under way.
type run struct {
	Options
	progress lab.Progress
	report   *Report
	weights  string   // the checkpoint that is loaded, after conversion if it is needed
	remove   []string // files to remove at the end
}

// prepare finds or makes the checkpoint, and converts it to the precision of the
// arithmetic.
func (u *run) prepare(ctx context.Context, dir string) error {
	compute := u.Precision.DType()
	if string(u.Precision) != compute.String() {
		return fault.Field("precision", string(u.Precision), "does not exist", "set it to f32, bf16 or f16")
	}
	made := u.Checkpoint == ""
	if made {
		u.progress("making a random checkpoint (" + u.Size + ")")
		// The converted file is named after the content. A unique seed makes sure that
		// nobody else uses it, so that it can be deleted.
		_, err := models.Synth(ctx, filepath.Join(dir, "models"), models.SynthOptions{Size: u.Size, Seed: uint64(time.Now().UnixNano()), Resolution: 256, DType: tensor.F32})
		if err != nil {
			return err
		}
		u.Checkpoint = filepath.Join(dir, "models", "latentsync_unet.pt")
	}
	u.weights, u.report.Checkpoint = u.Checkpoint, u.Checkpoint
	if made {
		u.report.Checkpoint = "random, " + u.Size
	}
	f, err := checkpoint.Open(u.Checkpoint)
	if err != nil {
		return err
	}
	t := f.Tensor("conv_in.weight")
	asIs := compute == tensor.F32 || t != nil && t.DType == compute
	if err := f.Close(); err != nil {
		return err
	}
	if asIs {
		return nil
	}
	if _, before := models.Prepared(ctx, u.Checkpoint, compute); !before {
		u.progress("converting it to " + compute.String())
	}
	if u.weights, err = models.Prepare(ctx, u.Checkpoint, compute, nil); err != nil {
		return err
	}
	u.report.Prepared = u.weights
	if made {
		u.remove = append(u.remove, u.weights, u.weights+".lock")
	}
	return nil
}

// own measures Lipstream itself and writes the graphs for the peers.
func (u *run) own(ctx context.Context) (r Result, err error) {
	u.progress("lipstream")
	b, err := runtimes.Open(ctx, runtimes.Choice{Backend: u.Backend, Device: u.Device})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	stop := lab.WatchMemory()
	defer stop()

	began := time.Now()
	weights, err := checkpoint.Open(u.weights)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, weights.Close()) }()
	config, err := network.DetectUNet(weights)
	if err != nil {
		return r, err
	}
	net, err := network.NewUNet(config, network.UNetShape{Batch: u.Batch, Frames: u.Frames, Latent: u.Latent, Tokens: network.PublishedWhisper().Tokens()}, weights, network.For(b.Name(), b.Device, u.Precision.DType()))
	if err != nil {
		return r, fault.Usage.Wrap("build the UNet "+u.weights, err)
	}
	options := backend.Options{Device: b.Device.ID, Precision: u.Precision, Threads: u.Threads, Resident: b.Device.Resident}
	chain, err := network.Loader{Backend: b.Backend, Options: options, Loads: b.Device.Loads}.Load(ctx, net.Graphs)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, chain.Close()) }()
	r.Peer, r.Version, r.Load, r.AnonymousLoad = "lipstream", b.Name()+" "+b.Version(), time.Since(began).Seconds(), memory.SelfStatus()["RssAnon"]
	u.report.Backend, u.report.Channels, u.report.Device = b.Name(), config.Channels, b.Device.ID

	s, err := newStepper(ctx, b, chain, net)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := u.time(ctx, &r, s); err != nil {
		return r, err
	}
	r.Memory = stop()
	if u.Nodes {
		if err := chain.Close(); err != nil {
			return r, err
		}
		if u.report.Nodes, err = countNodes(ctx, b.Backend, net, options, s.in); err != nil {
			return r, err
		}
	}
	return r, u.dump(net, b.Name())
}

// time times the steps.
func (u *run) time(ctx context.Context, r *Result, s *stepper) error {
	for i := range u.Steps + 1 {
		seconds, err := s.step(ctx, u.Batch, true)
		if err != nil {
			return err
		}
		u.progress(fmt.Sprintf("lipstream: step %d of %d, %.3f s", i+1, u.Steps+1, seconds))
		if i == 0 {
			r.Warmup, r.AnonymousStep = seconds, memory.SelfStatus()["RssAnon"]
			continue
		}
		r.Steps = append(r.Steps, seconds)
	}
	r.Median = bench.Median(r.Steps)
	if !u.DeepCache {
		return nil
	}
	for i := range u.Steps + 1 {
		seconds, err := s.step(ctx, u.Batch, false)
		if err != nil {
			return err
		}
		if i > 0 {
			r.Cheap = append(r.Cheap, seconds)
		}
	}
	r.MedianCheap = bench.Median(r.Cheap)
	u.progress(fmt.Sprintf("lipstream: DeepCache's cheap step, %.3f s", r.MedianCheap))
	return nil
}
