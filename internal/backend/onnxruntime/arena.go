package onnxruntime

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/tensor"
)

// defaultMaxDead is the default of Arena.MaxDead and also the library's:
// max_split_size_mb:128 of PyTorch's allocator.
const defaultMaxDead = 128 << 20

// Arena extension strategies of OrtArenaCfg.
const (
	nextPowerOfTwo  = 0
	sameAsRequested = 1
)

// strategies are their names in the CUDA provider's options.
var strategies = map[int]string{nextPowerOfTwo: "kNextPowerOfTwo", sameAsRequested: "kSameAsRequested"}

func strategy(g backend.Growth, gpu bool) int {
	if g == backend.GrowExact || g == backend.GrowAuto && gpu {
		return sameAsRequested
	}
	return nextPowerOfTwo
}

// checkArena rejects negative values, which the library takes for other numbers.
func checkArena(o backend.Arena) error {
	for _, v := range []struct {
		name string
		n    int64
	}{{"growth", int64(o.Growth)}, {"limit", o.Limit}, {"first", o.First}, {"max_dead", o.MaxDead}} {
		if v.n < 0 {
			return fault.Field("arena_"+v.name, strconv.FormatInt(v.n, 10), "is negative", "use 0 for the default")
		}
	}
	return nil
}

// arena is the memory that one session or all sessions of a device compute in. Tensors that
// were allocated in it may outlive the sessions.
type arena struct {
	a        *api
	settings backend.Arena
	info     handle // OrtMemoryInfo
	shared   bool   // registered with the environment, for all sessions of a device
	foreign  bool   // a plugin's, which belongs to the environment
	users    int    // sessions and tensors; guarded by arenas
	drop     func() // called when there are no users any more

	shrink atomic.Bool // return unused blocks at the end of the next Run

	mu        sync.Mutex
	allocator handle     // OrtAllocator, or 0
	sessions  []*session // that are loaded
	rest      int64      // bytes that closed sessions have left in a shared arena
	known     int64      // the sum of the shares and rest
}

// arenas are the shared arenas of the process, by environment and device. ONNX Runtime has
// one environment, which all Backends of the same library share.
var arenas = struct {
	sync.Mutex
	in map[arenaKey]*arena
}{in: map[arenaKey]*arena{}}

type arenaKey struct {
	env    handle
	device string
}

// useArena returns the arena for a session that is about to be created with options, and
// counts the session as its user. On a GPU, and on a CPU for sessions with settings or
// resident tensors, all sessions share one. It has the settings of the first of them, and
// is released with the last.
//
// A session takes the environment's allocator of its device when it is created. On CUDA
// that is a BFCArena that knows streams: a block that one session has freed is reused by
// another only when the first one's Run, and with it its stream, has ended.
func (b *Backend) useArena(on target, o backend.Options, options handle) (*arena, error) {
	switch {
	case on.plugin != 0:
		return b.pluginArena(on), nil
	case on.cpu() && !o.Resident && o.Arena == (backend.Arena{}) || on.cuda >= 0 && b.hasRTX():
		l, err := b.newArena(on, o.Arena)
		if err == nil {
			l.users++
		}
		return l, err
	}
	if err := b.api.check(b.api.addSessionConfig(options, "session.use_env_allocators\x00", "1\x00")); err != nil {
		return nil, err
	}
	key := arenaKey{b.env, on.id}
	arenas.Lock()
	l := arenas.in[key]
	arenas.Unlock()
	if l != nil && o.Arena != (backend.Arena{}) && o.Arena != l.settings {
		_ = b.copies.clear() // they may be the only users of the arena
	}
	arenas.Lock()
	defer arenas.Unlock()
	if l = arenas.in[key]; l == nil {
		var err error
		if l, err = b.newArena(on, o.Arena); err != nil {
			return nil, err
		}
		if err := b.registerArena(on, l.info, o.Arena); err != nil {
			l.drop()
			return nil, err
		}
		drop := l.drop
		l.shared, l.drop = true, func() {
			delete(arenas.in, key)
			_ = b.api.check(b.api.unregisterAllocator(b.env, l.info)) // it was registered
			drop()
		}
		arenas.in[key] = l
	}
	l.users++
	return l, nil
}

