// Package runtimes opens the installed inference library, and chooses the device. It is
// the only package that imports both backends.
package runtimes

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/cuda"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/fault"
)

// Auto makes Open choose the backend.
const Auto = "auto"

// Choice says what to open. The zero value is the fastest device that works.
type Choice struct {
	Backend string // "openvino", "onnxruntime", or Auto or "" for any
	Device  string // such as "cuda:0", or "" for any
	// Plugins loads the plugins of ONNX Runtime also if none of their devices can be
	// chosen, to list these.
	Plugins bool
}

// plugins reports whether to load the plugins, which are large: to list their devices, to
// use one, or to name all devices in an error. Beside TensorRT-RTX, the networks on CUDA
// could not share an arena.
func (c Choice) plugins() bool {
	return c.Plugins || c.Device != "" && c.Device != "cpu" && !strings.HasPrefix(c.Device, cudaPrefix)
}

// Opened is a backend with the device to use. The caller must close the backend.
type Opened struct {
	backend.Backend
	Device backend.Device // it has computed a small network correctly
	// Skipped says why faster devices are not used.
	Skipped []error

	library wheels.Library
}

// Usable lists the devices of the backend after it has tried each of them: those that do
// not work have an error.
func (o *Opened) Usable(ctx context.Context) ([]backend.Device, error) {
	list, err := o.Devices()
	for i, d := range list {
		list[i] = o.Try(ctx, d)
	}
	return list, errors.Join(err, ctx.Err())
}

// Try returns a device of the backend as a job would use it. If it does not work, it has
// an error.
func (o *Opened) Try(ctx context.Context, d backend.Device) backend.Device {
	d, err := usable(ctx, o.Backend, d)
	if d.Err = err; err != nil {
		d.Err = incomplete(err, o.library)
	}
	return d
}

// Libraries returns the paths of the libraries that were loaded: the backend's, then
// those that it needs for a GPU.
func (o *Opened) Libraries() []string { return append([]string{o.library.Path}, o.library.Needed...) }

// opener opens one kind of library.
type opener struct {
	name string
	open func(ctx context.Context, l wheels.Library, c Choice) (backend.Backend, error)
}

var (
	openVINO = opener{openvino.Name, func(ctx context.Context, l wheels.Library, _ Choice) (backend.Backend, error) {
		native.UseCRT(l.CRT)
		return orNil(openvino.Open(ctx, l.Path))
	}}
	onnxRuntime = opener{onnxruntime.Name, func(ctx context.Context, l wheels.Library, c Choice) (backend.Backend, error) {
		native.UseCRT(l.CRT)
		b, err := onnxruntime.Open(ctx, l.Path, l.Needed...)
		if err != nil {
			return nil, err
		}
		if c.plugins() {
			for _, p := range wheels.Plugins() {
				b.Register(p.Runtime, p.Path, p.Needed...)
			}
		}
		return b, nil
	}}
)

// attempt is a step of the search: an opener, and whether only NVIDIA's GPUs will do.
type attempt struct {
	opener
	cuda bool
}

func (a attempt) accepts(device string) bool {
	if a.cuda {
		return strings.HasPrefix(device, cudaPrefix)
	}
	return a.name == onnxruntime.Name || pluginOf(device) == ""
}

// pluginOf returns the runtime of ONNX Runtime's plugin that has the device, or "".
func pluginOf(device string) string {
	kind, _, _ := strings.Cut(device, ":")
	if kind == wheels.WebGPU || kind == wheels.TensorRTRTX {
		return kind
	}
	return ""
}

// installed reports whether the named plugin is installed.
func installed(plugin string) bool {
	return slices.ContainsFunc(wheels.Plugins(), func(l wheels.Library) bool { return l.Runtime == plugin })
}

const cudaPrefix = "cuda:"

// attempts is the order of the search: an NVIDIA GPU, then OpenVINO, which on a CPU
// computes the large networks in two thirds of the time of ONNX Runtime.
var attempts = []attempt{
	{onnxRuntime, true},
	{openVINO, false},
	{onnxRuntime, false},
}

