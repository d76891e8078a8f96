package latentsync

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/latentsync/network"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/onnx"
)

// The names of the parts of the work, as lip.Work has them.
const (
	workWhisper = "Whisper"
	workEncoder = "VAE encoder"
	workUNet    = "UNet"
	workDecoder = "VAE decoder"
	workLoad    = "load"   // compiling networks
	workStep    = "step"   // a denoising step of a window
	workWindow  = "window" // all steps of a window
	workRest    = "silent frame"
	workRecall  = "window of an earlier run"
)

// stock holds the networks of the engine, loaded as the plan in force says.
type stock struct {
	o        Options
	governor *memory.Governor // owns the plan
	members  []*member
	files    map[string]*checkpoint.File

	mu   sync.Mutex // guards what follows
	work []lip.Work
}

func newStock(o Options) *stock {
	s := &stock{o: o, governor: memory.NewGovernor(o.Plan, memory.Reductions{}, nil), files: map[string]*checkpoint.File{}}
	for _, name := range []string{workLoad, workWhisper, workEncoder, workUNet, workDecoder, workStep, workWindow, workRest, workRecall} {
		s.work = append(s.work, lip.Work{Name: name})
	}
	return s
}

// plan returns the plan in force.
func (s *stock) plan() memory.Plan { return s.governor.Plan() }

// member is one network of the stock.
type member struct {
	stock *stock
	name  string
	// build gives the graphs for so many frames a call.
	build func(w *checkpoint.File, frames int, t network.Target) ([]*onnx.Graph, error)
	// file of the weights at a precision.
	file func(backend.Precision) string
	// precision of the network under a plan.
	precision func(memory.Plan) backend.Precision
	// parts tells that the network can be streamed.
	parts bool

	// batch is how many windows, each of as many frames, a call takes.
	batch int

	// What chain was built for:
	chain  *network.Chain
	frames int
	many   int // batch
	plan   memory.Plan
}

// one is a network of one graph.
func one(g *onnx.Graph, err error) ([]*onnx.Graph, error) { return []*onnx.Graph{g}, err }

func (s *stock) add(m member) *member {
	m.stock = s
	s.members = append(s.members, &m)
	return &m
}

// open gives a checkpoint, which stays open until the stock is closed: sessions
// read the weights in place.
func (s *stock) open(path string) (*checkpoint.File, error) {
	if f := s.files[path]; f != nil {
		return f, nil
	}
	f, err := checkpoint.Open(path)
	if err == nil {
		s.files[path] = f
	}
	return f, err
}

// ready loads the network for so many frames a call under the plan in force,
// in place of what was there. Where the plan keeps one network at a time, the
// others go first.
func (m *member) ready(ctx context.Context, frames int) error {
	s := m.stock
	now := s.plan()
	plan := now
	plan.Windows, plan.Frames, plan.VAEFrames = 0, 0, 0 // matter to no graph but by frames
	if m.chain != nil && m.frames == frames && m.many == m.batch && m.plan == plan {
		return nil
	}
	if err := m.Close(); err != nil {
		return err
	}
	if now.Offload != memory.OffloadNone {
		if err := s.clear(m); err != nil {
			return err
		}
	}
	precision := m.precision(now)
	weights, err := s.open(m.file(precision))
	if err != nil {
		return err
	}
	target := network.For(s.o.Backend.Name(), precision.DType())
	target.Slices = now.Slices
	graphs, err := m.build(weights, frames, target)
	if err != nil {
		return fault.Input.Wrap("build network from "+weights.Path(), err)
	}
	loader := network.Loader{
		Backend: s.o.Backend,
		Options: backend.Options{Device: s.o.Device, Precision: precision, Threads: s.o.Threads},
		Loaded: func(took time.Duration) {
			weights.Release()
			s.note(workLoad, 1, took, 0)
		},
	}
	if m.parts && now.Offload == memory.OffloadSequential {
		// The first and the last graph are small, and DeepCache runs them alone.
		loader.Streamed = func(i int) bool { return i > 0 && i < len(graphs)-1 }
	}
	m.frames, m.many, m.plan = frames, m.batch, plan
	m.chain, err = loader.Load(ctx, graphs)
	return err
}

// run computes graphs from to to of the network, of which there are m.chain.Len.
func (m *member) run(ctx context.Context, from, to int, flows ...network.Flow) error {
	began, loading := time.Now(), m.stock.spent(workLoad)
	err := m.chain.Run(ctx, from, to, flows...)
	took := time.Since(began) - (m.stock.spent(workLoad) - loading)
	m.stock.note(m.name, int64(len(flows)), took, m.chain.Memory().Peak)
	return err
}

// whole runs all of the network.
func (m *member) whole(ctx context.Context, flows ...network.Flow) error {
	return m.run(ctx, 0, m.chain.Len(), flows...)
}

// Close lets the network go.
func (m *member) Close() error {
	if m.chain == nil {
		return nil
	}
	err := m.chain.Close()
	m.chain = nil
	return err
}

// clear lets all networks but one go, and returns their memory to the system.
func (s *stock) clear(but *member) error {
	var errs []error
	freed := false
	for _, m := range s.members {
		if m != but && m.chain != nil {
			errs = append(errs, m.Close())
			freed = true
		}
	}
	if freed {
		native.ReturnFree()
	}
	return errors.Join(errs...)
}

// shrink has the networks give back memory that they do not use.
func (s *stock) shrink() {
	for _, m := range s.members {
		if m.chain != nil {
			m.chain.Shrink()
		}
	}
}

// changed follows a change of plan. Networks are loaded again when they are used
// next.
func (s *stock) changed(from memory.Plan) error {
	if now := s.plan(); now.Offload != from.Offload || now.Precision != from.Precision {
		return s.clear(nil)
	}
	return nil
}

// Close releases networks and checkpoints, in this order.
func (s *stock) Close() error {
	errs := []error{s.clear(nil)}
	for path, f := range s.files {
		errs = append(errs, f.Close())
		delete(s.files, path)
	}
	return errors.Join(errs...)
}

// note adds to what a part of the work took.
func (s *stock) note(name string, calls int64, took time.Duration, held int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.work {
		if w := &s.work[i]; w.Name == name {
			w.Calls += calls
			w.Busy += took
			w.Memory = max(w.Memory, held)
		}
	}
}

func (s *stock) spent(name string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.work {
		if w.Name == name {
			return w.Busy
		}
	}
	return 0
}
