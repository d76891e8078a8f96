package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Flow holds the tensors that pass between the graphs of a network, by name.
type Flow map[string]*tensor.Tensor

// Chain is a network loaded into a backend: its graphs as sessions, in order.
type Chain struct {
	sessions []backend.Session
	names    []string
}

// Load compiles graphs, the largest first: compiling takes the memory of the
// graph's weights several times over, and is best done while the rest is not
// there yet. done, which may be nil, is called after each graph; the weights
// of that graph may then be dropped from memory until the next Load.
func Load(ctx context.Context, b backend.Backend, graphs []*onnx.Graph, o backend.Options, done func(*onnx.Graph)) (*Chain, error) {
	c := &Chain{sessions: make([]backend.Session, len(graphs)), names: make([]string, len(graphs))}
	order := make([]int, len(graphs))
	for i, g := range graphs {
		order[i], c.names[i] = i, g.Name()
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(graphs[j].WeightBytes(), graphs[i].WeightBytes()) })
	for _, i := range order {
		s, err := b.Load(ctx, backend.Model{Name: graphs[i].Name(), Graph: graphs[i]}, o)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.sessions[i] = s
		if done != nil {
			done(graphs[i])
		}
	}
	return c, nil
}

// Len is the number of graphs.
func (c *Chain) Len() int { return len(c.sessions) }

// Run computes the graphs from to to (not included), taking inputs from flow
// and adding outputs to it. Before each graph it looks whether ctx has ended.
func (c *Chain) Run(ctx context.Context, flow Flow, from, to int) error {
	for i := from; i < to; i++ {
		s := c.sessions[i]
		in := make(map[string]*tensor.Tensor)
		for _, p := range s.Inputs() {
			if in[p.Name] = flow[p.Name]; in[p.Name] == nil {
				return fmt.Errorf("network %s needs %q, which was not computed", c.names[i], p.Name)
			}
		}
		out, err := s.Run(ctx, in)
		if err != nil {
			return err
		}
		for name, t := range out {
			flow[name] = t
		}
		c.drop(flow, in, i)
	}
	return nil
}

// drop takes from flow what came between graphs and no later one will read, so
// that the skips of a UNet do not all live until its end.
func (c *Chain) drop(flow Flow, in map[string]*tensor.Tensor, i int) {
	anyOf := func(list []backend.Session, ports func(backend.Session) []backend.Port, name string) bool {
		return slices.ContainsFunc(list, func(s backend.Session) bool { return has(ports(s), name) })
	}
	for name := range in {
		if anyOf(c.sessions[:i], backend.Session.Outputs, name) && !anyOf(c.sessions[i+1:], backend.Session.Inputs, name) {
			delete(flow, name)
		}
	}
}

func has(ports []backend.Port, name string) bool {
	return slices.ContainsFunc(ports, func(p backend.Port) bool { return p.Name == name })
}

// Memory is what the sessions hold together.
func (c *Chain) Memory() backend.Memory {
	sum := backend.Memory{Exact: true}
	for _, s := range c.sessions {
		m := s.Memory()
		sum.Held += m.Held
		sum.Peak += m.Peak
		sum.Exact = sum.Exact && m.Exact
	}
	return sum
}

// Close releases the sessions.
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
