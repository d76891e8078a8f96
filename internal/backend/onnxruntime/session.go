package onnxruntime

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// session is a model loaded into ONNX Runtime.
type session struct {
	native.Session
	b         *Backend
	graph     *onnx.Graph // keeps its weights from the garbage collector
	inNames   []*byte     // zero-terminated, in the order of In
	outNames  []*byte
	handle    handle
	options   handle // OrtRunOptions, used by one Run at a time
	shrinking handle // the same for a Run that shrinks the arena, or 0
	arena     *arena
	resident  bool // RunValues can keep outputs in the arena
	device    string
	growth    *native.Growth
	profile   profile
	// On a CPU, weights that no kernel repacks are outside the arena. outside is
	// by how much Load grew the process beyond the arena.
	outside int64
	exact   bool // everything is in the arena
	counts  bool // the arena counts what it holds

	// share is the session's part of the arena, weights what Load took of it. All are
	// guarded by arena.mu.
	share, weights, peak int64

	mu     sync.Mutex // guards closed, and the arena against Close
	closed bool
}

// Load creates a session. Cancelling ctx stops it between two steps of the library's
// initialisation.
func (b *Backend) Load(ctx context.Context, m backend.Model, o backend.Options) (backend.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.Cancelled.Wrap("load model "+m.Name, err)
	}
	if err := b.users.Enter(); err != nil {
		return nil, fault.Internal.Wrap("load model "+m.Name, err)
	}
	s := &session{Session: native.NewSession(m.Name), b: b, graph: m.Graph}
	if err := s.load(ctx, m, o); err != nil {
		_ = s.Close() // releases what load made before it failed
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, backend.Fault(loadKind(err), "load model", m.Name, err, "")
	}
	return s, nil
}

// loadKind returns the kind of a failed Load.
func loadKind(err error) fault.Kind {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f.Kind
	}
	if st, ok := errors.AsType[*backend.Status](err); ok {
		switch st.Code {
		case codeNoSuchFile, codeNoModel, codeBadProtobuf, codeBadGraph:
			return fault.Input
		}
		return fault.Internal
	}
	return fault.Input
}

func (s *session) load(ctx context.Context, m backend.Model, o backend.Options) error {
	a := s.b.api
	options, on, err := s.b.sessionOptions(o)
	if options != 0 {
		defer a.releaseSessionOptions(options)
	}
	if err != nil {
		return err
	}
	s.device = on.id
	turn := turnOf(s.device)
	if err := turn.take(ctx); err != nil {
		return err
	}
	defer turn.give()
	if o.Profile {
		if err := s.startProfile(options); err != nil {
			return err
		}
	}
	if m.Graph != nil {
		m.Bytes = m.Graph.Encode(handedOver)
		release, err := s.handOver(m.Graph.Weights(), options)
		defer release()
		if err != nil {
			return err
		}
	}
	size, err := backend.CheckModel(m)
	if err != nil {
		return err
	}
	create := func() handle {
		return a.createSessionFromArray(s.b.env, &m.Bytes[0], uintptr(len(m.Bytes)), options, &s.handle)
	}
	if len(m.Bytes) == 0 {
		path, err := native.PathChars(m.Path)
		if err != nil {
			return err
		}
		create = func() handle { return a.createSession(s.b.env, path, options, &s.handle) }
	}

	if s.arena, err = s.b.useArena(on, o, options); err != nil {
		return err
	}
	s.growth = native.NewGrowth(size)
	flagged := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(flagged)
		_ = a.check(a.setLoadCancellation(options, true)) // if it cannot, the load just ends later
	})
	s.growth.Measure(func() { err = a.check(create()) })
	runtime.KeepAlive(m.Bytes)
	if !stop() {
		<-flagged
	}
	if err != nil {
		return explain(on.id, err)
	}
	if err := a.check(a.createRunOptions(&s.options)); err != nil {
		return err
	}
	if err := s.arena.join(s); err != nil {
		return err
	}
	if s.counts = s.arena.loaded(s); s.counts {
		if err := s.arena.fits(ctx, s); err != nil {
			return err
		}
		if err := s.openShrinking(on); err != nil {
			return err
		}
	}
	s.exact = !on.cpu()
	s.resident = s.arena.allocator != 0 && (!on.cpu() || o.Resident)
	if s.In, s.inNames, err = s.ports(a.inputCount, a.inputName, a.inputTypeInfo); err != nil {
		return err
	}
	s.Out, s.outNames, err = s.ports(a.outputCount, a.outputName, a.outputTypeInfo)
	return err
}

