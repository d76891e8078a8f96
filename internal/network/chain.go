package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Flow holds the tensors that pass between the graphs of a network, by name, in the
// memory of the process.
type Flow map[string]*tensor.Tensor

// DeviceFlow holds the tensors that pass between the graphs of a network. They stay on
// the device where it has memory of its own.
type DeviceFlow struct {
	In  map[string]backend.Value // belong to the caller, who closes them
	out map[string]backend.Value // what the graphs have computed
}

// NewDeviceFlow returns a flow with the given inputs.
func NewDeviceFlow(in map[string]backend.Value) *DeviceFlow {
	return &DeviceFlow{In: in, out: map[string]backend.Value{}}
}

// Take returns a tensor that was computed, which then belongs to the caller, or nil.
func (f *DeviceFlow) Take(name string) backend.Value {
	v := f.out[name]
	delete(f.out, name)
	return v
}

// Fork returns a flow with the given inputs and all that f has computed so far, which still
// belongs to f.
func (f *DeviceFlow) Fork(in map[string]backend.Value) *DeviceFlow {
	all := maps.Clone(f.out)
	maps.Copy(all, in)
	return NewDeviceFlow(all)
}

// Peek returns a tensor that still belongs to the flow, or nil.
func (f *DeviceFlow) Peek(name string) backend.Value {
	if v := f.out[name]; v != nil {
		return v
	}
	return f.In[name]
}

// drop releases a tensor that was computed. Inputs stay.
func (f *DeviceFlow) drop(name string) error {
	if v := f.Take(name); v != nil {
		return v.Close()
	}
	return nil
}

// Close releases what was computed and not taken.
func (f *DeviceFlow) Close() error {
	var errs []error
	for name := range f.out {
		errs = append(errs, f.drop(name))
	}
	return errors.Join(errs...)
}

// Loader compiles graphs.
type Loader struct {
	Backend backend.Backend
	Options backend.Options
	// Streamed reports whether graph i is compiled for each use and closed after it.
	// If it is nil, no graph is.
	Streamed func(i int) bool
	// Loaded is called after each compilation with the time since the one before. Pages
	// of mapped weights may then be dropped from memory. It may be nil.
	Loaded func(took time.Duration)
	// Fed is called after a graph with weights that are passed with each run. Their pages
	// may then be dropped from memory. It may be nil.
	Fed func()
	// Loads is how many graphs Load compiles at a time; 0 is the same as 1.
	Loads int
}

// Unloaded is a network that is to be loaded.
type Unloaded struct {
	Loader
	Graphs []*onnx.Graph
}

// Chain is a network loaded into a backend: its graphs as sessions, in order.
type Chain struct {
	loader   Loader
	graphs   []*onnx.Graph
	sessions []backend.Session // nil for streamed graphs that are not in use
	peaks    []int64           // bytes, of streamed graphs
	lap      *lap
}

// lap says when a graph was loaded last.
type lap struct {
	sync.Mutex
	mark time.Time
}

// Load compiles the graphs of a network. See LoadAll.
func (l Loader) Load(ctx context.Context, graphs []*onnx.Graph) (*Chain, error) {
	list, err := LoadAll(ctx, l.Loads, Unloaded{l, graphs})
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// LoadAll compiles the graphs of networks, as many at a time as loads says; 0 is the same as
// 1. It begins with the largest: compiling takes several times the memory of the graph's
// weights, so the largest is compiled before the others take memory. If one fails, all are
// closed.
func LoadAll(ctx context.Context, loads int, networks ...Unloaded) ([]*Chain, error) {
	type place struct {
		chain *Chain
		graph int
	}
	var order []place
	var chains []*Chain
	shared := &lap{mark: time.Now()}
	for _, n := range networks {
		c := &Chain{loader: n.Loader, graphs: n.Graphs, sessions: make([]backend.Session, len(n.Graphs)), peaks: make([]int64, len(n.Graphs)), lap: shared}
		chains = append(chains, c)
		for i := range n.Graphs {
			if !c.streamed(i) {
				order = append(order, place{c, i})
			}
		}
	}
	bytes := func(p place) int64 { return p.chain.graphs[p.graph].WeightBytes() }
	slices.SortStableFunc(order, func(p, q place) int { return cmp.Compare(bytes(q), bytes(p)) })
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, loads))
	for _, p := range order {
		group.Go(func() error { return p.chain.load(ctx, p.graph) })
	}
	if err := group.Wait(); err != nil {
		for _, c := range chains {
			err = errors.Join(err, c.Close())
		}
		return nil, err
	}
	return chains, nil
}

func (c *Chain) streamed(i int) bool { return c.loader.Streamed != nil && c.loader.Streamed(i) }

func (c *Chain) load(ctx context.Context, i int) (err error) {
	if err := ctx.Err(); err != nil {
		return err // another graph has failed
	}
	g := c.graphs[i]
	c.sessions[i], err = c.loader.Backend.Load(ctx, backend.Model{Name: g.Name(), Graph: g}, c.loader.Options)
	if err != nil {
		c.sessions[i] = nil
		return err
	}
	c.lap.Lock()
	defer c.lap.Unlock()
	if now := time.Now(); c.loader.Loaded != nil {
		c.loader.Loaded(now.Sub(c.lap.mark))
		c.lap.mark = now
	}
	return nil
}

