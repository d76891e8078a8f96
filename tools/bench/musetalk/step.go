package musetalk

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/shirou/gopsutil/v4/process"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/runtimes"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

// Step is a hidden command that runs one configuration, in a process of its own; see
// lab.Serve.
type Step struct {
	UNet      string `name:"unet"`
	VAE       string `name:"vae"`
	Backend   string
	Precision backend.Precision
	Frames    int
	Latent    int
	Threads   int
}

// settings is the first line that a stepper prints. The scripts print more.
type settings struct {
	Peer    string  `json:"peer"`
	Version string  `json:"version"`
	Load    float64 `json:"load_seconds"`
}

// times are the results of a step, for all of its frames.
type times struct {
	UNet    float64 `json:"unet_seconds"`
	Decoder float64 `json:"decoder_seconds"`
	CPU     float64 `json:"cpu_seconds"`
}

// Run implements a command of kong.
func (s *Step) Run(ctx context.Context) (err error) {
	n := &networks{Step: *s}
	defer func() { err = errors.Join(err, n.close()) }()
	return lab.Serve(os.Stdin, os.Stdout, func() (any, func() (any, error), error) {
		began := time.Now()
		if err := n.load(ctx); err != nil {
			return nil, nil, err
		}
		return settings{"lipstream", n.backend.Name() + " " + n.backend.Version(), time.Since(began).Seconds()},
			func() (any, error) { return n.step(ctx) }, nil
	})
}

// networks are the networks of a configuration.
type networks struct {
	Step
	backend       *runtimes.Opened
	unet, decoder *network.Chain
	flow          network.Flow // the inputs
	scale         float32      // of the latents
	closers       []func() error
}

func (n *networks) close() error {
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i]())
	}
	return errors.Join(errs...)
}

func (n *networks) load(ctx context.Context) error {
	b, err := runtimes.Open(ctx, runtimes.Choice{Backend: n.Backend, Device: "cpu"})
	if err != nil {
		return err
	}
	n.backend, n.closers = b, append(n.closers, b.Close)
	unet, err := n.open(ctx, n.UNet)
	if err != nil {
		return err
	}
	config, err := network.DetectMuseTalk(unet)
	if err != nil {
		return err
	}
	shape := network.MuseTalkShape{Frames: n.Frames, Height: n.Latent, Width: n.Latent, Tokens: network.PublishedWhisper().Tokens()}
	to := network.For(b.Name(), b.Device, n.Precision.DType())
	graphs, err := network.MuseTalkUNet(config, shape, unet, to)
	if err != nil {
		return fault.Usage.Wrap("build the UNet "+n.UNet, err)
	}
	if n.unet, err = n.chain(ctx, graphs...); err != nil {
		return err
	}
	vae, err := n.open(ctx, n.VAE)
	if err != nil {
		return err
	}
	coder, err := network.DetectAutoencoder(vae)
	if err != nil {
		return err
	}
	graph, err := coder.Decoder(n.Frames, n.Latent, n.Latent, vae, to)
	if err != nil {
		return fault.Usage.Wrap("build the decoder "+n.VAE, err)
	}
	n.scale = coder.Scale
	n.flow = network.Flow{"sample": lab.Wave(0, n.Frames, config.In, n.Latent, n.Latent), "audio": lab.Wave(1, n.Frames, shape.Tokens, config.AudioDim)}
	n.decoder, err = n.chain(ctx, graph)
	return err
}

// open opens a checkpoint, converted to the precision where the engine converts it.
func (n *networks) open(ctx context.Context, path string) (*checkpoint.File, error) {
	if n.Precision != backend.F32 {
		if prepared, ok := models.Prepared(ctx, path, n.Precision.DType()); ok {
			path = prepared
		}
	}
	f, err := checkpoint.Open(path)
	if err == nil {
		n.closers = append(n.closers, f.Close)
	}
	return f, err
}

func (n *networks) chain(ctx context.Context, graphs ...*onnx.Graph) (*network.Chain, error) {
	o := backend.Options{Device: n.backend.Device.ID, Precision: n.Precision, Threads: n.Threads}
	c, err := network.Loader{Backend: n.backend.Backend, Options: o}.Load(ctx, graphs)
	if err == nil {
		n.closers = append(n.closers, c.Close)
	}
	return c, err
}

// step makes the frames once.
func (n *networks) step(ctx context.Context) (t times, err error) {
	cpu, began := cpuTime(ctx), time.Now()
	flow := network.Flow{"sample": n.flow["sample"], "audio": n.flow["audio"]}
	if err := n.unet.Run(ctx, 0, n.unet.Len(), flow); err != nil {
		return t, err
	}
	t.UNet, began = time.Since(began).Seconds(), time.Now()
	for i, v := range flow["latents"].F32() {
		flow["latents"].F32()[i] = v / n.scale
	}
	if err := n.decoder.Run(ctx, 0, n.decoder.Len(), flow); err != nil {
		return t, err
	}
	t.Decoder, t.CPU = time.Since(began).Seconds(), cpuTime(ctx)-cpu
	if tensor.NotFinite(flow["image"].F32()) >= 0 {
		return t, fault.Internal.New("make the frames", "the result has values that are not finite")
	}
	return t, nil
}

// cpuTime returns the seconds of CPU time that this process has taken, or 0 where the system
// does not tell.
func cpuTime(ctx context.Context) float64 {
	p, err := process.NewProcessWithContext(ctx, int32(os.Getpid()))
	if err != nil {
		return 0
	}
	t, err := p.TimesWithContext(ctx)
	if err != nil {
		return 0
	}
	return t.User + t.System
}