// handedOver is the location of the weights in the encoded model. The file does not
// exist: handOver replaces each weight before the library looks for it.
func handedOver(onnx.Weight) (string, uint64) { return "handed over", 0 }

// handOver passes the addresses of the weights to the library, which copies only
// those that its kernels repack. The caller must call release when the session has
// been created.
func (s *session) handOver(weights []onnx.Weight, options handle) (release func(), err error) {
	a := s.b.api
	names, values := make([]*byte, len(weights)), make([]handle, len(weights))
	release = func() {
		for _, v := range values {
			if v != 0 {
				a.releaseValue(v)
			}
		}
	}
	if len(weights) == 0 {
		return release, nil
	}
	for i, w := range weights {
		names[i] = native.CString(w.Name)
		if err := s.wrap(w.Tensor, &values[i]); err != nil {
			return release, fault.Internal.Wrap("hand over weight "+w.Name, err)
		}
	}
	err = a.check(a.addInitializers(options, &names[0], &values[0], uintptr(len(weights))))
	runtime.KeepAlive(names)
	return release, err
}

// target is the device of a session.
type target struct {
	id     string
	cuda   int    // the number of the CUDA device, or -1
	plugin handle // the OrtEpDevice of a plugin, or 0
}

func (t target) cpu() bool { return t.cuda < 0 && t.plugin == 0 }

// sessionOptions builds OrtSessionOptions for o. The caller must release them,
// also after an error if they are not 0.
func (b *Backend) sessionOptions(o backend.Options) (options handle, on target, err error) {
	a := b.api
	on, err = b.device(o.Device)
	if err != nil {
		return 0, on, err
	}
	if on.cpu() && o.Precision != backend.Auto && o.Precision != backend.F32 {
		return 0, on, fault.Field("precision", string(o.Precision), "is not supported by ONNX Runtime on a CPU", "set `precision` to f32, or use the openvino backend")
	}
	if o.Precision != backend.Auto && o.Precision != backend.F32 && o.Precision != backend.F16 {
		// CUDA's convolution has no kernel for bf16 below operator set 22, and WebGPU
		// has no such type.
		return 0, on, fault.Field("precision", string(o.Precision), "is not supported by ONNX Runtime on a GPU", "set `precision` to f16")
	}
	if o.Threads < 0 {
		return 0, on, fault.Field("threads", strconv.Itoa(o.Threads), "is negative")
	}
	if err := checkArena(o.Arena); err != nil {
		return 0, on, err
	}
	if err := a.check(a.createSessionOptions(&options)); err != nil {
		return 0, on, err
	}
	for _, status := range []func() handle{
		func() handle { return a.disableMemPattern(options) },
		func() handle { return a.enableCPUMemArena(options) },
		func() handle { return a.setOptimisation(options, optimiseAll) },
		func() handle { return a.setIntraOpThreads(options, int32(o.Threads)) },
		func() handle { return a.setInterOpThreads(options, 1) },
		// Idle threads would spin while ffmpeg, or another job, needs the processors.
		func() handle { return a.addSessionConfig(options, "session.intra_op.allow_spinning", "0") },
	} {
		if err := a.check(status()); err != nil {
			return options, on, err
		}
	}
	switch {
	case on.cuda >= 0:
		err = b.appendCUDA(options, on.cuda, o)
	case on.plugin != 0:
		err = explain(on.id, a.check(a.appendPlugin(options, b.env, &on.plugin, 1, nil, nil, 0)))
	}
	return options, on, err
}

