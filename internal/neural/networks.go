package neural

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// The kinds of work: the values of lip.Work.Name.
const (
	workWhisper = "Whisper"
	workEncoder = "VAE encoder"
	workUNet    = "UNet"
	workDecoder = "VAE decoder"
	workLoad    = "load"    // compiling networks
	workStep    = "step"    // a denoising step of a window
	workSampler = "sampler" // what a step takes besides the UNet, on the device
	workWindow  = "window"  // all steps of a window
	workRest    = "silent frame"
	workRecall  = "window of an earlier run"
)

// networks loads the networks of the engine as the current plan says.
type networks struct {
	o        Options
	governor *memory.Governor // owns the plan
	models   []*model
	files    map[string]*checkpoint.File

	mu   sync.Mutex // guards what follows
	work []lip.Work
}

func newNetworks(o Options) *networks {
	s := &networks{o: o, governor: memory.NewGovernor(o.Plan, memory.Reductions{}, nil), files: map[string]*checkpoint.File{}}
	for _, name := range []string{workLoad, workWhisper, workEncoder, workUNet, workDecoder, workStep, workSampler, workWindow, workRest, workRecall} {
		s.work = append(s.work, lip.Work{Name: name})
	}
	return s
}

// plan returns the current plan.
func (s *networks) plan() memory.Plan { return s.governor.Plan() }

// model is one of the networks: its graphs, and its sessions if it is loaded.
type model struct {
	networks *networks
	name     string
	// build returns the graphs for a number of frames per call.
	build func(w *checkpoint.File, frames int, t network.Target) ([]*onnx.Graph, error)
	// file returns the path of the weights.
	file func(Files) string
	// precision returns the precision of the network under a plan.
	precision func(memory.Plan) backend.Precision
	// stored returns the type of the weights in its file that are passed with each run
	// under a plan, or 0. If it is nil, none are.
	stored func(memory.Plan) tensor.DType

	small bool // takes hardly any memory, so that others need not make room for it
	batch int  // windows per call; 0 is the same as 1
	// streamed reports whether graph i of n is loaded only while it runs if the plan says
	// so. If it is nil, no graph is.
	streamed func(i, n int) bool

	chain  *network.Chain // nil if the network is not loaded
	loaded struct {       // what chain was loaded for
		frames, batch int
		plan          memory.Plan
	}
}

// one returns g as the only graph of a network.
func one(g *onnx.Graph, err error) ([]*onnx.Graph, error) { return []*onnx.Graph{g}, err }

func (s *networks) add(m model) *model {
	m.networks = s
	s.models = append(s.models, &m)
	return &m
}

// open returns a checkpoint. It stays open until Close, because sessions read the weights
// in place.
func (s *networks) open(path string) (*checkpoint.File, error) {
	if f := s.files[path]; f != nil {
		return f, nil
	}
	f, err := checkpoint.Open(path)
	if err == nil {
		s.files[path] = f
	}
	return f, err
}

// ready loads the network for a number of frames per call under the current plan, unless
// it is already loaded for them. If the plan keeps one network at a time, ready closes
// the others first.
func (m *model) ready(ctx context.Context, frames int) error {
	return m.networks.load(ctx, use{m, frames})
}

// use is a network and the number of frames in a call.
type use struct {
	*model
	frames int
}

// load does what ready does for several networks, together. A plan that keeps one network
// at a time allows only one.
func (s *networks) load(ctx context.Context, list ...use) error {
	var missing []*model
	var unloaded []network.Unloaded
	for _, u := range list {
		now, wanted := s.plan(), u.loaded
		wanted.frames, wanted.batch, wanted.plan = u.frames, u.batch, now
		wanted.plan.Windows, wanted.plan.Frames, wanted.plan.VAEFrames = 0, 0, 0 // graphs depend on them only through frames
		if u.chain != nil && u.loaded == wanted {
			continue
		}
		if err := u.Close(); err != nil {
			return err
		}
		if now.Offload != memory.OffloadNone && !u.small {
			if err := s.clear(); err != nil {
				return err
			}
		}
		n, err := u.unloaded(now, u.frames)
		if err != nil {
			return err
		}
		u.loaded = wanted
		missing, unloaded = append(missing, u.model), append(unloaded, n)
	}
	chains, err := network.LoadAll(ctx, s.o.Device.Loads, unloaded...)
	for i, c := range chains {
		missing[i].chain = c
	}
	return err
}

