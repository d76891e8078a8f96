package onnxruntime

import (
	"strconv"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/fault"
)

// cudaOptions returns the settings of the CUDA provider. Those that are not listed keep
// their defaults, for these reasons:
//
//   - prefer_nhwc is off, because the graphs for CUDA have the channels last already.
//   - fuse_conv_bias is off, because in these graphs the operator after a convolution adds
//     the bias of most of them, and cuDNN compiles each fused kernel on the machine.
//   - enable_cuda_graph is off: see docs/gpu.md, "What is not done, and why".
//   - sdpa_kernel is 0: flash attention where a card and a size allow it, else the
//     memory-efficient one. Any other value forbids the rest.
//   - cudnn_conv_use_max_workspace is on: without it, algorithms with more than 32 MiB of
//     workspace are not considered.
func cudaOptions(device int, o backend.Options) [][2]string {
	settings := [][2]string{
		{"device_id", strconv.Itoa(device)},
		// This is cuDNN's heuristic mode A, which PyTorch uses, too. EXHAUSTIVE is mode B,
		// which takes longer to choose. Neither measures algorithms.
		{"cudnn_conv_algo_search", "HEURISTIC"},
		// On a stream of their own, copies would have to wait for the other stream.
		{"do_copy_in_default_stream", "1"},
		// Sums in SkipLayerNormalization are in f32, as in LayerNormalization.
		{"enable_skip_layer_norm_strict_mode", "1"},
	}
	// These two only apply to a session with an arena of its own; see useArena.
	settings = append(settings, [2]string{"arena_extend_strategy", strategies[strategy(o.Arena.Growth, true)]})
	if o.Arena.Limit > 0 {
		settings = append(settings, [2]string{"gpu_mem_limit", strconv.FormatInt(o.Arena.Limit, 10)})
	}
	if o.Precision == backend.F32 {
		// TensorFloat-32 has 10 bits of mantissa. With half precision the setting stays
		// on: it also keeps other types from the tensor cores.
		settings = append(settings, [2]string{"use_tf32", "0"})
	}
	return settings
}

// appendCUDA adds the CUDA provider to the options of a session. The library uses the CPU
// only for operators that this provider does not have.
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
	settings := cudaOptions(device, o)
	keys, values := make([]*byte, len(settings)), make([]*byte, len(settings))
	for i, kv := range settings {
		keys[i], values[i] = native.CString(kv[0]), native.CString(kv[1])
	}
	if err := a.check(a.updateCUDAOptions(cuda, &keys[0], &values[0], uintptr(len(keys)))); err != nil {
		return err
	}
	// Weights are allocated outside the blocks of the arena, so that closing a session
	// returns them at once, and they do not fragment the blocks.
	if err := a.check(a.addSessionConfig(options, "session.use_device_allocator_for_initializers\x00", "1\x00")); err != nil {
		return err
	}
	if err := a.check(a.appendCUDA(options, cuda)); err != nil {
		return fail(err)
	}
	return nil
}
