// Package queue keeps jobs and hands their tasks to workers. It is NATS
// JetStream, embedded in this process or a cluster elsewhere.
//
// A task is a message in a stream of work; the record of its job, in a
// key-value bucket, says what counts. A task is handed out again when its
// worker is silent for a lease's time, so it may be done twice; its record is
// changed with compare-and-swap, so only one of them counts.
package queue

import (
	"log/slog"
	"time"
)

// Options of a Queue.
type Options struct {
	// URL of NATS servers with JetStream; empty: one in this process, whose
	// files are in Dir.
	URL string
	Dir string
	// Listen is the address on which the embedded server lets workers in;
	// empty: only this process uses it. Token is what they have to show.
	Listen string
	Token  string
	// Version of Lipstream. All who work together must have the same.
	Version string
	// Lease is how long a worker may be silent before its tasks are given to
	// another; default 30 s, at least 1 s.
	Lease time.Duration
	// Attempts is how often a task is tried before the job is given up; default 3.
	Attempts int
	Log      *slog.Logger // default: none
}