// unloaded builds the graphs of the network.
func (m *model) unloaded(now memory.Plan, frames int) (n network.Unloaded, err error) {
	s := m.networks
	precision := m.precision(now)
	weights, err := s.open(m.file(s.o.Files.in(precision, now)))
	if err != nil {
		return n, err
	}
	target := s.o.target(precision, now)
	if m.stored != nil {
		target = storing(target, m.stored(now))
	}
	if n.Graphs, err = m.build(weights, frames, target); err != nil {
		return n, fault.Input.Wrap("build a network from "+weights.Path(), err)
	}
	n.Loader = network.Loader{
		Backend: s.o.Backend,
		Options: backend.Options{Device: s.o.Device.ID, Precision: precision, Threads: s.o.Threads, Resident: s.o.Device.Resident, Arena: backend.Arena{Limit: s.o.ArenaLimit}},
		Loaded: func(took time.Duration) {
			weights.Release()
			s.note(workLoad, 1, took, 0)
		},
		Fed: func() { weights.Release() },
	}
	if m.streamed != nil && now.Offload == memory.OffloadSequential {
		n.Streamed = func(i int) bool { return m.streamed(i, len(n.Graphs)) }
	}
	return n, nil
}

// timed notes the time that f takes, without that of loading.
func (m *model) timed(calls int, f func() error) error {
	began, loading := time.Now(), m.networks.spent(workLoad)
	err := f()
	took := time.Since(began) - (m.networks.spent(workLoad) - loading)
	m.networks.note(m.name, int64(calls), took, m.chain.Memory().Peak)
	return err
}

// runOn runs the graphs from (inclusive) to to (exclusive), with tensors that can stay on
// the device.
func (m *model) runOn(ctx context.Context, from, to int, keep func(string) bool, flows ...*network.DeviceFlow) error {
	return m.timed(len(flows), func() error { return m.chain.RunOn(ctx, from, to, keep, flows...) })
}

// whole runs all graphs.
func (m *model) whole(ctx context.Context, flows ...network.Flow) error {
	return m.timed(len(flows), func() error { return m.chain.Run(ctx, 0, m.chain.Len(), flows...) })
}

// Close closes the sessions.
func (m *model) Close() error {
	if m.chain == nil {
		return nil
	}
	err := m.chain.Close()
	m.chain = nil
	return err
}

// clear closes all networks, and returns their memory to the system.
func (s *networks) clear() error {
	var errs []error
	for _, m := range s.models {
		errs = append(errs, m.Close())
	}
	native.ReturnFree()
	return errors.Join(errs...)
}

// shrink makes the networks return memory that they do not use.
func (s *networks) shrink() {
	for _, m := range s.models {
		if m.chain != nil {
			m.chain.Shrink()
		}
	}
}

// changed closes the networks after a change of plan that concerns them. They are loaded
// again at their next use.
func (s *networks) changed(from memory.Plan) error {
	if now := s.plan(); now.Offload != from.Offload || now.Precision != from.Precision {
		return s.clear()
	}
	return nil
}

// Close closes the networks, then the checkpoints.
func (s *networks) Close() error {
	errs := []error{s.clear()}
	for path, f := range s.files {
		errs = append(errs, f.Close())
		delete(s.files, path)
	}
	return errors.Join(errs...)
}

// note adds calls, and the time that they took, to a kind of work, and updates the most
// memory that it held.
func (s *networks) note(name string, calls int64, took time.Duration, held int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.find(name)
	w.Calls += calls
	w.Busy += took
	w.Memory = max(w.Memory, held)
}

// find returns the kind of work. The caller holds mu.
func (s *networks) find(name string) *lip.Work {
	return &s.work[slices.IndexFunc(s.work, func(w lip.Work) bool { return w.Name == name })]
}

// most returns the most memory that a kind of work held, in bytes.
func (s *networks) most(name string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(name).Memory
}

// spent returns the time that a kind of work took.
func (s *networks) spent(name string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(name).Busy
}