// Len returns the number of graphs.
func (c *Chain) Len() int { return len(c.graphs) }

// Run runs the graphs from (inclusive) to to (exclusive) on each flow. It takes the
// inputs from the flow, and adds the outputs that no later graph reads.
func (c *Chain) Run(ctx context.Context, from, to int, flows ...Flow) error {
	list := make([]*DeviceFlow, len(flows))
	for i, flow := range flows {
		list[i] = NewDeviceFlow(backend.Values(flow))
	}
	err := c.RunOn(ctx, from, to, nil, list...)
	for i, d := range list {
		if err == nil {
			var out map[string]*tensor.Tensor
			if out, err = backend.Tensors(ctx, d.out); err == nil {
				maps.Copy(flows[i], out)
			}
		}
		err = errors.Join(err, d.Close())
	}
	return err
}

// RunOn is Run for tensors that can stay on the device: those that another graph reads,
// and the outputs for which keep returns true. keep may be nil. If one of the graphs is
// streamed, all flows pass a graph before the next one, so that it is compiled once for
// all of them. Otherwise one flow after the other passes all graphs, so that only one has
// tensors between graphs. The sessions check ctx.
func (c *Chain) RunOn(ctx context.Context, from, to int, keep func(output string) bool, flows ...*DeviceFlow) error {
	together := 1
	for i := from; i < to; i++ {
		if c.streamed(i) {
			together = len(flows)
		}
	}
	for group := range slices.Chunk(flows, together) {
		for i := from; i < to; i++ {
			if err := c.pass(ctx, i, keep, group); err != nil {
				return errors.Join(err, c.release(i))
			}
			if err := c.release(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// pass runs flows through graph i.
func (c *Chain) pass(ctx context.Context, i int, keep func(string) bool, flows []*DeviceFlow) error {
	if c.sessions[i] == nil {
		c.lap = &lap{mark: time.Now()}
		if err := c.load(ctx, i); err != nil {
			return err
		}
	}
	for _, flow := range flows {
		if err := c.run(ctx, i, keep, flow); err != nil {
			return err
		}
	}
	if c.loader.Fed != nil && len(c.graphs[i].Feeds()) > 0 {
		c.loader.Fed()
	}
	return nil
}

// release closes the session of a streamed graph.
func (c *Chain) release(i int) error {
	if !c.streamed(i) || c.sessions[i] == nil {
		return nil
	}
	c.peaks[i] = max(c.peaks[i], c.sessions[i].Memory().Peak)
	err := c.sessions[i].Close()
	c.sessions[i] = nil
	return err
}

func (c *Chain) run(ctx context.Context, i int, keep func(string) bool, flow *DeviceFlow) error {
	in := make(map[string]backend.Value)
	for _, name := range c.graphs[i].InputNames() {
		if in[name] = flow.Peek(name); in[name] == nil {
			return fmt.Errorf("the input %q of the network %s is missing", name, c.graphs[i].Name())
		}
	}
	for _, w := range c.graphs[i].Feeds() {
		in[w.Name] = backend.InHost(w.Tensor)
	}
	out, err := c.sessions[i].RunValues(ctx, in, func(output string) bool {
		return c.reads(i+1, output) || keep != nil && keep(output)
	})
	if err != nil {
		return err
	}
	for name, v := range out {
		err = errors.Join(err, flow.drop(name)) // of an earlier run
		flow.out[name] = v
	}
	// The skips of a UNet must not all stay in memory until its end.
	for _, name := range c.graphs[i].InputNames() {
		if !c.reads(i+1, name) {
			err = errors.Join(err, flow.drop(name))
		}
	}
	return err
}

// reads reports whether a graph from the given one on reads the tensor.
func (c *Chain) reads(from int, name string) bool {
	return slices.ContainsFunc(c.graphs[from:], func(g *onnx.Graph) bool { return g.Reads(name) })
}

// Shrink makes the sessions return memory that they do not use.
func (c *Chain) Shrink() {
	for _, s := range c.sessions {
		if s != nil {
			s.Shrink()
		}
	}
}

// Memory returns the memory of all sessions. Of the streamed graphs it counts the one
// with the highest peak.
func (c *Chain) Memory() backend.Memory {
	sum := backend.Memory{Exact: true}
	for _, s := range c.sessions {
		if s == nil {
			continue
		}
		m := s.Memory()
		sum.Held += m.Held
		sum.Peak += m.Peak
		sum.Exact = sum.Exact && m.Exact
	}
	sum.Peak += slices.Max(c.peaks)
	return sum
}

// Close releases the sessions. It may be called more than once.
func (c *Chain) Close() error {
	var errs []error
	for i, s := range c.sessions {
		if s != nil {
			errs = append(errs, s.Close())
			c.sessions[i] = nil
		}
	}
	return errors.Join(errs...)
}
