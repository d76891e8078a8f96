package unet

import (
	"context"
	"errors"
	"time"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/runtimes"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/tensor"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

const timestep = 501 // in the middle of the sampling

// stepper runs the network as a job does: on a GPU, all tensors but the embedding of the
// timestep stay there.
type stepper struct {
	chain *network.Chain
	in    map[string]backend.Value
	deep  backend.Value // of the last full step
	noise backend.Value // of the last step
}

// newStepper uploads the inputs, which are those of the peers and need no random generator.
func newStepper(ctx context.Context, b *runtimes.Opened, chain *network.Chain, net *network.UNet) (*stepper, error) {
	s := &stepper{chain: chain, in: map[string]backend.Value{"time": backend.InHost(network.TimeEmbedding(timestep, net.Config.Channels[0]))}}
	for k, in := range inputs(net) {
		if in.Name == "time" {
			continue
		}
		v, err := b.Upload(ctx, b.Device.ID, lab.Wave(k, in.Shape...))
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.in[in.Name] = v
	}
	return s, nil
}

// step computes the network for both halves of guidance, and returns the seconds until the
// noise is in the memory of the process: a device may still compute when Run has returned.
// A step that is not full takes the result of the deep layers from the last full one.
func (s *stepper) step(ctx context.Context, batch int, full bool) (float64, error) {
	began, last := time.Now(), s.chain.Len()-1
	deep := last
	if !full {
		deep = 1
	}
	keep := func(string) bool { return true }
	for range 2 / batch {
		flow := network.NewDeviceFlow(s.in)
		err := s.chain.RunOn(ctx, 0, deep, nil, flow)
		if err == nil {
			if full {
				err = replace(&s.deep, flow.Take(network.Deep))
			}
			s.in[network.Deep] = s.deep
			err = errors.Join(err, s.chain.RunOn(ctx, last, last+1, keep, flow))
		}
		if err == nil {
			err = replace(&s.noise, flow.Take("noise"))
		}
		if err = errors.Join(err, flow.Close()); err != nil {
			return 0, err
		}
	}
	noise, err := s.noise.Host(ctx)
	if err != nil {
		return 0, err
	}
	took := time.Since(began).Seconds()
	if tensor.NotFinite(noise.F32()) >= 0 {
		return took, fault.Internal.New("run the UNet", "the result has values that are not finite")
	}
	return took, nil
}

// replace closes a value and puts another in its place.
func replace(old *backend.Value, v backend.Value) (err error) {
	if *old != nil {
		err = (*old).Close()
	}
	*old = v
	return err
}

func (s *stepper) close() error {
	s.in[network.Deep] = nil
	errs := []error{replace(&s.deep, nil), replace(&s.noise, nil)}
	for _, v := range s.in {
		if v != nil {
			errs = append(errs, v.Close())
		}
	}
	return errors.Join(errs...)
}

// Nodes counts what ONNX Runtime runs in one pass of the network.
type Nodes struct {
	backend.NodeCounts                // CPU are those that the device did not run; 0 if it is the CPU
	Types              map[string]int `json:"types"` // by operator and provider
}

// countNodes runs each graph once in a session that records its nodes.
func countNodes(ctx context.Context, b backend.Backend, net *network.UNet, o backend.Options, in map[string]backend.Value) (n *Nodes, err error) {
	o.Profile = true
	n = &Nodes{Types: map[string]int{}}
	flow := map[string]backend.Value{}
	defer func() {
		for _, v := range flow {
			err = errors.Join(err, v.Close())
		}
	}()
	for _, g := range net.Graphs {
		s, err := b.Load(ctx, backend.Model{Name: g.Name(), Graph: g}, o)
		if err != nil {
			return nil, err
		}
		own := map[string]backend.Value{}
		for _, name := range g.InputNames() {
			if own[name] = flow[name]; own[name] == nil {
				own[name] = in[name]
			}
		}
		out, err := s.RunValues(ctx, own, func(string) bool { return true })
		for name, v := range out {
			flow[name] = v
		}
		if err == nil {
			err = n.add(s, o.Device)
		}
		if err = errors.Join(err, s.Close()); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *Nodes) add(s backend.Session, device string) error {
	p, ok := s.(backend.Profiler)
	if !ok {
		return fault.Usage.New("count the nodes", "the backend does not list them", "set `backend` to onnxruntime")
	}
	list, err := p.Nodes()
	if err != nil {
		return err
	}
	n.Add(list)
	if device == "cpu" {
		n.CPU = 0
	}
	for _, node := range list {
		n.Types[node.Type+" "+node.Provider]++
	}
	return nil
}
