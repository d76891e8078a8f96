// Package sharedtest opens backends that all tests of a package share, and chooses the
// device of golden tests. The backends compile each network once.
package sharedtest

import (
	"context"
	"os"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/backend/runtimes"
	"github.com/lipstream/lipstream/internal/golden"
)

// DeviceVariable is the environment variable with the device on which golden tests run,
// such as cuda:0. Without it they run on the CPU, with each backend.
const DeviceVariable = "LIPSTREAM_TEST_DEVICE"

// opened is an open backend with the device of its tests.
type opened struct {
	*backendtest.Cached
	device backend.Device
}

// backends are the open backends, by what was chosen.
var backends = map[runtimes.Choice]opened{}

func open(t testing.TB, c runtimes.Choice) opened {
	t.Helper()
	if b, ok := backends[c]; ok {
		return b
	}
	if c.Backend != "" {
		backendtest.Library(t, c.Backend)
	}
	b, err := runtimes.Open(context.WithoutCancel(t.Context()), c)
	if err != nil {
		t.Fatal(err) // it is installed or was named, so this must not be skipped
	}
	backends[c] = opened{backendtest.NewCached(b.Backend), b.Device}
	return backends[c]
}

// Open returns the named backend, on its CPU. Its tests must call Main, and must not run in
// parallel. If its library is not installed, the test is skipped, or fails as in
// backendtest.Library.
func Open(t testing.TB, name string) *backendtest.Cached {
	t.Helper()
	return open(t, runtimes.Choice{Backend: name, Device: "cpu"}).Cached
}

// Target is the device and the precision of a golden test.
type Target struct {
	*backendtest.Cached
	Device    backend.Device
	Precision backend.Precision // F32 or F16
}

// OnDevice reports whether the user has chosen the device of golden tests, which is
// not the CPU.
func OnDevice() bool {
	d := os.Getenv(DeviceVariable)
	return d != "" && d != "cpu"
}

// OnEach runs a golden test on the CPU with each backend in f32, or on the device in
// LIPSTREAM_TEST_DEVICE, in f32 and in f16. A short run skips it.
func OnEach(t *testing.T, test func(t *testing.T, on Target)) {
	run := func(name string, c runtimes.Choice, p backend.Precision) {
		t.Run(name, func(t *testing.T) {
			backendtest.SkipShort(t)
			b := open(t, c)
			if p == backend.F16 && b.device.Half != p {
				t.Skip(b.device.ID + " does not compute in f16")
			}
			test(t, Target{b.Cached, b.device, p})
		})
	}
	if !OnDevice() {
		for _, name := range []string{openvino.Name, onnxruntime.Name} {
			run(name, runtimes.Choice{Backend: name, Device: "cpu"}, backend.F32)
		}
		return
	}
	device := os.Getenv(DeviceVariable)
	for _, p := range []backend.Precision{backend.F32, backend.F16} {
		run(device+" "+string(p), runtimes.Choice{Device: device}, p)
	}
}

// Options are those of a session. It has one thread, because more are slower at the sizes
// of golden tests.
func (on Target) Options() backend.Options {
	return backend.Options{Device: on.Device.ID, Precision: on.Precision, Threads: 1}
}

// minRatio is the least PSNR in f16, in dB.
const minRatio = 40

// Check compares values with those of the original: the largest difference with a limit in
// f32, the PSNR with 40 dB in f16.
func (on Target) Check(t testing.TB, module, name string, got, want []float32, limit float64) {
	t.Helper()
	m := golden.Measurement{Module: module, Case: name, Backend: on.String(), Precision: string(on.Precision),
		Measure: "max abs", Value: golden.MaxAbs(got, want), Limit: limit}
	if on.Precision == backend.F16 {
		m.Measure, m.Value, m.Limit = golden.PSNR, golden.Ratio(got, want), minRatio
	}
	golden.Check(t, m)
}

// String returns the name of the backend, or that of a device which is not the CPU.
func (on Target) String() string {
	if on.Device.ID != "cpu" {
		return on.Device.ID
	}
	return on.Name()
}

// Main runs the tests of a package and then closes the backends. It panics if something of
// them is still in use. It is what TestMain calls.
func Main(m *testing.M) {
	code := m.Run()
	for _, b := range backends {
		if err := b.Close(); err != nil {
			panic(err)
		}
	}
	os.Exit(code)
}
