package face

import (
	"context"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// network is an embedded network that takes a square image.
type network struct {
	name    string
	session backend.Session
	image   *frame.RGB
	input   *tensor.Tensor // [1, side, side, 3]
	centre  float64        // share of the side, around the centre, by whose contrast the image is judged
}

// loadNetwork loads a network. threads is as in backend.Options.
func loadNetwork(ctx context.Context, b backend.Backend, name string, model []byte, side, threads int, centre float64) (network, error) {
	// The networks run on one image at a time. With a batch of any size, OpenVINO takes twice
	// the time for the mesh.
	model, err := onnx.FixDim(model, "batch", 1)
	if err != nil {
		return network{}, fault.Internal.Wrap("load the "+name, err)
	}
	s, err := b.Load(ctx, backend.Model{Name: name, Bytes: model}, backend.Options{Device: "cpu", Precision: backend.F32, Threads: threads})
	return network{name, s, frame.NewRGB(side, side), tensor.New(tensor.F32, 1, side, side, 3), centre}, fault.Internal.Wrap("load the "+name, err)
}

// Close frees the network.
func (n *network) Close() error { return n.session.Close() }

// run runs the network on the pixels that m maps its image to, with more contrast if
// they have little. Of their values, 0..255, it makes value·scale + shift. It also
// returns the contrast that the pixels had.
func (n *network) run(ctx context.Context, src frame.Source, m frame.Affine, border frame.Border, scale, shift float32) (map[string]*tensor.Tensor, int, error) {
	src.Warp(n.image, m, border, 0)
	w, h := src.Size()
	contrast := stretch(n.image, m, w, h, n.centre)
	in := n.input.F32()
	for i, v := range n.image.Pix {
		in[i] = float32(v)*scale + shift
	}
	out, err := n.session.Run(ctx, map[string]*tensor.Tensor{"input": n.input})
	return out, contrast, fault.Internal.Wrap("run the "+n.name, err)
}

// The networks have not been trained with frames that fade in from black or white, nor
// with faces against the light: on them, the mesh moves towards a mean face with a closed
// mouth. With more contrast it finds the points that it finds in full light.
const (
	fullContrast = 160  // levels; an image with less is stretched to it
	tail         = 0.01 // share of the pixels that may be darker or lighter than the range
)

// stretch raises the contrast of an image that m maps to a picture of w x h pixels, if
// its centre has less than fullContrast. Pixels outside the picture stay as they are. It
// returns the contrast before.
func stretch(p *frame.RGB, m frame.Affine, w, h int, centre float64) int {
	inside := func(x, y int) bool {
		u, v := m.Apply(float64(x), float64(y))
		return u >= 0 && v >= 0 && u <= float64(w-1) && v <= float64(h-1)
	}
	whole := inside(0, 0) && inside(p.W-1, 0) && inside(0, p.H-1) && inside(p.W-1, p.H-1)
	each := func(share float64, do func(rgb []byte)) {
		dx, dy := int(float64(p.W)*(1-share)/2), int(float64(p.H)*(1-share)/2)
		for y := dy; y < p.H-dy; y++ {
			for x := dx; x < p.W-dx; x++ {
				if whole || inside(x, y) {
					do(p.Pix[3*(y*p.W+x):][:3])
				}
			}
		}
	}
	var count [256]int
	total := 0
	each(centre, func(rgb []byte) {
		count[(int(rgb[0])+2*int(rgb[1])+int(rgb[2]))/4]++
		total++
	})
	low, high := 0, 255
	for n := count[low]; low < 255 && n <= int(tail*float64(total)); n += count[low] {
		low++
	}
	for n := count[high]; high > 0 && n <= int(tail*float64(total)); n += count[high] {
		high--
	}
	contrast := max(high-low, 0)
	if contrast == 0 || contrast >= fullContrast {
		return contrast
	}
	var table [256]byte
	gain := float64(fullContrast) / float64(contrast)
	for v := range table {
		table[v] = byte(min(max(float64(min(low, 255-fullContrast))+gain*float64(v-low)+0.5, 0), 255))
	}
	each(1, func(rgb []byte) {
		for c, v := range rgb {
			rgb[c] = table[v]
		}
	})
	return contrast
}
