package face

import (
	"context"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/tensor"
)

// network is an embedded network that takes a square image.
type network struct {
	name    string
	session backend.Session
	image   *frame.RGB
	input   *tensor.Tensor // [1, side, side, 3]
}

// loadNetwork loads a network. threads is as in backend.Options.
func loadNetwork(ctx context.Context, b backend.Backend, name string, model []byte, side, threads int) (network, error) {
	s, err := b.Load(ctx, backend.Model{Name: name, Bytes: model}, backend.Options{Device: "cpu", Precision: backend.F32, Threads: threads})
	return network{name, s, frame.NewRGB(side, side), tensor.New(tensor.F32, 1, side, side, 3)}, fault.Internal.Wrap("load the "+name, err)
}

// Close frees the network.
func (n *network) Close() error { return n.session.Close() }

// run runs the network on the pixels that m maps its image to. Of their values,
// 0..255, it makes value·scale + shift.
func (n *network) run(ctx context.Context, src frame.Source, m frame.Affine, border frame.Border, scale, shift float32) (map[string]*tensor.Tensor, error) {
	src.Warp(n.image, m, border, 0)
	in := n.input.F32()
	for i, v := range n.image.Pix {
		in[i] = float32(v)*scale + shift
	}
	out, err := n.session.Run(ctx, map[string]*tensor.Tensor{"input": n.input})
	return out, fault.Internal.Wrap("run the "+n.name, err)
}
