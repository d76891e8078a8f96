package network

import (
	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Working estimates the memory that ONNX Runtime takes for the tensors of a graph while
// it runs on a device, in bytes; see onnx.Graph.Working. An attention copies its inputs
// into another layout. On a GPU, so does a convolution of float16 with its input, weights
// and result, because cuDNN wants the channels last.
func Working(g *onnx.Graph, d backend.Device) int64 {
	return g.Working(func(k onnx.Kernel) int64 {
		elements := 0
		switch {
		case k.Op == "MultiHeadAttention":
			for _, shape := range k.In {
				elements += tensor.Volume(shape)
			}
		case k.Op == "Conv" && d.Resident && k.Element == int64(tensor.F16.Size()):
			elements = tensor.Volume(k.In[0]) + tensor.Volume(k.In[1]) + tensor.Volume(k.Out)
		}
		return int64(elements) * k.Element
	})
}