// hasRTX reports whether the plugin TensorRT-RTX has registered allocators for NVIDIA's GPUs
// with the environment. Environment::RegisterAllocatorImpl cannot replace them, so the
// sessions of the CUDA provider then keep their own arenas.
func (b *Backend) hasRTX() bool {
	registered.Lock()
	defer registered.Unlock()
	return registered.in[b.env][wheels.TensorRTRTX]
}

// newArena returns an arena of one session, without users.
func (b *Backend) newArena(on target, o backend.Arena) (*arena, error) {
	l := &arena{a: b.api, settings: o, info: b.memInfo, drop: func() {}}
	if on.cuda < 0 {
		return l, nil
	}
	if err := b.api.check(b.api.createMemoryInfo("Cuda\x00", arenaAllocator, int32(on.cuda), memTypeDefault, &l.info)); err != nil {
		return nil, err
	}
	l.drop = func() { b.api.releaseMemoryInfo(l.info) }
	return l, nil
}

// registerArena registers an arena with settings o. It takes no options of the CUDA
// provider, of which the library would only read those of an external allocator
// (Environment::CreateAndRegisterAllocatorV2).
func (b *Backend) registerArena(on target, info handle, o backend.Arena) error {
	a, provider := b.api, "CUDAExecutionProvider\x00"
	if on.cpu() {
		provider = "CPUExecutionProvider\x00"
	}
	keys := []string{"arena_extend_strategy"}
	values := []uintptr{uintptr(strategy(o.Growth, !on.cpu()))}
	set := func(key string, v int64) {
		if v > 0 {
			keys, values = append(keys, key), append(values, uintptr(v))
		}
	}
	set("max_mem", o.Limit)
	set("initial_chunk_size_bytes", o.First)
	set("max_dead_bytes_per_chunk", cmp.Or(o.MaxDead, defaultMaxDead))
	names := make([]*byte, len(keys))
	for i, k := range keys {
		names[i] = native.CString(k)
	}
	var cfg handle
	if err := a.check(a.createArenaCfg(&names[0], &values[0], uintptr(len(names)), &cfg)); err != nil {
		return err
	}
	defer a.releaseArenaCfg(cfg)
	return a.check(a.registerAllocator(b.env, provider, info, cfg, nil, nil, 0))
}

// join adds a session that was created with the arena. The first one opens its allocator.
func (l *arena) join(s *session) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions = append(l.sessions, s)
	if l.allocator != 0 || l.foreign {
		return nil
	}
	a := l.a
	if a.check(a.createAllocator(s.handle, l.info, &l.allocator)) != nil {
		l.allocator = 0 // Memory falls back to the growth of the process
		return nil
	}
	// An arena that doubles never returns its first block (BFCArena::Shrink). This makes
	// it take one of Arena.First bytes or 1 MiB. Without it, that block could be large:
	// the first allocation of the first Run.
	var p *byte
	if err := a.check(a.allocatorAlloc(l.allocator, 1, &p)); err != nil {
		return err
	}
	return a.check(a.allocatorFree(l.allocator, p))
}

// loaded records the memory that Load has taken, in the arena and, on a CPU, outside it, as
// the weights of s. It returns false if the allocator has no statistics.
func (l *arena) loaded(s *session) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := l.rest
	if !l.settle(s) {
		return false
	}
	s.weights = max(s.share-rest, 0)
	if s.device == "cpu" {
		s.outside = max(s.growth.Memory().Held-s.share, 0)
	}
	return true
}

// leave removes a session that was released. Memory that it leaves in a shared arena is added
// to the share of the next session that computes or is loaded.
func (l *arena) leave(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.weights = 0
	l.settle(s)
	l.sessions = slices.DeleteFunc(l.sessions, func(other *session) bool { return other == s })
	l.rest += s.share
	s.share = 0
}

