package onnxruntime

import (
	"cmp"
	"strconv"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/fault"
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

// withArena runs create, which creates a session on the CPU, so that the session
// gets its own arena with settings o. Without settings it gets its own anyway.
//
// The library can only configure the CPU's arena as an allocator of the
// environment, which sessions share. But a session keeps the allocator that is
// registered when it is created, even if another replaces it later. So each session
// gets its own, and its memory can be counted, limited and freed separately.
func (b *Backend) withArena(o backend.Arena, options handle, create func() handle) error {
	a := b.api
	if o == (backend.Arena{}) {
		return a.check(create())
	}
	keys := []string{"arena_extend_strategy"}
	values := []uintptr{uintptr(strategy(o.Growth, false))}
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
	if err := a.check(a.addSessionConfig(options, "session.use_env_allocators\x00", "1\x00")); err != nil {
		return err
	}
	b.arena.Lock()
	defer b.arena.Unlock()
	if err := a.check(a.registerAllocator(b.env, b.memInfo, cfg)); err != nil {
		return err
	}
	defer func() { _ = a.check(a.unregisterAllocator(b.env, b.memInfo)) }() // it was just registered
	return a.check(create())
}

// appendCUDA puts the CUDA provider before the CPU's. It follows the header and the
// documentation, and is tested with a stand-in for the library.
func (b *Backend) appendCUDA(options handle, device int, o backend.Options) error {
	a := b.api
	fail := func(err error) error {
		return backend.Fault(fault.Missing, "use device", "cuda:"+strconv.Itoa(device), err,
			cudaHint+"; lipstream doctor says more; or use device cpu")
	}
	var cuda handle
	if err := a.check(a.createCUDAOptions(&cuda)); err != nil { // this loads the provider
		return fail(err)
	}
	defer a.releaseCUDAOptions(cuda)
	settings := [][2]string{
		{"device_id", strconv.Itoa(device)},
		// cuDNN's heuristic chooses the algorithm. Trying all would need a workspace
		// for each.
		{"cudnn_conv_algo_search", "HEURISTIC"},
		{"do_copy_in_default_stream", "1"},
		{"arena_extend_strategy", strategies[strategy(o.Arena.Growth, true)]},
	}
	if o.Arena.Limit > 0 {
		settings = append(settings, [2]string{"gpu_mem_limit", strconv.FormatInt(o.Arena.Limit, 10)})
	}
	if o.Precision == backend.F32 {
		// TensorFloat-32 has 10 bits of mantissa. With half precision the setting
		// stays on: it also keeps other types from the tensor cores.
		settings = append(settings, [2]string{"use_tf32", "0"})
	}
	keys, values := make([]*byte, len(settings)), make([]*byte, len(settings))
	for i, kv := range settings {
		keys[i], values[i] = native.CString(kv[0]), native.CString(kv[1])
	}
	if err := a.check(a.updateCUDAOptions(cuda, &keys[0], &values[0], uintptr(len(keys)))); err != nil {
		return err
	}
	if err := a.check(a.appendCUDA(options, cuda)); err != nil {
		return fail(err)
	}
	return nil
}

// firstBlock makes the arena take its first block, of Arena.First bytes or 1 MiB. An
// arena that doubles never returns its first block (BFCArena::Shrink). Without this
// call, that block could be large: the first allocation of the first Run.
func (s *session) firstBlock() error {
	a := s.b.api
	var p *byte
	if err := a.check(a.allocatorAlloc(s.allocator.handle, 1, &p)); err != nil {
		return err
	}
	return a.check(a.allocatorFree(s.allocator.handle, p))
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