// device reads Options.Device.
func (b *Backend) device(id string) (target, error) {
	on := target{cuda: -1}
	bad := func(cause string) (target, error) {
		return on, fault.Field("device", id, cause, "run lipstream doctor for a list of the devices")
	}
	if id == "" {
		list, err := b.Devices()
		if err != nil {
			return on, err
		}
		id = list[0].ID
	}
	on.id = id
	if id == "cpu" {
		return on, nil
	}
	for _, d := range b.plugins {
		if d.ID == id {
			on.plugin = d.handle
			return on, d.Err
		}
	}
	number, ok := strings.CutPrefix(id, "cuda:")
	if !ok {
		return bad("is not a device of this ONNX Runtime")
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 {
		return bad("has no device number")
	}
	if !b.cuda {
		return bad("needs a build of ONNX Runtime with CUDA; run lipstream runtime install cuda")
	}
	for _, d := range b.devices {
		if d.ID == id && d.Err != nil {
			return on, d.Err
		}
	}
	on.cuda = n
	return on, nil
}

// ports reads the names and types of the inputs or of the outputs.
func (s *session) ports(
	count func(handle, *uintptr) handle,
	name func(handle, uintptr, handle, **byte) handle,
	info func(handle, uintptr, *handle) handle,
) ([]backend.Port, []*byte, error) {
	a := s.b.api
	var n uintptr
	if err := a.check(count(s.handle, &n)); err != nil {
		return nil, nil, err
	}
	var ports []backend.Port
	var names []*byte
	for i := range n {
		var text *byte
		if err := a.check(name(s.handle, i, s.b.allocator, &text)); err != nil {
			return nil, nil, err
		}
		p := backend.Port{Name: native.GoString(text)}
		if err := a.check(a.allocatorFree(s.b.allocator, text)); err != nil {
			return nil, nil, err
		}
		var typeInfo handle
		if err := a.check(info(s.handle, i, &typeInfo)); err != nil {
			return nil, nil, err
		}
		err := s.portType(&p, typeInfo)
		a.releaseTypeInfo(typeInfo)
		if err != nil {
			return nil, nil, err
		}
		ports = append(ports, p)
		names = append(names, native.CString(p.Name))
	}
	return ports, names, nil
}

func (s *session) portType(p *backend.Port, typeInfo handle) error {
	a := s.b.api
	var kind int32
	if err := a.check(a.onnxType(typeInfo, &kind)); err != nil {
		return err
	}
	if kind != typeTensor {
		return fault.Input.New("use port "+p.Name, "it is not a tensor")
	}
	var info handle // part of typeInfo
	if err := a.check(a.tensorInfo(typeInfo, &info)); err != nil {
		return err
	}
	var err error
	p.DType, p.Shape, err = a.describe(info)
	if err != nil {
		return fmt.Errorf("port %q: %w", p.Name, err)
	}
	return nil
}

// describe returns the element type and the dimensions, -1 for unknown ones.
func (a *api) describe(info handle) (tensor.DType, []int, error) {
	var code int32
	if err := a.check(a.elementType(info, &code)); err != nil {
		return 0, nil, err
	}
	d, ok := dtypes[code]
	if !ok {
		return 0, nil, fmt.Errorf("elements of ONNX type %d are not supported", code)
	}
	var rank uintptr
	if err := a.check(a.rank(info, &rank)); err != nil {
		return 0, nil, err
	}
	dims := make([]int64, rank+1) // one more, so that there is an address
	if err := a.check(a.dimensions(info, &dims[0], rank)); err != nil {
		return 0, nil, err
	}
	shape := make([]int, rank)
	for i := range shape {
		shape[i] = max(int(dims[i]), -1)
	}
	return d, shape, nil
}

// dtypes maps ONNXTensorElementDataType.
var dtypes = map[int32]tensor.DType{1: tensor.F32, 2: tensor.U8, 3: tensor.I8, 7: tensor.I64, 10: tensor.F16, 16: tensor.BF16}

func onnxDType(d tensor.DType) int32 {
	for code, dt := range dtypes {
		if dt == d {
			return code
		}
	}
	return 0
}

// cPointers returns a view of a C array of n pointers.
func cPointers(list **byte, n int) []*byte {
	if list == nil || n <= 0 {
		return nil
	}
	return unsafe.Slice(list, n)
}
