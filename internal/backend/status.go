package backend

import (
	"errors"
	"regexp"

	"github.com/lipstream/lipstream/internal/fault"
)

// Status is a failure that a library reported.
type Status struct {
	Code int32  // the library's own number
	Text string // its message, on one line
}

// Error is the library's message.
func (e *Status) Error() string { return e.Text }

// memoryHint is what a user can do about a failed allocation.
const memoryHint = "close other programs, give the job more memory, or have it take less: --profile lowmem"

// noMemory matches what the runtimes, and the libraries below them, say when an
// allocation fails. A plain "failed to allocate" is not enough: OpenVINO's code
// generators say so of registers.
var noMemory = regexp.MustCompile(`(?i)` +
	// C++ and the C library. "Resource temporarily unavailable" is what a
	// thread gets that finds no memory for its stack.
	`resource temporarily unavailable|bad_alloc|bad allocation|cannot allocate memory( \(|[^ ]|\s*$)|not enough memory|out[ _]of[ _]memory|outofmemory` +
	// ONNX Runtime: its arena, its CUDA provider
	`|failed to allocate memory|is smaller than requested bytes of|failed to find a free memory block` +
	`|failed to allocate (external initializer|pinned) buffer|cudaerrormemoryallocation|_status_alloc_failed` +
	// OpenVINO: its CPU and GPU plugins, code generator, OpenCL
	`|can't alloc($|[^a-z])|failed to allocate \d+ bytes of memory|memory allocation failed|buffer allocation failed|exceeded max size of memory` +
	`|cl_out_of_resources|cl_out_of_host_memory|cl_mem_object_allocation_failure|out of gpu resources` +
	`|\[cl ext\] can not allocate|\[gpu\] cl\w+, error code: -[456]\b`)

// OutOfMemory tells whether a library's message says that an allocation failed.
func OutOfMemory(text string) bool { return noMemory.MatchString(text) }

// Fault is fault.Wrap for what came out of a library: where an allocation failed
// the kind is fault.Memory, whatever the caller says.
func Fault(kind fault.Kind, op, subject string, err error, hint string) error {
	if st, ok := errors.AsType[*Status](err); ok && OutOfMemory(st.Text) {
		kind, hint = fault.Memory, memoryHint
	}
	return kind.Wrap(op+" "+subject, err, hint)
}
