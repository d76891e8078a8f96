package onnxruntime

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// provider is an execution provider in a library of its own, a plugin.
type provider struct {
	name  string // the library's own
	title string // for the user
	hint  string // what to do if it finds no GPU
	// single is true for a provider that chooses the GPU itself, whichever of its
	// devices a session is given.
	single bool
	// turn is held during each call if all sessions share one context that is not safe
	// for concurrent use.
	turn turn
}

// turn lets one caller in at a time. A nil turn lets all in.
type turn chan struct{}

func (t turn) take(ctx context.Context) error {
	if t == nil {
		return nil
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) give() {
	if t != nil {
		<-t
	}
}

// turnOf returns the turn of a device.
func turnOf(device string) turn {
	plugin, _, _ := strings.Cut(device, ":")
	return providers[plugin].turn
}

// providers are the plugins, by the names of their runtimes.
var providers = map[string]provider{
	wheels.WebGPU: {
		name: "WebGpuExecutionProvider", title: "WebGPU", single: true, turn: make(turn, 1),
		hint: "install the GPU's driver and, on Linux, the Vulkan loader (Debian and Ubuntu: apt-get install libvulkan1), or use device cpu",
	},
	wheels.TensorRTRTX: {
		name: "NvTensorRTRTXExecutionProvider", title: "TensorRT-RTX",
		hint: "install NVIDIA's driver, from 580; the card must be an RTX of Ampere or later; or use device cpu",
	},
}

// makers are the makers of GPUs by their PCI numbers.
var makers = map[uint32]string{0x1002: "AMD", 0x10de: "NVIDIA", 0x8086: "Intel", 0x106b: "Apple", 0x5143: "Qualcomm", 0x13b5: "ARM"}

// pluginDevice is a device of a plugin.
type pluginDevice struct {
	backend.Device
	handle handle // OrtEpDevice, which belongs to the environment; 0 if Err is set
}

// registered are the plugins in each environment of this process. An environment with a
// plugin is never released: that would unload the plugin, whose threads may still run.
// ONNX Runtime has one environment, which all Backends of the same library share.
var registered = struct {
	sync.Mutex
	in map[handle]map[string]bool
}{in: map[handle]map[string]bool{}}

// Register adds the devices of a plugin, an execution provider in a library of its own:
// "webgpu:0" for the plugin webgpu. The libraries that it needs are loaded before. A
// plugin that cannot be loaded or finds no GPU has one device with the error. Register
// must not be called while other methods run.
func (b *Backend) Register(plugin, path string, needed ...string) {
	p := providers[plugin]
	list, err := b.register(plugin, path, needed)
	if err == nil && len(list) == 0 {
		err = fault.Missing.New("use device "+plugin+":0", p.title+" finds no GPU", p.hint)
	}
	if err != nil {
		b.plugins = append(b.plugins, pluginDevice{Device: backend.Device{ID: plugin + ":0", Name: p.title, Err: err}})
		return
	}
	name := p.title
	if len(list) == 1 {
		if maker := makers[b.api.hardwareVendor(b.api.epHardware(list[0]))]; maker != "" {
			name = maker + " GPU, with " + name
		}
	}
	if p.single {
		list = list[:1]
	}
	for i, h := range list {
		b.plugins = append(b.plugins, pluginDevice{handle: h, Device: backend.Device{
			ID: plugin + ":" + strconv.Itoa(i), Name: name, Resident: true,
		}})
	}
}

// register loads a plugin and returns its devices.
func (b *Backend) register(plugin, path string, needed []string) ([]handle, error) {
	p, ok := providers[plugin]
	if !ok {
		return nil, fault.Internal.New("load the plugin "+path, "its kind is not known: "+plugin)
	}
	a, install := b.api, "run: lipstream runtime install "+plugin
	for _, n := range append(needed[:len(needed):len(needed)], path) {
		if _, err := native.Open(n, install); err != nil {
			_, missing := errors.AsType[*native.MissingError](err)
			missing = missing || strings.Contains(err.Error(), "cannot open shared object file")
			if missing && fault.HintOf(err) == install { // a library of a driver
				err = fault.Missing.Wrap("use device "+plugin+":0", err, p.hint)
			}
			return nil, err
		}
	}
	chars, err := native.PathChars(path)
	if err != nil {
		return nil, err
	}
	registered.Lock()
	defer registered.Unlock()
	if !registered.in[b.env][plugin] {
		if err := a.check(a.registerLibrary(b.env, plugin+"\x00", chars)); err != nil {
			return nil, fault.Missing.Wrap("load the plugin "+path, err, install)
		}
		var kept handle // the same environment, which this keeps
		if err := a.check(a.createEnv(logCallback(), 0, logWarning, "lipstream\x00", &kept)); err != nil {
			return nil, err
		}
		if registered.in[b.env] == nil {
			registered.in[b.env] = map[string]bool{}
		}
		registered.in[b.env][plugin] = true
	}
	var devices *handle
	var n uintptr
	if err := a.check(a.epDevices(b.env, &devices, &n)); err != nil {
		return nil, err
	}
	var list []handle
	for _, d := range unsafe.Slice(devices, n) {
		if a.epName(d) == p.name {
			list = append(list, d)
		}
	}
	return list, nil
}

// pluginArena returns the allocator of a plugin's device that all sessions share. Its
// tensors can outlive the session that has computed them. It belongs to the environment.
func (b *Backend) pluginArena(on target) *arena {
	l := &arena{a: b.api, foreign: true, users: 1, drop: func() {}}
	if info := b.api.epMemoryInfo(on.plugin, memTypeDefault); info == 0 || b.api.check(b.api.sharedAllocator(b.env, info, &l.allocator)) != nil {
		l.allocator = 0
	}
	return l
}

// explain returns an error of a session on the named device for the user.
func explain(device string, err error) error {
	plugin, _, _ := strings.Cut(device, ":")
	status, ok := errors.AsType[*backend.Status](err)
	if p, known := providers[plugin]; ok && known {
		switch {
		case strings.Contains(status.Text, "Failed to get a WebGPU adapter"):
			return fault.Missing.New("use device "+device, "its driver offers no GPU that "+p.title+" can use", p.hint)
		case strings.Contains(status.Text, "requires f16 but the device does not support it"):
			return fault.Field("precision", string(backend.F16), "is not supported by device "+device, "set `precision` to f32")
		}
	}
	return err
}

// upload copies a tensor to a plugin's device.
func (b *Backend) upload(ctx context.Context, on target, t *tensor.Tensor) (backend.Value, error) {
	fail := func(err error) (backend.Value, error) {
		return nil, backend.Fault(fault.Internal, "copy a tensor to", on.id, err, "")
	}
	s := &session{Session: native.NewSession("copy"), b: b, device: on.id, arena: b.pluginArena(on)}
	if s.arena.allocator == 0 {
		return fail(errors.New("the plugin has no allocator"))
	}
	turn := turnOf(on.id)
	if err := turn.take(ctx); err != nil {
		return fail(err)
	}
	p := backend.Port{Name: "copy", DType: t.DType, Shape: t.Shape}
	var to handle
	err := s.allocate(p, &to)
	turn.give()
	if err != nil {
		return fail(err)
	}
	v, err := s.newValue(to, p)
	if err != nil {
		b.api.releaseValue(to)
		return fail(err)
	}
	if err := v.transfer(ctx, t, true); err != nil {
		_ = v.Close()
		return fail(err)
	}
	return v, nil
}

// download copies a tensor from a plugin's device.
func (v *value) download(ctx context.Context) (*tensor.Tensor, error) {
	t := tensor.New(v.dtype, v.shape...)
	if err := v.transfer(ctx, t, false); err != nil {
		return nil, backend.Fault(fault.Internal, "copy a tensor from", v.device, err, "")
	}
	return t, nil
}

// transfer copies t to a tensor on a plugin's device with up, else from it.
func (v *value) transfer(ctx context.Context, t *tensor.Tensor, up bool) error {
	turn := turnOf(v.device)
	if err := turn.take(ctx); err != nil {
		return err
	}
	defer turn.give()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.handle == 0 {
		return errors.New("it is closed")
	}
	if err := ctx.Err(); err != nil || len(t.Data) == 0 {
		return err
	}
	a := v.b.api
	s := session{b: v.b}
	var host handle
	if err := s.wrap(t, &host); err != nil {
		return err
	}
	defer a.releaseValue(host)
	from, to := v.handle, host
	if up {
		from, to = to, from
	}
	err := a.check(a.copyTensors(v.b.env, &from, &to, 0, 1))
	runtime.KeepAlive(t)
	return err
}
