// Package runtimes opens the inference library that is installed: the one
// place that knows both backends.
package runtimes

import (
	"context"
	"errors"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/fault"
)

// Auto lets Open choose.
const Auto = "auto"

// openers of the backends, in the order in which Auto tries them: OpenVINO
// computes the large networks in two thirds of the time on a CPU.
var openers = []struct {
	name string
	open func(ctx context.Context, path string) (backend.Backend, error)
}{
	{openvino.Name, func(ctx context.Context, path string) (backend.Backend, error) {
		return orNil(openvino.Open(ctx, path))
	}},
	{onnxruntime.Name, func(ctx context.Context, path string) (backend.Backend, error) {
		return orNil(onnxruntime.Open(ctx, path))
	}},
}

// orNil keeps a nil pointer from becoming an interface that is not nil.
func orNil[B backend.Backend](b B, err error) (backend.Backend, error) {
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Names lists the backends.
func Names() []string {
	var names []string
	for _, o := range openers {
		names = append(names, o.name)
	}
	return names
}

// Open finds, loads and checks the preferred backend: "openvino",
// "onnxruntime", or "" or Auto for the first that works. The caller closes it.
func Open(ctx context.Context, prefer string) (backend.Backend, error) {
	auto := prefer == "" || prefer == Auto
	known := false
	var broken, missing []error
	for _, o := range openers {
		if !auto && prefer != o.name {
			continue
		}
		known = true
		b, err := openOne(ctx, o.name, o.open)
		switch {
		case err == nil:
			return b, nil
		case ctx.Err() != nil:
			return nil, fault.Wrap(fault.Cancelled, "open backend", o.name, ctx.Err(), "")
		case errors.Is(err, errNotFound):
			missing = append(missing, err)
		default:
			broken = append(broken, err)
		}
	}
	switch {
	case !known:
		return nil, fault.New(fault.Usage, "use backend", prefer, "there is none of this name",
			"use one of: auto, openvino, onnxruntime")
	case len(broken) > 0: // one that is there but does not work says more than one that is not there
		return nil, broken[0]
	case auto:
		return nil, fault.New(fault.Missing, "open a backend", "", "neither OpenVINO nor ONNX Runtime is installed",
			"run: lipstream runtime install openvino")
	}
	return nil, missing[0]
}

// errNotFound marks the error for a backend that is not installed.
var errNotFound = errors.New("not installed")

// openOne tries the libraries of one backend in turn. The error is that of the
// first: the one the user put first.
func openOne(ctx context.Context, name string, open func(context.Context, string) (backend.Backend, error)) (backend.Backend, error) {
	list, err := wheels.Candidates(ctx, name)
	if err != nil {
		return nil, &fault.Error{Kind: fault.KindOf(err), Op: "open backend", Subject: name, Err: errNotFound, Hint: fault.HintOf(err)}
	}
	var first error
	for _, l := range list {
		b, err := open(ctx, l.Path)
		if err == nil {
			return b, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}
