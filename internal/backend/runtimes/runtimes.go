// Package runtimes opens the installed inference library. It is the only package that
// imports both backends.
package runtimes

import (
	"context"
	"os"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/fault"
)

// Auto makes Open choose the backend.
const Auto = "auto"

// openers lists the backends in the order in which Auto tries them: on a CPU, OpenVINO
// computes the large networks in two thirds of the time of ONNX Runtime.
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

// orNil prevents that a nil pointer becomes a non-nil interface.
func orNil[B backend.Backend](b B, err error) (backend.Backend, error) {
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Open finds, loads and checks the preferred backend: "openvino", "onnxruntime", or ""
// or Auto for the first that works. If the user has set wheels.DirVariable, a library
// in that folder must work: Open does not silently use another. The caller must close
// the backend.
func Open(ctx context.Context, prefer string) (backend.Backend, error) {
	auto := prefer == "" || prefer == Auto
	given := os.Getenv(wheels.DirVariable)
	known := false
	var broken, missing []error
	for _, o := range openers {
		if !auto && prefer != o.name {
			continue
		}
		known = true
		list, err := wheels.Candidates(ctx, o.name)
		if err != nil && ctx.Err() == nil {
			missing = append(missing, err)
			continue
		}
		b, err := openFirst(ctx, list, o.open)
		switch {
		case b != nil:
			return b, nil
		case ctx.Err() != nil:
			return nil, fault.Cancelled.Wrap("open backend "+o.name, ctx.Err())
		case given != "":
			return nil, &fault.Error{Kind: fault.KindOf(err), Op: "use " + wheels.DirVariable + " for " + o.name, Err: err, Hint: wheels.GivenHint}
		}
		broken = append(broken, err)
	}
	switch {
	case !known:
		return nil, fault.Field("backend", prefer, "is not known", "choose one of auto, openvino, onnxruntime")
	case len(broken) > 0: // more useful to the user than a missing one
		return nil, broken[0]
	case auto && given != "":
		return nil, fault.Missing.New("open a backend", "neither OpenVINO nor ONNX Runtime is in "+given+
			", the folder in "+wheels.DirVariable, wheels.GivenHint)
	case auto:
		return nil, fault.Missing.New("open a backend", "neither OpenVINO nor ONNX Runtime is installed",
			"run: lipstream runtime install openvino")
	}
	return nil, missing[0]
}

// openFirst opens the first library that works. If none does, it returns the error of
// the first one.
func openFirst(ctx context.Context, list []wheels.Library, open func(context.Context, string) (backend.Backend, error)) (backend.Backend, error) {
	var first error
	for _, l := range list {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b, err := open(ctx, l.Path)
		if err == nil {
			return b, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}
