// Package backend runs neural networks: one interface, implemented by
// backend/openvino and backend/onnxruntime, checked by backend/backendtest.
package backend

import (
	"cmp"
	"context"
	"time"

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
	// FusesAttention reports that the device computes an attention in one
	// operator that never holds the matrix of scores. Computing it in slices
	// then saves no memory.
	FusesAttention bool
}

// FusesAttention reports whether a device of b, by default the first one, fuses
// attention.
func FusesAttention(b Backend, device string) bool {
	list, err := b.Devices()
	if err != nil {
		return false
	}
	for _, d := range list {
		if d.ID == cmp.Or(device, list[0].ID) {
			return d.FusesAttention
		}
	}
	return false
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
	Arena     Arena     // ONNX Runtime only: OpenVINO has no arena
	// Profile has the session note which nodes it runs and for how long; it
	// then is a Profiler. Computing gets slower.
	Profile bool
}

// Arena is how a session's allocator takes memory from the system and keeps it.
// The zero value serves this program best; docs/allocators.md says which setting
// of PyTorch each field stands for.
type Arena struct {
	// Limit is the most that the session's arena takes, in bytes; an
	// allocation beyond fails, with an error of kind Memory. 0: no limit.
	Limit int64
	// First is how much the arena takes at first, in bytes, if it doubles, and
	// never gives back before Close; 0: the library's choice, 1 MiB.
	First int64
	// MaxDead is the most that a block may be larger than what is put into it,
	// in bytes: a larger one is split. 0: 128 MiB.
	MaxDead int64
	Growth  Growth
}

// Growth is how much an arena takes when it grows.
type Growth int

// The ways to grow. What a network needs fits better into few large blocks: of
// a small UNet on the CPU an arena that doubles held 64 MiB, one that takes what
// is asked for 100. What is too much costs nothing there before it is used; on a
// GPU it does.
const (
	GrowAuto   Growth = iota // doubling on a CPU, as asked for on a GPU
	GrowDouble               // twice as much each time
	GrowExact                // as much as is asked for
)

// Profiler is a Session that was loaded with Options.Profile.
type Profiler interface {
	// Nodes lists the nodes of the compiled graph that Run has run, under the
	// types that the library gave them when it fused and replaced operators.
	// After it, ONNX Runtime notes no more.
	Nodes() ([]Node, error)
}

// Node is a step of a compiled graph.
type Node struct {
	Name string
	Type string        // of the operator: "Softmax", "MultiHeadAttention"
	Time time.Duration // of one Run: the mean of all, or that of the last
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
