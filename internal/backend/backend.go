// Package backend runs neural networks: one interface, implemented by
// backend/openvino and backend/onnxruntime, checked by backend/backendtest.
package backend

import (
	"context"

	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Backend is a loaded and checked native inference library.
type Backend interface {
	// Name is "openvino" or "onnxruntime".
	Name() string
	// Version is the native library's own version text.
	Version() string
	// Devices lists what the library can compute on; the first is the default.
	Devices() ([]Device, error)
	// Load compiles a model. It may be slow; ctx is checked before the start.
	Load(ctx context.Context, m Model, o Options) (Session, error)
	// Close releases the library's own objects. Sessions must be closed before.
	Close() error
}

// Device is something that a backend computes on.
type Device struct {
	ID   string // as Options.Device takes it: "cpu", "gpu:0", "cuda:0"
	Name string // as the maker calls it
	// Half is the half precision that a CPU computes in faster than in f32; ""
	// where there is none.
	Half Precision
}

// Model is an ONNX graph: the file's bytes, or its path where weights lie in
// external files beside it, or a graph built in this process.
type Model struct {
	Name  string // for messages
	Bytes []byte
	Path  string
	// Graph's weights stay where they are: the backend is told their
	// addresses. Their memory must stay mapped until the session is closed,
	// even where the backend keeps a copy in its own layout.
	Graph *onnx.Graph
}

// Precision of the arithmetic inside a session.
type Precision string

// The precisions; Auto is f32 on a CPU and f16 on a GPU.
const (
	Auto Precision = ""
	F32  Precision = "f32"
	BF16 Precision = "bf16"
	F16  Precision = "f16"
)

// DType is the element type of a precision; of Auto, which is not settled yet,
// float32.
func (p Precision) DType() tensor.DType {
	switch p {
	case BF16:
		return tensor.BF16
	case F16:
		return tensor.F16
	}
	return tensor.F32
}

// Options of a session.
type Options struct {
	Device    string    // "" is the backend's default
	Precision Precision // hint; a backend that cannot do it refuses
	Threads   int       // CPU threads of this session; 0 lets the backend choose
}

// Port is an input or output. Shape holds -1 for dimensions known only at run
// time.
type Port struct {
	Name  string
	DType tensor.DType
	Shape []int
}

// Session is a compiled model. One Run at a time; further callers wait.
type Session interface {
	Inputs() []Port
	Outputs() []Port
	// Run computes every output from every input. When ctx ends while it
	// runs, it stops the computation and returns an error that wraps
	// ctx.Err(); the session stays usable. The results belong to the caller.
	Run(ctx context.Context, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error)
	// Shrink gives memory that is not in use back to the system: now, or at the
	// end of the next Run where the library only does so then.
	Shrink()
	// Memory reports what the session holds.
	Memory() Memory
	Close() error
}

// Memory of a session, in bytes.
type Memory struct {
	Held int64 // what the session holds now, weights and arena, as far as the library can tell
	Peak int64 // the most that it held
	// Exact is true when the library's allocator counted, false when it is
	// the growth of the process seen around Load and Run.
	Exact bool
}
