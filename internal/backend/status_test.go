package backend

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
)

// TestOutOfMemory has messages that users of the runtimes have reported, and similar ones
// with another meaning.
func TestOutOfMemory(t *testing.T) {
	for _, text := range []string{
		// microsoft/onnxruntime issues 22702, 16307, 16305, 16512 and others
		`Non-zero status code returned while running Conv node. Name:'/patch_embed/stages/stages.0/blocks/blocks.0/mlp/fc1/Conv' Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*, bool, onnxruntime::WaitNotificationFn) Failed to allocate memory for requested buffer of size 4585490524328388608`,
		`onnxruntime::BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 939524096`,
		`BFCArena::AllocateRawInternal Available memory of 34699008 is smaller than requested bytes of 945041920`,
		`Non-zero status code returned while running FusedMatMul node. Name:'MatMul_With_Transpose_token_14_FusedMatMulAndScale' Status Message: bad allocation`,
		`Exception during initialization: std::bad_alloc`,
		`CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=egg ; file=/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_execution_provider.cc ; line=164 ; expr=cublasCreate(&cublas_handle_);`,
		`CUDNN failure 4008: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ; GPU=0`,
		`CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED ; GPU=0 ; expr=cudnnCreate(&cudnn_handle_)`,
		`CUDA failure 2: out of memory ; GPU=0 ; hostname=h ; file=/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_allocator.cc ; line=47 ; expr=cudaMalloc((void**)&p, size);`,
		`CUDA error cudaErrorMemoryAllocation:out of memory`,
		`CUDA_ERROR_OUT_OF_MEMORY: out of memory`,
		`mmap of weights failed: Cannot allocate memory`,
		`open external data: Cannot allocate memory (os error 12)`,
		`8007000E Not enough memory resources are available to complete this operation.`,
		// openvinotoolkit/openvino issues 33422, 34345, 25141, 13674 (immich), 2740 (notebooks)
		`Check 'ptr' failed at src/plugins/intel_cpu/src/cpu_memory.cpp:257: Failed to allocate 7663872811008 bytes of memory`,
		`Exception from src\inference\src\cpp\core.cpp:113: bad allocation`,
		`std::bad_alloc`,
		`can't alloc`,                      // seen under RLIMIT_DATA
		`Resource temporarily unavailable`, // the same
		`[GPU] CL_OUT_OF_RESOURCES exception. Due to a driver bug, any subsequent OpenCL API call may cause the application to hang`,
		`[GPU] out of GPU resources`,
		`[GPU] Exceeded max size of memory object allocation: requested 9172942848 bytes, but max alloc size supported by device is 4294959104 bytes.`,
		`[GPU] Exceeded max size of memory allocation, check debug message for size info`,
		`[GPU] CL_MEM_OBJECT_ALLOCATION_FAILURE`,
		`[GPU] clFlush, error code: -5`,
		`[GPU] clEnqueueNDRangeKernel, error code: -4 CL_MEM_OBJECT_ALLOCATION_FAILURE`,
		`[CL ext] Can not allocate 1234 bytes for USM Device. ptr: 0, error: -5`,
	} {
		if !OutOfMemory(text) {
			t.Errorf("not seen as a failed allocation: %s", text)
		}
	}
	for _, text := range []string{
		"",
		"Failed to allocate required number of general-purpose registers",
		"Failed to allocate aux GPR",
		"Cannot allocate memory for incompatible descriptors.",
		"Can't allocate registers for a snippet: not enough registers",
		"[GPU] clEnqueueNDRangeKernel, error code: -54",
		"Missing Input: x",
		"Invalid rank for input: x Got: 2 Expected: 3 Please fix either the inputs/outputs or the model.",
		"Load model from a.onnx failed:Protobuf parsing failed.",
		"index 7 is out of bounds",
	} {
		if OutOfMemory(text) {
			t.Errorf("seen as a failed allocation: %s", text)
		}
	}
}

func TestFault(t *testing.T) {
	full := fmt.Errorf("port 3: %w", &Status{Code: 6, Text: "std::bad_alloc"})
	for _, c := range []struct {
		name string
		err  error
		kind fault.Kind
		hint bool
	}{
		{"memory", full, fault.Memory, true},
		{"memory, wrapped as another kind", fault.Internal.Wrap("set input x", full), fault.Memory, true},
		{"another failure", &Status{Code: 1, Text: "Missing Input: x"}, fault.Internal, false},
		// Only texts of the library count.
		{"a file's name", errors.New("open bad_alloc.onnx: no such file"), fault.Internal, false},
		{"cancelled", fmt.Errorf("%w: %w", full, context.Canceled), fault.Cancelled, false},
	} {
		err := Fault(fault.Internal, "run model", "m", c.err, "")
		if fault.KindOf(err) != c.kind || !errors.Is(err, c.err) || (fault.HintOf(err) != "") != c.hint {
			t.Errorf("%s: kind %d, hint %q of: %v", c.name, fault.KindOf(err), fault.HintOf(err), err)
		}
	}
	if Fault(fault.Internal, "run model", "m", nil, "") != nil {
		t.Error("nil became an error")
	}
}

func TestDeviceLost(t *testing.T) {
	for text, want := range map[string]bool{
		"CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=h": true,
		"CUDA failure 719: unspecified launch failure":                                    true,
		"CUDA failure 710: device-side assert triggered":                                  true,
		"CUDNN failure 8: CUDNN_STATUS_EXECUTION_FAILED":                                  true,
		"CUDA failure 999: unknown error":                                                 true,
		"CUDA failure 2: out of memory":                                                   false,
		"CUDA failure 35: CUDA driver version is insufficient":                            false,
		"CUDA failure 209: no kernel image is available for execution on the device":      false,
	} {
		if DeviceLost(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
		err := Fault(fault.Internal, "run model", "m", &Status{Text: text}, "")
		if (fault.KindOf(err) == fault.Device) != want || want && fault.HintOf(err) == "" {
			t.Errorf("%q: kind %v, hint %q", text, fault.KindOf(err), fault.HintOf(err))
		}
	}
}