func isAuto(backend string) bool { return backend == "" || backend == Auto }

// orNil returns nil instead of an interface that holds a nil pointer.
func orNil[B backend.Backend](b B, err error) (backend.Backend, error) {
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Open finds and loads a backend and chooses a device, the fastest that computes a small
// network correctly. If the user has set wheels.DirVariable, a library in that folder
// must work: Open does not silently use another.
func Open(ctx context.Context, c Choice) (*Opened, error) {
	if !isAuto(c.Backend) && c.Backend != openvino.Name && c.Backend != onnxruntime.Name {
		return nil, fault.Field("backend", c.Backend, "is not known", "choose one of auto, openvino, onnxruntime")
	}
	s := search{choice: c, given: os.Getenv(wheels.DirVariable)}
	for _, a := range attempts {
		if !isAuto(c.Backend) && c.Backend != a.name || c.Device != "" && !a.accepts(c.Device) {
			continue
		}
		o, err := s.attempt(ctx, a)
		if o != nil || err != nil {
			return o, err
		}
	}
	return nil, s.failure()
}

// search is a search for a device.
type search struct {
	choice Choice
	given  string // the folder in wheels.DirVariable
	cuda   bool   // a library for NVIDIA's GPUs is installed
	// Why there is no device: devices that do not work, libraries that do not work,
	// and libraries that are not installed.
	skipped         []skipped
	broken, missing []error
	unknown         error // no backend has the device
}

// skipped is a device that did not work.
type skipped struct {
	id  string
	err error
}

// unused returns why devices were skipped, except for the one that is used after all, with
// another library.
func (s *search) unused(used string) []error {
	var list []error
	for _, d := range s.skipped {
		if d.id != used {
			list = append(list, d.err)
		}
	}
	return list
}

// attempt tries the libraries of one opener. It returns nil and no error to go on.
func (s *search) attempt(ctx context.Context, a attempt) (*Opened, error) {
	list, err := wheels.Candidates(ctx, a.name)
	if a.cuda && ctx.Err() == nil {
		list = slices.DeleteFunc(list, func(l wheels.Library) bool { return !l.CUDA() })
		if s.cuda = len(list) > 0; !s.cuda {
			return nil, nil // the last attempt says what is missing
		}
	} else if err != nil && ctx.Err() == nil {
		s.missing = append(s.missing, err)
		return nil, nil
	}
	var first error
	opened := false
	for _, l := range list {
		if ctx.Err() != nil {
			break
		}
		b, err := a.open(ctx, l, s.choice)
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		opened = true
		device, err := s.device(ctx, b, a, l)
		if err == nil && device.ID != "" {
			return &Opened{Backend: b, Device: device, Skipped: s.unused(device.ID), library: l}, nil
		}
		if err = errors.Join(err, b.Close()); err != nil {
			return nil, err
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil, fault.Cancelled.Wrap("open backend "+a.name, ctx.Err())
	case opened:
		return nil, nil
	case s.given != "" && first != nil:
		return nil, &fault.Error{Kind: fault.KindOf(first), Op: "use " + wheels.DirVariable + " for " + a.name, Err: first, Hint: wheels.GivenHint}
	}
	s.broken = append(s.broken, first)
	return nil, nil
}

// device returns the first device of b that is chosen, accepted and works, or none.
func (s *search) device(ctx context.Context, b backend.Backend, a attempt, l wheels.Library) (backend.Device, error) {
	list, err := b.Devices()
	if err != nil {
		return backend.Device{}, err
	}
	var ids []string
	for _, d := range list {
		ids = append(ids, d.ID)
		tried := s.cuda && !a.cuda && strings.HasPrefix(d.ID, cudaPrefix) // by the first attempt
		if tried || !a.accepts(d.ID) || s.choice.Device != "" && s.choice.Device != d.ID {
			continue
		}
		d, err := usable(ctx, b, d)
		if err == nil {
			return d, nil
		}
		if ctx.Err() != nil {
			return backend.Device{}, fault.Cancelled.Wrap("check device "+d.ID, ctx.Err())
		}
		s.skipped = append(s.skipped, skipped{d.ID, incomplete(err, l)})
	}
	s.unknown = fault.Field("device", s.choice.Device, "is not a device of "+b.Name(), "choose one of "+strings.Join(ids, ", "))
	return backend.Device{}, nil
}

// usable returns a device as a job would use it, or why it does not work. A CPU has passed
// its test already.
func usable(ctx context.Context, b backend.Backend, d backend.Device) (backend.Device, error) {
	if d.Err != nil || d.ID == "cpu" {
		return d, d.Err
	}
	err := backend.Check(ctx, b, d.ID)
	if err == nil && strings.HasPrefix(d.ID, cudaPrefix) {
		d.ChannelsLast, err = channelsLast(ctx, b, d.ID)
	}
	if err == nil && backend.HasHalf(ctx, b, d.ID) {
		d.Half = backend.F16
	}
	if err == nil || fault.HintOf(err) != "" {
		return d, err
	}
	return d, fault.Missing.Wrap("try device "+d.ID, err, "update its driver, or use device cpu; lipstream check --device "+d.ID+" says more")
}

// channelsLast reports whether a device that works also computes the operators of
// backend.CheckChannelsLast. It returns an error if the device has no memory left, or does
// not work any more.
func channelsLast(ctx context.Context, b backend.Backend, device string) (bool, error) {
	err := backend.CheckChannelsLast(ctx, b, device)
	if kind := fault.KindOf(err); ctx.Err() != nil || kind == fault.Device || kind == fault.Memory {
		return false, err
	}
	if err != nil {
		slog.Warn("the operators for channels last do not work on the device, so slower ones are used", "device", device, "error", err)
	}
	return err == nil, nil
}

// incomplete adds to the failure of a device which of its libraries were not found.
func incomplete(err error, l wheels.Library) error {
	if len(l.Missing) == 0 {
		return err
	}
	return fault.Missing.Wrap("use the GPU", errors.Join(errors.New(strings.Join(l.Missing, ", ")+" is not installed"), err),
		"run: lipstream runtime install "+l.Runtime)
}

// failure returns why the search has found nothing. A library or device that does not
// work is more useful to the user than one that is missing.
func (s *search) failure() error {
	wantsCUDA, plugin := strings.HasPrefix(s.choice.Device, cudaPrefix), pluginOf(s.choice.Device)
	switch {
	case wantsCUDA && !s.cuda && s.choice.Backend != openvino.Name:
		if _, err := cuda.Read(); err != nil {
			return fault.Missing.Wrap("use device "+s.choice.Device, err, "install NVIDIA's driver, then run: lipstream runtime install cuda")
		}
		return fault.Missing.New("use device "+s.choice.Device, "ONNX Runtime for NVIDIA GPUs is not installed", "run: lipstream runtime install cuda")
	case plugin != "" && s.choice.Backend == openvino.Name:
		return fault.Field("device", s.choice.Device, "is not a device of OpenVINO", "set `backend` to onnxruntime")
	case plugin != "" && !installed(plugin):
		return fault.Missing.New("use device "+s.choice.Device, "its runtime is not installed", "run: lipstream runtime install "+plugin)
	case len(s.skipped) > 0:
		return s.skipped[0].err
	case len(s.broken) > 0:
		return s.broken[0]
	case s.unknown != nil && s.choice.Device != "":
		return s.unknown
	case isAuto(s.choice.Backend) && s.given != "":
		return fault.Missing.New("open a backend", "neither OpenVINO nor ONNX Runtime is in "+s.given+
			", the folder in "+wheels.DirVariable, wheels.GivenHint)
	case isAuto(s.choice.Backend):
		return fault.Missing.New("open a backend", "neither OpenVINO nor ONNX Runtime is installed",
			"run: lipstream runtime install "+wheels.Default())
	}
	return s.missing[0]
}
