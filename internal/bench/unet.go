package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/runtimes"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/latentsync/network"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/tensor"
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
	maxUNetSteps = 1000
	maxLatent    = 128
	// unetTimestep is one in the middle of the sampling.
	unetTimestep = 501
)

// UNetOptions say what UNet measures.
type UNetOptions struct {
	Checkpoint string // of the UNet; "" makes a random one of Size and deletes it afterwards
	Size       string // "tiny" or "full"
	Backend    string // as runtimes.Open takes it
	Precision  backend.Precision
	Frames     int // of the window
	Latent     int // side of the latents
	Batch      int // 1 runs the two halves of guidance one after the other, 2 together
	Steps      int // that are timed, after one to warm up
	Threads    int // CPU threads, of the peers too; 0 is one for each processor
	Dump       string
	// Peers is a Python that has what tools/peers/requirements.txt lists; ""
	// compares with nothing. PeerScripts is the folder tools/peers.
	Peers, PeerScripts string
	Progress           func(line string) // for people, may be nil
}

// UNetResult is what one implementation took. Memory is in bytes, of its
// process, 0 where the system does not tell.
type UNetResult struct {
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

// UNetReport is what UNet found.
type UNetReport struct {
	Machine    Machine      `json:"machine"`
	Checkpoint string       `json:"checkpoint"`
	Prepared   string       `json:"prepared,omitempty"` // the converted file that was loaded instead
	Channels   []int        `json:"channels"`
	Backend    string       `json:"backend"`
	Precision  string       `json:"precision"`
	Frames     int          `json:"frames"`
	Latent     int          `json:"latent"`
	Batch      int          `json:"batch"`
	Threads    int          `json:"threads"`
	Results    []UNetResult `json:"results"` // Lipstream's first
	Figures    []Figure     `json:"figures"`
}

// UNet measures a step of the denoising network with guidance, that is, two
// windows: how long it takes, how long loading took, and the memory. With
// Peers, two other implementations do the same afterwards, each in a process
// of its own, one after the other.
func UNet(ctx context.Context, o UNetOptions) (*UNetReport, error) {
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
	u := &unetBench{UNetOptions: o, report: &UNetReport{Machine: thisMachine(media.Tools{}), Precision: string(o.Precision),
		Frames: o.Frames, Latent: o.Latent, Batch: o.Batch, Threads: o.Threads}}
	defer u.clean()
	if err := u.prepare(ctx, dir); err != nil {
		return nil, err
	}
	own, err := u.own(ctx)
	if err != nil {
		return nil, err
	}
	u.report.Results = []UNetResult{own}
	if o.Peers != "" {
		results, err := u.peers(ctx)
		if err != nil {
			return nil, err
		}
		u.report.Results = append(u.report.Results, results...)
	}
	u.report.Figures = u.report.figures()
	return u.report, nil
}

// check refuses what cannot be measured and fills in the defaults.
func (o *UNetOptions) check() error {
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	for _, v := range []struct {
		name             string
		value, low, high int
	}{
		{"--frames", o.Frames, 1, network.Published().Positions}, {"--latent", o.Latent, 8, maxLatent},
		{"--batch", o.Batch, 1, 2}, {"--steps", o.Steps, 1, maxUNetSteps}, {"--threads", o.Threads, 0, 1024},
	} {
		if v.value < v.low || v.value > v.high {
			return fault.Usage.New("option "+fmt.Sprintf("%s %d", v.name, v.value), "is out of range", fmt.Sprintf("give %d to %d", v.low, v.high))
		}
	}
	if o.Latent%8 != 0 {
		return fault.Usage.New("option "+fmt.Sprintf("--latent %d", o.Latent), "is no multiple of 8", "give 32 for 256 pixels, or 64 for 512")
	}
	if o.Threads == 0 {
		o.Threads = runtime.NumCPU()
	}
	if o.Peers == "" {
		return nil
	}
	if o.Precision == backend.F16 {
		return fault.Usage.New("option --peers", "the peers compute in bf16 or f32", "use --precision bf16 or f32")
	}
	for _, s := range []string{openvinoScript, torchScript} {
		if _, err := os.Stat(filepath.Join(o.PeerScripts, s)); err != nil {
			return fault.Missing.Wrap("find the peers "+o.PeerScripts, err, "run it in Lipstream's source folder, or give --peer-scripts: the folder tools/peers")
		}
	}
	return nil
}

// unetBench is one measurement under way.
type unetBench struct {
	UNetOptions
	report *UNetReport
	weight string   // the checkpoint that is loaded: converted, where need be
	remove []string // afterwards
}

func (u *unetBench) clean() {
	for _, f := range u.remove {
		_ = os.Remove(f)
	}
}

// prepare finds or makes the checkpoint, and its conversion to the precision
// that is computed in.
func (u *unetBench) prepare(ctx context.Context, dir string) error {
	compute := u.Precision.DType()
	if string(u.Precision) != compute.String() {
		return fault.Usage.New("use precision "+string(u.Precision), "it is unknown", "use one of: f32, bf16, f16")
	}
	made := u.Checkpoint == ""
	if made {
		u.Progress("making a random checkpoint (" + u.Size + ")")
		// A seed of its own, so that the converted file, which is named after
		// the content, is nobody else's and can be deleted.
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

// own measures Lipstream itself, and writes the graphs for the peers. All that
// it loads is closed in the end.
func (u *unetBench) own(ctx context.Context) (r UNetResult, err error) {
	u.Progress("lipstream")
	b, err := runtimes.Open(ctx, u.Backend)
	if err != nil {
		return r, err
	}
	defer func() { err = closed(err, b.Close) }()
	runtime.GC()
	resetPeak() // of making and converting the checkpoint
	anonymous := watchAnonymous()
	defer anonymous.stop()

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
		weights, network.For(b.Name(), u.Precision.DType()))
	if err != nil {
		return r, fault.Usage.Wrap("build the UNet "+u.weight, err)
	}
	loader := network.Loader{Backend: b, Options: backend.Options{Precision: u.Precision, Threads: u.Threads}}
	chain, err := loader.Load(ctx, net.Graphs)
	if err != nil {
		return r, err
	}
	defer func() { err = closed(err, chain.Close) }()
	r = UNetResult{Peer: "lipstream", Version: b.Name(), Load: time.Since(began).Seconds(), AnonymousLoad: memoryStatus("RssAnon")}
	if v, ok := b.(interface{ Version() string }); ok {
		r.Version += " " + v.Version()
	}
	u.report.Backend, u.report.Channels = b.Name(), config.Channels

	for i := range u.Steps + 1 {
		began := time.Now()
		for range 2 / u.Batch {
			if err := runUNet(ctx, chain, net); err != nil {
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
	r.Median = percentile(r.Steps, 0.5)
	r.Anonymous, r.AnonymousPeak, r.PeakRSS = memoryStatus("RssAnon"), anonymous.stop(), memoryStatus("VmHWM")
	if err := u.dump(net, b.Name()); err != nil {
		return r, err
	}
	return r, nil
}

// closed closes something and keeps the first error.
func closed(err error, c func() error) error {
	if e := c(); err == nil && e != nil {
		return fault.Internal.Wrap("close what was measured", e)
	}
	return err
}

// runUNet computes the network once, on inputs that need no random generator:
// those of the peers.
func runUNet(ctx context.Context, chain *network.Chain, net *network.UNet) error {
	flow := network.Flow{"time": network.TimeEmbedding(unetTimestep, net.Config.Channels[0])}
	for k, in := range unetInputs(net) {
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
