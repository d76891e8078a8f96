package openvino

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// session is a compiled model with its one infer request.
type session struct {
	native.Session
	b        *Backend
	source   backend.Model // also keeps its graph's weights from the garbage collector
	options  backend.Options
	compiled handle
	request  handle
	growth   *native.Growth

	mu     sync.Mutex // guards what follows
	closed bool
}

// Load reads and compiles a model.
func (b *Backend) Load(ctx context.Context, m backend.Model, o backend.Options) (backend.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.Cancelled.Wrap("load model "+m.Name, err)
	}
	if err := b.users.Enter(); err != nil {
		return nil, fault.Internal.Wrap("load model "+m.Name, err)
	}
	s := &session{Session: native.NewSession(m.Name), b: b, source: m, options: o}
	if err := s.load(ctx, m, o); err != nil {
		_ = s.Close() // releases what load made before it failed
		kind := fault.Input
		if f, ok := errors.AsType[*fault.Error](err); ok {
			kind = f.Kind
		}
		return nil, backend.Fault(kind, "load model", m.Name, err, "")
	}
	return s, nil
}

func (s *session) load(ctx context.Context, m backend.Model, o backend.Options) error {
	device, err := s.b.device(o.Device)
	if err != nil {
		return err
	}
	settings, err := s.b.settings(device, o)
	if err != nil {
		return err
	}
	var floor int64
	if m.Graph == nil {
		if floor, err = backend.CheckModel(m); err != nil {
			return err
		}
	}
	if s.growth == nil {
		s.growth = native.NewGrowth(floor)
	}
	s.growth.Measure(func() {
		if err = s.readAndCompile(ctx, m, device, settings); err == nil && m.Graph != nil {
			s.b.release(m.Graph)
		}
	})
	return err
}

func (s *session) readAndCompile(ctx context.Context, m backend.Model, device string, settings [][2]string) error {
	var model handle
	var err error
	s.b.mapped(func() { model, err = s.read(m) })
	if err != nil {
		return err
	}
	// Compiling is not below mapped, because it unmaps nothing: the model, which is freed
	// after it, holds the mapping. Otherwise a graph could be compiled only when release
	// had waited for the others.
	defer s.b.mapped(func() { s.b.api.modelFree(model) })
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.compile(model, device, settings)
}

// readGraph returns the ov_model_t of a graph; the caller must free it.
//
// OpenVINO maps weights that are in files. But if the model comes from memory, the
// files must be below the current directory: hence the detour through /. If that is
// not possible, OpenVINO gets addresses and copies the weights.
func (s *session) readGraph(g *onnx.Graph) (model handle, err error) {
	inFile := func(w onnx.Weight) bool { return w.File != "" && filepath.VolumeName(w.File) == "" }
	mapped := g.Encode(func(w onnx.Weight) (string, uint64) {
		if inFile(w) {
			return w.File, uint64(w.Offset)
		}
		return address(w)
	})
	if native.InRoot(func() { model, err = s.readBytes(mapped) }) {
		return model, err
	}
	return s.readBytes(g.Encode(address))
}

// address returns a location that OpenVINO's ONNX frontend takes for memory of the
// process.
func address(w onnx.Weight) (string, uint64) {
	return "*/_ORT_MEM_ADDR_/*", uint64(uintptr(unsafe.Pointer(unsafe.SliceData(w.Data))))
}

// mapped calls f, which may map weights or unmap them, while release does not run.
func (b *Backend) mapped(f func()) {
	b.mapping.RLock()
	defer b.mapping.RUnlock()
	f()
}

// release drops the pages of mapped weights. The compiled model keeps the mapping but
// computes with its own repacked copy. No mapping may be removed meanwhile: its addresses
// could get other contents, which would be lost.
func (b *Backend) release(g *onnx.Graph) {
	b.mapping.Lock()
	defer b.mapping.Unlock()
	files := map[string]bool{}
	for _, w := range g.Weights() {
		if w.File != "" && !files[w.File] {
			files[w.File] = true
			native.ReleaseFile(w.File)
		}
	}
}

// read returns the ov_model_t of a model; the caller must free it.
func (s *session) read(m backend.Model) (model handle, err error) {
	switch {
	case m.Graph != nil:
		return s.readGraph(m.Graph)
	case len(m.Bytes) > 0:
		return s.readBytes(m.Bytes)
	}
	return model, s.b.api.check(s.b.api.readModel(s.b.core, m.Path, nil, &model))
}

func (s *session) readBytes(b []byte) (model handle, err error) {
	a := s.b.api
	err = a.check(a.readModelFromMemory(s.b.core, &b[0], uintptr(len(b)), 0, &model))
	runtime.KeepAlive(b)
	return model, err
}

