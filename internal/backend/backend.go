// Package backend runs neural networks: one interface, implemented by
// backend/openvino and backend/onnxruntime, checked by backend/backendtest.
package backend

import (
	"context"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Backend is a loaded and checked inference library.
type Backend interface {
	// Name returns "openvino" or "onnxruntime".
	Name() string
	// Version returns the version of the library.
	Version() string
	// Devices lists the devices that the library supports; the first is the default.
	Devices() ([]Device, error)
	// Load compiles a model, which can take long. ctx is checked at least before it.
	Load(ctx context.Context, m Model, o Options) (Session, error)
	// Upload copies a tensor to the memory of a device, for sessions on it. If that
	// is the memory of the process, the result is t itself.
	Upload(ctx context.Context, device string, t *tensor.Tensor) (Value, error)
	// Close releases the library's objects. Sessions and Values must be closed before.
	Close() error
}

// Device is a processor that a backend computes on.
type Device struct {
	ID   string // for Options.Device: "cpu", "gpu:0", "cuda:0"
	Name string // the maker's name
	// UUID identifies an NVIDIA GPU as its tools write it, "GPU-8d2c...", or is "".
	UUID string
	// Err is why the device cannot be used, as far as that is known without using it;
	// see Check.
	Err error
	// Half is the half precision in which a CPU is faster than in f32, or in which a
	// GPU computes, or "".
	Half Precision
	// Resident reports that the device has its own memory, and that tensors can stay
	// in it from one session to the next.
	Resident bool
	// Loads is how many models should be compiled at a time because one alone does not
	// keep all processors busy; 0 is the same as 1.
	Loads int
	// ChannelsLast reports that the device computes the operators that ONNX Runtime
	// has for CUDA alone, which take feature maps with the channels last; see
	// CheckChannelsLast.
	ChannelsLast bool
	// FusesAttention reports that the device computes an attention in one
	// operator that never holds the matrix of scores. Computing it in slices
	// then saves no memory.
	FusesAttention bool
}

// Model is an ONNX graph: the bytes of a file, or its path if the weights are in files
// beside it, or a graph built in this process.
type Model struct {
	Name  string // for messages
	Bytes []byte
	Path  string
	// Graph's weights are passed by their addresses. Their memory must stay mapped
	// until the session is closed, even if the backend keeps a copy in its own
	// layout.
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

// DType returns the element type of a precision, for Auto float32.
func (p Precision) DType() tensor.DType {
	switch p {
	case BF16:
		return tensor.BF16
	case F16:
		return tensor.F16
	}
	return tensor.F32
}

// Options configures a session.
type Options struct {
	Device    string    // "" is the backend's default
	Precision Precision // Load fails if the device does not support it
	Threads   int       // CPU threads of this session; 0 lets the backend choose
	Arena     Arena     // ONNX Runtime only: OpenVINO has no arena
	// Resident makes RunValues keep outputs in the memory that the session computes
	// in, also on a CPU, for ONNX Runtime only. On a GPU it always does.
	Resident bool
	// Profile makes the session record which nodes it runs and for how long, as a
	// Profiler. Computing gets slower.
	Profile bool
}

// Arena configures how an allocator takes memory from the system and keeps it. On CUDA,
// and on a CPU for sessions with settings, all sessions of a device share an arena, which
// has the settings of the first. The zero value is the best for this program;
// docs/allocators.md lists the setting of PyTorch that corresponds to each field.
type Arena struct {
	// Limit is the most that the arena takes, with the weights on a GPU, in bytes.
	// Allocations beyond it fail with an error of kind Memory. 0: no limit.
	Limit int64
	// First is how much a doubling arena takes first, in bytes, and keeps until
	// Close; 0: the library's choice, 1 MiB.
	First int64
	// MaxDead is how much larger than its content a block may be, in bytes; a larger
	// one is split. 0: 128 MiB.
	MaxDead int64
	Growth  Growth
}

// Growth is how much an arena takes when it grows.
type Growth int

// The values of Growth. Networks fit better into few large blocks: for a small UNet on
// the CPU, a doubling arena held 64 MiB, and an exact one 100. Unused memory of the
// arena costs nothing on a CPU; on a GPU it does.
const (
	GrowAuto   Growth = iota // double on a CPU, exact on a GPU
	GrowDouble               // twice as much each time
	GrowExact                // as much as is needed
)

// Profiler is a Session that was loaded with Options.Profile.
type Profiler interface {
	// Nodes lists the nodes of the compiled graph that Run has run. Their types are
	// those after the library has fused and replaced operators. ONNX Runtime stops
	// recording after it.
	Nodes() ([]Node, error)
}

// Node is a step of a compiled graph.
type Node struct {
	Name string
	Type string        // of the operator: "Softmax", "MultiHeadAttention"
	Time time.Duration // of one Run: the mean of all or the last
	// Provider is the part of ONNX Runtime that has run the node, such as
	// "CPUExecutionProvider": what a GPU's provider does not support runs on the CPU.
	Provider string
}

// NodeCounts are numbers of nodes.
type NodeCounts struct {
	All    int `json:"all"`
	Memcpy int `json:"memcpy"` // copies between the device and the memory of the process
	Cast   int `json:"cast"`   // conversions to another type
	CPU    int `json:"cpu"`    // nodes that ran on the CPU; all of them if that is the device
}

// Add counts nodes.
func (c *NodeCounts) Add(nodes []Node) {
	for _, n := range nodes {
		c.All++
		if strings.HasPrefix(n.Type, "Memcpy") {
			c.Memcpy++
		}
		if n.Type == "Cast" {
			c.Cast++
		}
		if n.Provider == "CPUExecutionProvider" {
			c.CPU++
		}
	}
}

// Port is an input or output. Dimensions that are only known at run time are -1 in
// Shape.
type Port struct {
	Name  string
	DType tensor.DType
	Shape []int
}

// Session is a compiled model. Its methods are safe for concurrent use; one Run is
// executed at a time.
type Session interface {
	Inputs() []Port
	Outputs() []Port
	// Run computes every output from every input. If ctx ends meanwhile, it stops the
	// computation and returns an error that wraps ctx.Err(); the session stays
	// usable. The results belong to the caller.
	Run(ctx context.Context, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error)
	// RunValues is Run for tensors that may be on the session's device. The outputs
	// for which keep returns true stay there if it has memory of its own; all others,
	// and without keep all, are in the memory of the process. The caller must close
	// the results.
	RunValues(ctx context.Context, in map[string]Value, keep func(output string) bool) (map[string]Value, error)
	// Shrink returns unused memory to the system, now or at the end of the next Run,
	// depending on the library.
	Shrink()
	// Memory reports what the session holds.
	Memory() Memory
	Close() error
}

// Memory is the memory of a session, in bytes. Of an arena that sessions share it is what
// this one has added to it, so that the sum of all sessions counts each byte once.
type Memory struct {
	Held int64 // what the session holds now, weights and arena, as far as it is known
	Peak int64 // the most that it held
	// Exact is true if the library's allocator counted, false if the figures are the
	// growth of the process during Load and Run.
	Exact bool
}
