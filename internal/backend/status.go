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

// Error returns the library's message.
func (e *Status) Error() string { return e.Text }

// memoryHint says what a user can do about a failed allocation.
const memoryHint = "close other programs, give the job more memory, or set `profile` to lowmem"

// noMemory matches the messages of the runtimes and the libraries below them when an
// allocation fails. A plain "failed to allocate" is not enough: OpenVINO's code
// generators use it for registers.
var noMemory = regexp.MustCompile(`(?i)` +
	// C++ and the C library. "Resource temporarily unavailable" means that there is
	// no memory for the stack of a new thread.
	`resource temporarily unavailable|bad_alloc|bad allocation|cannot allocate memory( \(|[^ ]|\s*$)|not enough memory|out[ _]of[ _]memory|outofmemory` +
	// ONNX Runtime: its arena, its CUDA provider
	`|failed to allocate memory|is smaller than requested bytes of|failed to find a free memory block` +
	`|failed to allocate (external initializer|pinned) buffer|cudaerrormemoryallocation|_status_\w*alloc\w*_failed` +
	// OpenVINO: its CPU and GPU plugins, code generator, OpenCL
	`|can't alloc($|[^a-z])|failed to allocate \d+ bytes of memory|memory allocation failed|buffer allocation failed|exceeded max size of memory` +
	`|cl_out_of_resources|cl_out_of_host_memory|cl_mem_object_allocation_failure|out of gpu resources` +
	`|\[cl ext\] can not allocate|\[gpu\] cl\w+, error code: -[456]\b`)

// lostHint says what a user can do when a GPU has failed.
const lostHint = "run the same command again: it resumes the job; if that does not help, update the driver, or set `device` to cpu"

// lost matches the messages after which CUDA fails until the process ends: addresses and
// instructions that are not valid, a kernel that was stopped, a card that has left the bus.
var lost = regexp.MustCompile(`(?i)` +
	`cuda failure (46|214|7(00|02|09|1[0-9]|2[0-9])|999)\b|illegal memory access|unspecified launch failure|misaligned address` +
	`|device-side assert|cudnn_status_execution_failed|cublas_status_execution_failed|gpu is lost|fallen off the bus|device (was )?lost`)

// DeviceLost reports whether a library's message says that the GPU cannot be used any
// more by this process.
func DeviceLost(text string) bool { return lost.MatchString(text) }

// OutOfMemory reports whether a library's message says that an allocation failed.
func OutOfMemory(text string) bool { return noMemory.MatchString(text) }

// Fault returns an error of the given kind around a library's error, or of kind
// fault.Memory if an allocation failed, or fault.Device if the GPU cannot be used any
// more.
func Fault(kind fault.Kind, op, subject string, err error, hint string) error {
	if st, ok := errors.AsType[*Status](err); ok {
		switch {
		case OutOfMemory(st.Text):
			kind, hint = fault.Memory, memoryHint
		case DeviceLost(st.Text):
			kind, hint = fault.Device, lostHint
		}
	}
	return kind.Wrap(op+" "+subject, err, hint)
}
