// Package unet measures a step of the denoising network.
package unet

import (
	"cmp"
	"context"
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
	"github.com/lipstream/lipstream/internal/latentsync/network"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/tensor"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

// Goals of the UNet, for the published topology, 2 x 16 frames, 32 x 32
// latents, OpenVINO and bfloat16.
const (
	goalOpenVINO  = 1.1  // of the time of a step of the same graphs in OpenVINO's Python API
	goalTorch     = 0.75 // of the time of a step in PyTorch
	goalLoad      = 5.0  // seconds
	goalAnonymous = 3.2e9
	goalResident  = 5e9
)

// Bounds of what can be asked for.
const (
	maxSteps  = 1000
	maxLatent = 128
	// timestep is one in the middle of the sampling.
	timestep = 501
)

// Options configures Measure.
type Options struct {
	Checkpoint string `placeholder:"FILE" xor:"what" help:"Checkpoint of a UNet. If it is of another type than the precision, it is converted, and the conversion is kept."`
	Models     string `placeholder:"FOLDER" xor:"what" help:"Take the UNet of a models folder."`
	Size       string `default:"tiny" enum:"tiny,full" help:"Without these two, make a random one, tiny or full (needs 8.5 GB in the temporary and the cache folder), and delete it afterwards."`

	Backend   string            `default:"auto" placeholder:"auto|openvino|onnxruntime" help:"What runs the network."`
	Precision backend.Precision `default:"f32" enum:"f32,bf16,f16" help:"Of the arithmetic: f32, bf16 or f16."`
	Frames    int               `default:"16" placeholder:"N" help:"Frames of a window, 1 to 24."`
	Latent    int               `default:"32" placeholder:"N" help:"Side of the latents: 32 for 256 pixels, 64 for 512."`
	Batch     int               `default:"1" placeholder:"N" help:"1 runs the two halves of guidance one after the other, as the engine does; 2 runs them together."`
	Steps     int               `default:"3" placeholder:"N" help:"Steps to time, after one to warm up."`
	Device    string            `placeholder:"NAME" default:"cpu" help:"Device, such as cpu or cuda:0."`
	Threads   int               `placeholder:"N" help:"CPU threads, those of the peers too. Default: one for each processor."`

	Dump string `placeholder:"FOLDER" help:"Keep the graphs as ONNX, with graph.json; the weights stay in the checkpoint."`
	lab.Peer
	Progress lab.Progress `kong:"-"`
}

// Result is what one implementation took. Memory is in bytes, of its process; 0
// where the system does not report it.
type Result struct {
	Peer          string    `json:"peer"`
	Version       string    `json:"version"`
	Load          float64   `json:"load_seconds"`   // from opening the checkpoint until it can run
	Warmup        float64   `json:"warmup_seconds"` // the first step
	Steps         []float64 `json:"step_seconds"`
	Median        float64   `json:"median_step_seconds"`
	PeakRSS       int64     `json:"peak_rss_bytes"`
	Anonymous     int64     `json:"rss_anon_bytes"` // after the last step
	AnonymousPeak int64     `json:"peak_rss_anon_bytes"`
	AnonymousLoad int64     `json:"rss_anon_after_load_bytes,omitempty"`
	AnonymousStep int64     `json:"rss_anon_after_first_step_bytes,omitempty"`
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
	Peers      []Result      `json:"results"` // Lipstream first
	bench.Results
}

// Measure measures a step of the denoising network with guidance, that is, two
// windows: how long it takes, how long loading takes, and the memory. With
// Peers, two other implementations do the same afterwards, each in a process of
// its own, one after the other.
func Measure(ctx context.Context, o Options) (*Report, error) {
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
	u := &run{Options: o, report: &Report{Machine: bench.ThisMachine(media.Tools{}), Precision: string(o.Precision),
		Frames: o.Frames, Latent: o.Latent, Batch: o.Batch, Threads: o.Threads}}
	defer u.clean()
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
	u.report.Results = bench.Results{Figures: u.report.figures()}
	return u.report, nil
}

// check returns what is wrong with the options, and fills in the defaults.
func (o *Options) check() error {
	err := cmp.Or(lab.In("frames", o.Frames, 1, network.Published().Positions), lab.In("latent", o.Latent, 8, maxLatent),
		lab.In("batch", o.Batch, 1, 2), lab.In("steps", o.Steps, 1, maxSteps), lab.In("threads", o.Threads, 0, 1024),
		o.Peer.Check(lab.OpenVINOScript, lab.TorchScript))
	switch {
	case err != nil:
		return err
	case o.Latent%8 != 0:
		return fault.Field("latent", strconv.Itoa(o.Latent), "is not a multiple of 8", "set it to 32 for 256 pixels, or 64 for 512")
	case o.Peers != "" && o.Precision == backend.F16:
		return fault.Field("precision", "f16", "is a precision that the peers do not have", "set it to bf16 or f32")
	}
	if o.Threads == 0 {
		o.Threads = runtime.NumCPU()
	}
	if o.Models != "" {
		set, err := models.Find(o.Models)
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
	report *Report
	weight string   // the checkpoint that is loaded: converted, where need be
	remove []string // afterwards
}

func (u *run) clean() {
	for _, f := range u.remove {
		_ = os.Remove(f)
	}
}

// prepare finds or makes the checkpoint and its conversion to the precision of
// the arithmetic.
func (u *run) prepare(ctx context.Context, dir string) error {
	compute := u.Precision.DType()
	if string(u.Precision) != compute.String() {
		return fault.Field("precision", string(u.Precision), "does not exist", "set it to f32, bf16 or f16")
	}
	made := u.Checkpoint == ""
	if made {
		u.Progress("making a random checkpoint (" + u.Size + ")")
		// A seed of its own: the converted file is named after the content, so
		// nobody else has it, and it can be deleted.
		_, err := models.Synth(ctx, filepath.Join(dir, "models"), models.SynthOptions{Size: u.Size, Seed: uint64(time.Now().UnixNano()), Resolution: 256, DType: tensor.F32})
		if err != nil {
			return err
		}
		u.Checkpoint = filepath.Join(dir, "models", "latentsync_unet.pt")
		u.report.Checkpoint = "random, " + u.Size
	} else {
		u.report.Checkpoint = u.Checkpoint
	}
	u.weight = u.Checkpoint
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
	_, before := models.Prepared(ctx, u.Checkpoint, compute)
	if !before {
		u.Progress("converting it to " + compute.String())
	}
	if u.weight, err = models.Prepare(ctx, u.Checkpoint, compute, nil); err != nil {
		return err
	}
	u.report.Prepared = u.weight
	if made {
		u.remove = append(u.remove, u.weight, u.weight+".lock")
	}
	return nil
}

// own measures Lipstream itself and writes the graphs for the peers.
func (u *run) own(ctx context.Context) (r Result, err error) {
	u.Progress("lipstream")
	opened, err := runtimes.Open(ctx, runtimes.Choice{Backend: u.Backend, Device: u.Device})
	if err != nil {
		return r, err
	}
	b := opened.Backend
	defer func() { err = closed(err, b.Close) }()
	runtime.GC()
	resetPeak() // of making and converting the checkpoint
	anonymous := watchAnonymous()
	defer anonymous()

	began := time.Now()
	weights, err := checkpoint.Open(u.weight)
	if err != nil {
		return r, err
	}
	defer func() { err = closed(err, weights.Close) }()
	config, err := network.DetectUNet(weights)
	if err != nil {
		return r, err
	}
	net, err := network.NewUNet(config, network.UNetShape{Batch: u.Batch, Frames: u.Frames, Latent: u.Latent, Tokens: network.PublishedWhisper().Tokens()},
		weights, network.For(b.Name(), opened.Device.ID, u.Precision.DType()))
	if err != nil {
		return r, fault.Usage.Wrap("build the UNet "+u.weight, err)
	}
	loader := network.Loader{Backend: b, Options: backend.Options{Device: opened.Device.ID, Precision: u.Precision, Threads: u.Threads}}
	chain, err := loader.Load(ctx, net.Graphs)
	if err != nil {
		return r, err
	}
	defer func() { err = closed(err, chain.Close) }()
	r = Result{Peer: "lipstream", Version: b.Name(), Load: time.Since(began).Seconds(), AnonymousLoad: memoryStatus("RssAnon")}
	if v, ok := b.(interface{ Version() string }); ok {
		r.Version += " " + v.Version()
	}
	u.report.Backend, u.report.Channels = b.Name(), config.Channels

	for i := range u.Steps + 1 {
		began := time.Now()
		for range 2 / u.Batch {
			if err := step(ctx, chain, net); err != nil {
				return r, err
			}
		}
		seconds := time.Since(began).Seconds()
		u.Progress(fmt.Sprintf("lipstream: step %d of %d, %.2f s", i+1, u.Steps+1, seconds))
		if i == 0 {
			r.Warmup, r.AnonymousStep = seconds, memoryStatus("RssAnon")
			continue
		}
		r.Steps = append(r.Steps, seconds)
	}
	r.Median = bench.Median(r.Steps)
	r.Anonymous, r.AnonymousPeak, r.PeakRSS = memoryStatus("RssAnon"), anonymous(), memoryStatus("VmHWM")
	if err := u.dump(net, b.Name()); err != nil {
		return r, err
	}
	return r, nil
}

// closed calls c and returns the first error.
func closed(err error, c func() error) error {
	if e := c(); err == nil && e != nil {
		return fault.Internal.Wrap("close what was measured", e)
	}
	return err
}

// step computes the network once, on inputs that need no random generator: those
// of the peers.
func step(ctx context.Context, chain *network.Chain, net *network.UNet) error {
	flow := network.Flow{"time": network.TimeEmbedding(timestep, net.Config.Channels[0])}
	for k, in := range inputs(net) {
		if in.Name != "time" {
			flow[in.Name] = wave(k, in.Shape)
		}
	}
	if err := chain.Run(ctx, 0, chain.Len(), flow); err != nil {
		return err
	}
	if tensor.NotFinite(flow["noise"].F32()) >= 0 {
		return fault.Internal.New("run the UNet", "the result has values that are not finite")
	}
	return nil
}