// keep counts a tensor as a user.
func (l *arena) keep() {
	arenas.Lock()
	defer arenas.Unlock()
	l.users++
}

// release ends the use by a session or by a tensor.
func (l *arena) release() {
	arenas.Lock()
	defer arenas.Unlock()
	if l.users--; l.users > 0 {
		return
	}
	if l.allocator != 0 && !l.foreign {
		l.a.releaseAllocator(l.allocator)
	}
	l.drop()
}

// stats returns how much the arena has taken from the system, and the most that was in
// use.
func (l *arena) stats() (held, high int64, ok bool) {
	if l.allocator == 0 || l.foreign { // a plugin's may lack the function
		return 0, 0, false
	}
	var pairs handle
	if l.a.check(l.a.allocatorStats(l.allocator, &pairs)) != nil || pairs == 0 {
		return 0, 0, false
	}
	defer l.a.releaseKeyValues(pairs)
	number := func(key string) int64 {
		n, err := strconv.ParseInt(l.a.keyValue(pairs, key), 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	// An unused arena holds 0. An allocator that does not count has no such entry.
	if l.a.keyValue(pairs, "TotalAllocated\x00") == "" {
		return 0, 0, false
	}
	return number("TotalAllocated\x00"), number("MaxInUse\x00"), true
}

// account adds what the arena has taken since the last call to the share of s, whose Load or
// Run has just ended. So the shares of all sessions add up to what the arena holds. It
// returns false if the allocator has no statistics.
func (l *arena) account(s *session) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.settle(s)
}

// settle does the work of account. The caller holds mu.
func (l *arena) settle(s *session) bool {
	held, high, ok := l.stats()
	if !ok {
		return false
	}
	if held >= l.known {
		s.share += held - l.known
	} else {
		l.reduce(l.known-held, s)
	}
	s.share, l.rest, l.known = s.share+l.rest, 0, held
	s.peak = max(s.peak, s.share+s.outside)
	if !l.shared {
		s.peak = max(s.peak, high+s.outside)
	}
	return true
}

// reduce subtracts n bytes, which a Run or the end of session s has returned to the system,
// from the shares. It reduces working memory before weights, and each of them first in s.
func (l *arena) reduce(n int64, s *session) {
	part := min(l.rest, n)
	l.rest, n = l.rest-part, n-part
	for _, weights := range []bool{false, true} {
		for _, from := range append([]*session{s}, l.sessions...) {
			part := from.share
			if !weights {
				part -= from.weights
			}
			part = max(min(part, n), 0)
			from.share, n = from.share-part, n-part
		}
	}
}

// fits returns an error if the arena exceeds its limit with the weights of s, which was just
// loaded. The library allocates weights outside the blocks of the arena, and does not check
// them. Before it fails, fits makes the arena return unused blocks at the end of a copy.
func (l *arena) fits(ctx context.Context, s *session) error {
	if l.exceeded(s) == nil {
		return nil
	}
	l.shrink.Store(true)
	if _, err := s.b.copy(ctx, s.device, backend.InHost(tensor.New(tensor.F32, 1)), nil); err != nil {
		return err
	}
	l.account(s)
	return l.exceeded(s)
}

func (l *arena) exceeded(s *session) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := l.settings.Limit
	if limit == 0 || l.known <= limit || s.weights == 0 {
		return nil
	}
	return &backend.Status{Code: -1, Text: fmt.Sprintf("out of memory: the networks on the device take %s of %s", memory.Size(l.known), memory.Size(limit))}
}

// openShrinking creates the options of a Run at whose end the arena returns its unused
// blocks.
func (s *session) openShrinking(on target) error {
	a := s.b.api
	if err := a.check(a.createRunOptions(&s.shrinking)); err != nil {
		return err
	}
	arena := "cpu:0"
	if on.cuda >= 0 {
		arena = "gpu:" + strconv.Itoa(on.cuda)
	}
	return a.check(a.addRunConfig(s.shrinking, "memory.enable_memory_arena_shrinkage\x00", arena+"\x00"))
}