func (s *session) compile(model handle, device string, settings [][2]string) error {
	a := s.b.api
	var err error
	// The ports are those of the model before compiling, which merges tensors and
	// their names.
	if s.Out == nil {
		if s.In, err = s.ports(model, a.modelInputs, a.modelInput); err != nil {
			return err
		}
		if s.Out, err = s.ports(model, a.modelOutputs, a.modelOutput); err != nil {
			return err
		}
	}
	props := make([]property, len(settings))
	for i, kv := range settings {
		props[i] = property{native.CString(kv[0]), native.CString(kv[1])}
	}
	err = a.check(a.compile(s.b.core, model, device, uintptr(len(props)), &props[0], &s.compiled))
	if err != nil {
		return err
	}
	return a.check(a.createRequest(s.compiled, &s.request))
}

// ports reads the names and types of the inputs or of the outputs.
func (s *session) ports(model handle, count func(handle, *uintptr) int32, get func(handle, uintptr, *handle) int32) ([]backend.Port, error) {
	a := s.b.api
	var n uintptr
	if err := a.check(count(model, &n)); err != nil {
		return nil, err
	}
	var list []backend.Port
	for i := range n {
		var port handle
		if err := a.check(get(model, i, &port)); err != nil {
			return nil, err
		}
		p, err := a.describePort(port)
		a.portFree(port)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

func (a *api) describePort(port handle) (p backend.Port, err error) {
	var name *byte
	if err := a.check(a.portName(port, &name)); err != nil {
		return p, err
	}
	p.Name = native.GoString(name)
	a.free(name)
	var code int32
	if err := a.check(a.portType(port, &code)); err != nil {
		return p, err
	}
	var ok bool
	if p.DType, ok = dtypes[code]; !ok {
		return p, fmt.Errorf("port %q: elements of OpenVINO type %d are not supported", p.Name, code)
	}
	var ps partialShape
	if err := a.check(a.portShape(port, &ps)); err != nil {
		return p, err
	}
	defer a.partialShapeFree(&ps)
	if ps.rank.min != ps.rank.max {
		return p, nil // of unknown rank: the shape stays nil
	}
	p.Shape = make([]int, ps.rank.min)
	if len(p.Shape) == 0 {
		return p, nil
	}
	for i, d := range unsafe.Slice(ps.dims, len(p.Shape)) {
		p.Shape[i] = -1
		if d.min == d.max && d.min >= 0 && d.max < math.MaxInt32 {
			p.Shape[i] = int(d.min)
		}
	}
	return p, nil
}

// dtypes maps ov_element_type_e.
var dtypes = map[int32]tensor.DType{2: tensor.BF16, 3: tensor.F16, 4: tensor.F32, 7: tensor.I8, 10: tensor.I64, 16: tensor.U8}

func elementType(d tensor.DType) int32 {
	for code, dt := range dtypes {
		if dt == d {
			return code
		}
	}
	return 0
}

// Memory estimates what the session holds by the growth of the process, because the
// library does not count.
func (s *session) Memory() backend.Memory {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.growth.Memory()
	if s.closed {
		m.Held = 0
	}
	return m
}

// Close waits for a running Run and releases the session. It may be called
// more than once.
func (s *session) Close() error {
	defer s.Acquire()()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.drop()
	s.b.users.Leave()
	return nil
}

// Shrink makes the C library return free memory. OpenVINO has no arena, and its C
// interface cannot release what a compiled model keeps between two runs: only Close
// does.
func (s *session) Shrink() { native.ReturnFree() }

// Nodes implements backend.Profiler with the nodes of the last Run.
func (s *session) Nodes() ([]backend.Node, error) {
	defer s.Acquire()()
	if s.request == 0 {
		return nil, fault.Internal.Wrap("list the nodes of "+s.Model, native.ErrClosed)
	}
	a := s.b.api
	var list profilingList
	if err := a.check(a.profilingInfo(s.request, &list)); err != nil {
		return nil, backend.Fault(fault.Internal, "list the nodes of", s.Model, err, "")
	}
	defer a.profilingFree(&list)
	var nodes []backend.Node
	if list.infos != nil {
		for _, p := range unsafe.Slice(list.infos, int(list.n)) {
			if p.status == nodeExecuted {
				nodes = append(nodes, backend.Node{Name: native.GoString(p.name), Type: native.GoString(p.nodeType),
					Time: time.Duration(p.realTime) * time.Microsecond})
			}
		}
	}
	if len(nodes) == 0 {
		return nil, fault.Internal.New("list the nodes of "+s.Model, "it has not run, or was loaded without Options.Profile")
	}
	return nodes, nil
}
