package check

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/backend/runtimes"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/tensor"
)

var update = flag.Bool("update", false, "write results.json")

// TestResults computes the cases on the CPU of one runtime. With -update they become the
// stored results.
func TestResults(t *testing.T) {
	b := open(t, onnxruntime.Name)
	list, err := tests(weights(t), network.For(b.Name(), backend.Device{ID: "cpu"}, tensor.F32))
	if err != nil {
		t.Fatal(err)
	}
	known, err := results()
	if err != nil {
		t.Fatal(err)
	}
	fresh := map[string]stored{}
	for _, c := range list {
		got, _, err := c.compute(t.Context(), b, backend.Options{Device: "cpu", Precision: backend.F32}, func() {})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		s := sample(got[0])
		fresh[c.name] = stored{len(got[0]), tensor.FromF32(s, len(s)).Data}
		if *update {
			continue
		}
		if d, _, err := known[c.name].compare(got[0]); err != nil || d > c.limit {
			t.Errorf("%s: difference %g, %v; if the case has changed, run with -update", c.name, d, err)
		}
		if low, high := slices.Min(s), slices.Max(s); high-low < 0.5 || high-low > 50 {
			t.Errorf("%s: the results lie between %g and %g, for which the limits are not made", c.name, low, high)
		}
	}
	if *update {
		data, err := json.MarshalIndent(fresh, "", "  ")
		if err == nil {
			err = os.WriteFile("results.json", append(data, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	} else if len(known) != len(fresh) {
		t.Errorf("%d stored results for %d cases: run with -update", len(known), len(fresh))
	}
}

// TestF16 computes the cases in f16 as a GPU does: ONNX Runtime's CPU can, although it is
// slow.
func TestF16(t *testing.T) {
	b := open(t, onnxruntime.Name)
	list, err := tests(weights(t), network.For(b.Name(), backend.Device{ID: "cpu"}, tensor.F16))
	if err != nil {
		t.Fatal(err)
	}
	known, err := results()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		got, _, err := c.compute(t.Context(), b, backend.Options{Device: "cpu"}, func() {})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		_, psnr, err := known[c.name].compare(got[1])
		t.Logf("%s: %.1f dB", c.name, psnr)
		if limit := c.limitIn(backend.F16); err != nil || psnr < limit+10 {
			t.Errorf("%s: %g dB is too near to the limit of %g, %v", c.name, psnr, limit, err)
		}
	}
}

// open opens a runtime for the CPU.
func open(t *testing.T, name string) *runtimes.Opened {
	t.Helper()
	backendtest.SkipShort(t)
	backendtest.Library(t, name)
	b, err := runtimes.Open(t.Context(), runtimes.Choice{Backend: name, Device: "cpu"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func weights(t *testing.T) *checkpoint.File {
	t.Helper()
	f, remove, err := openWeights()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		remove()
	})
	return f
}

// TestRun checks the CPU with both runtimes.
func TestRun(t *testing.T) {
	backendtest.SkipShort(t)
	for _, name := range []string{openvino.Name, onnxruntime.Name} {
		backendtest.Library(t, name)
	}
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	var seen recorder
	report, err := Run(t.Context(), nil, Options{Device: "cpu", Observer: &seen})
	if err = errors.Join(err, report.Err()); err != nil {
		t.Fatal(err)
	}
	if len(report.Runtimes) != 2 {
		t.Fatalf("%d runtimes", len(report.Runtimes))
	}
	cases := 0
	for _, rt := range report.Runtimes {
		if rt.Version == "" || len(rt.Libraries) == 0 || len(rt.Devices) != 1 {
			t.Fatalf("%+v", rt)
		}
		d := rt.Devices[0]
		if d.ID != "cpu" || d.Memory.Card != nil || d.Memory.Host.Before <= 0 || d.Memory.Host.Peak < d.Memory.Host.Before || d.Memory.Host.Peak < d.Memory.Host.After {
			t.Errorf("%s: %+v", rt.Name, d)
		}
		if want := map[string]string{openvino.Name: "openvino", onnxruntime.Name: "microsoft"}[rt.Name]; d.Dialect != want {
			t.Errorf("%s: dialect %q instead of %q", rt.Name, d.Dialect, want)
		}
		if (d.Half == "") != (d.NoHalf != "") {
			t.Errorf("half %q, or %q", d.Half, d.NoHalf)
		}
		for _, c := range d.Cases {
			if want := map[bool]int{true: 1, false: 2}[d.Half == ""]; len(c.Results) != want {
				t.Errorf("%s: %d precisions", c.Name, len(c.Results))
			}
			for _, r := range c.Results {
				t.Logf("%s %s %s: %.2g, %.1f dB, %.2g ms", rt.Name, c.Name, r.Precision, r.Difference, r.PSNR, 1e3*r.Seconds)
				// The clock of Windows does not see the quickest.
				if r.Seconds < 0 || r.Seconds == 0 && runtime.GOOS != "windows" || r.PSNR <= 0 {
					t.Errorf("%s: %+v", c.Name, r)
				}
			}
			cases++
		}
	}
	if seen.runtimes != 2 || seen.devices != 2 || seen.memory != 2 || seen.cases != cases || cases < 30 {
		t.Errorf("the observer has seen %+v of %d cases", seen, cases)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary folder: %v, %v", left, err)
	}
	if _, err := json.Marshal(report); err != nil {
		t.Error(err)
	}
}

// TestInterrupted ends a check after its first case.
func TestInterrupted(t *testing.T) {
	backendtest.SkipShort(t)
	backendtest.Library(t, onnxruntime.Name)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	ctx, cancel := context.WithCancel(t.Context())
	report, err := Run(ctx, nil, Options{Backend: onnxruntime.Name, Observer: &canceller{cancel: cancel}})
	if fault.KindOf(err) != fault.Cancelled || !report.Interrupted {
		t.Errorf("interrupted %v: %v", report.Interrupted, err)
	}
	if got := report.Runtimes[0].Devices[0].Cases; len(got) != 1 || got[0].Results[0].Status != OK {
		t.Errorf("the report has %+v", got)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary folder: %v, %v", left, err)
	}
}

type canceller struct {
	recorder
	cancel func()
}

func (c *canceller) Case(Case) { c.cancel() }

// TestNothingToCheck names a runtime, a device and a folder that do not exist.
func TestNothingToCheck(t *testing.T) {
	if _, err := Run(t.Context(), nil, Options{Backend: "abacus"}); fault.KindOf(err) != fault.Usage {
		t.Errorf("unknown runtime: %v", err)
	}
	t.Setenv(wheels.DirVariable, t.TempDir())
	report, err := Run(t.Context(), nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Runtimes) != 2 || report.Runtimes[1].Error == "" || report.Runtimes[1].Hint == "" {
		t.Errorf("%+v", report)
	}
	if err := report.Err(); fault.KindOf(err) != fault.Missing || fault.HintOf(err) != wheels.GivenHint {
		t.Errorf("without a runtime: %v, hint %q", err, fault.HintOf(err))
	}
}

func TestUnknownDevice(t *testing.T) {
	backendtest.SkipShort(t)
	backendtest.Library(t, onnxruntime.Name)
	for device, kind := range map[string]fault.Kind{"abacus": fault.Usage, "cuda:99": fault.Missing} {
		report, err := Run(t.Context(), nil, Options{Backend: onnxruntime.Name, Device: device})
		if fault.KindOf(err) != kind || fault.HintOf(err) == "" || len(report.Runtimes) != 1 {
			t.Errorf("%s: %v, hint %q", device, err, fault.HintOf(err))
		}
	}
}

// TestBrokenDevice reports a device that cannot be used, and the error if it is the only
// one.
func TestBrokenDevice(t *testing.T) {
	w := &work{parts: make(chan any, 2)}
	broken := fault.Missing.New("use the GPU", "cuDNN is not installed", "run: lipstream runtime install cuda")
	w.check(t.Context(), nil, backend.Device{ID: "cuda:0", Name: "a card", Err: broken}, nil)
	d := (<-w.parts).(Device)
	if d.Error != broken.Error() || d.Hint != broken.Hint || d.Half != "" || d.NoHalf != "" || len(w.parts) > 0 {
		t.Errorf("%+v", d)
	}
	report := Report{Runtimes: []Runtime{{Name: "openvino", Problem: Problem{Error: "not installed"}}, {Devices: []Device{d}}}}
	if err := report.Err(); fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), "cuDNN") || fault.HintOf(err) != broken.Hint {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
	// Another device is enough.
	report.Runtimes[0].Devices = []Device{{Cases: []Case{{Results: []Result{{Status: OK}, {Status: Skipped}}}}}}
	if err := report.Err(); err != nil {
		t.Error(err)
	}
}

// TestMemoryOfACard reads the memory of a card before, at most and after, from files as
// the kernel has them.
func TestMemoryOfACard(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /sys")
	}
	root := t.TempDir()
	card := filepath.Join(root, "sys/class/drm/card0")
	left := func(n string) {
		for name, text := range map[string]string{"device/vendor": "0x8086", "lmem_total_bytes": "1000", "lmem_avail_bytes": n} {
			path := filepath.Join(card, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text+"\n"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	left("900")
	w := &work{meter: memory.NewMeter(memory.Probe{}), gpus: memory.Probe{Root: root}.OpenGPUs()}
	m := w.watch(backend.Device{ID: "gpu:0"})
	left("200")
	m.read()
	left("850")
	got := m.done()
	if got.Card == nil || *got.Card != (Span{Before: 100, Peak: 800, After: 150}) {
		t.Errorf("card: %+v", got.Card)
	}
	if h := got.Host; h.Before <= 0 || h.After <= 0 || h.Peak < h.Before || h.Peak < h.After {
		t.Errorf("host: %+v", h)
	}
	if other := w.watch(backend.Device{ID: "cuda:0"}); other.m.Card != nil {
		t.Errorf("another card: %+v", other.m.Card)
	}
}

// TestCompare compares results by hand.
func TestCompare(t *testing.T) {
	s := stored{2, tensor.FromF32([]float32{1, 3}, 2).Data}
	for _, c := range []struct {
		got              []float32
		difference, psnr float64
		ok               bool
	}{
		{[]float32{1, 3}, 0, bestPSNR, true},
		{[]float32{1.25, 3.25}, 0.25, 18.06, true}, // 20·log10(2/0.25)
		{[]float32{1, 3, 5}, 0, 0, false},
		{[]float32{1, float32(math.Inf(1))}, 0, 0, false},
	} {
		d, psnr, err := s.compare(c.got)
		if d != c.difference || math.Abs(psnr-c.psnr) > 0.01 || (err == nil) != c.ok {
			t.Errorf("%v: %g, %g dB, %v", c.got, d, psnr, err)
		}
	}
	long := make([]float32, 1000)
	for i := range long {
		long[i] = float32(i)
	}
	for i, v := range sample(long) {
		if from, to := i*1000/samples, (i+1)*1000/samples; int(v) < from || int(v) >= to {
			t.Fatalf("sample %d is number %v, not one from %d to %d", i, v, from, to)
		}
	}
}

// TestRandom holds the weights to what they were when the results were stored. They must
// not depend on the platform.
func TestRandom(t *testing.T) {
	h := sha256.New()
	for _, w := range slices.Concat(network.OperatorWants(), network.WhisperWants(tinyWhisper)) {
		h.Write(tensor.FromF32(randomWeight(w), w.Shape...).Data)
	}
	const want = "629384a4b546d7318940185971795e877c8489defe6c4bcd9ff938e90faf999d"
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("the weights have the hash %s instead of %s", got, want)
	}
}

type recorder struct{ runtimes, devices, cases, memory int }

func (r *recorder) Runtime(Runtime) { r.runtimes++ }
func (r *recorder) Device(Device)   { r.devices++ }
func (r *recorder) Case(Case)       { r.cases++ }
func (r *recorder) Memory(Memory)   { r.memory++ }

// wrong is a backend that computes wrong numbers, or fails.
type wrong struct {
	backend.Backend
	spoil func(v []float32)
	err   error // of every computation
}

func (w wrong) Load(ctx context.Context, m backend.Model, o backend.Options) (backend.Session, error) {
	s, err := w.Backend.Load(ctx, m, o)
	return wrongSession{s, w}, err
}

type wrongSession struct {
	backend.Session
	w wrong
}

func (s wrongSession) Run(ctx context.Context, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	if s.w.err != nil {
		return nil, s.w.err
	}
	out, err := s.Session.Run(ctx, in)
	for _, v := range out {
		s.w.spoil(v.F32())
	}
	return out, err
}

func (s wrongSession) RunValues(ctx context.Context, in map[string]backend.Value, _ func(string) bool) (map[string]backend.Value, error) {
	return backend.RunInHost(ctx, s, in)
}

// TestWrongDevice computes on devices that do not work.
func TestWrongDevice(t *testing.T) {
	b, w := open(t, onnxruntime.Name), weights(t)
	for _, c := range []struct {
		name   string
		b      wrong
		failed string // the error of the first case
		rest   Status // of the others
	}{
		{"a number is off", wrong{spoil: func(v []float32) {
			for i := range v {
				v[i] += 0.01
			}
		}}, "the largest difference is 0.01, and the limit is 0.0001", Failed},
		{"not a number", wrong{spoil: func(v []float32) { v[0] = float32(math.NaN()) }}, "number 1 of 32768 of the result is NaN", Failed},
		{"failing", wrong{err: fault.Internal.New("run model", "the kernel has failed")}, "run model: the kernel has failed", Failed},
		{"lost", wrong{err: fault.Device.New("run model", "an illegal memory access")}, "run model: an illegal memory access", Skipped},
		{"without the precision", wrong{err: fault.Field("precision", "f32", "is not supported")}, "", Skipped},
	} {
		c.b.Backend = b.Backend
		got := checked(t, w, c.b)
		first := got.Cases[0].Results[0]
		switch {
		case c.failed == "" && first.Status != Skipped, c.failed != "" && first.Status != Failed, !strings.Contains(first.Error, c.failed):
			t.Errorf("%s: %+v", c.name, first)
		}
		for _, other := range got.Cases[1:] {
			if other.Results[0].Status != c.rest || other.Results[0].Error == "" {
				t.Errorf("%s, %s: %+v", c.name, other.Name, other.Results[0])
			}
		}
		err := Report{Runtimes: []Runtime{{Name: "stub", Devices: []Device{got}}}}.Err()
		switch {
		case c.failed == "" && fault.KindOf(err) != fault.Missing:
			t.Errorf("%s: %v", c.name, err)
		case c.failed != "" && (fault.KindOf(err) != fault.Device || !strings.Contains(err.Error(), c.failed) || !strings.Contains(fault.HintOf(err), "report")):
			t.Errorf("%s: kind %v, hint %q of: %v", c.name, fault.KindOf(err), fault.HintOf(err), err)
		}
	}
}

// checked returns what a backend's CPU computes.
func checked(t *testing.T, weights *checkpoint.File, b backend.Backend) Device {
	t.Helper()
	list, err := tests(weights, network.For(b.Name(), backend.Device{ID: "cpu"}, tensor.F32))
	if err != nil {
		t.Fatal(err)
	}
	d := Device{ID: "cpu"}
	compute(t.Context(), b, d.ID, []backend.Precision{backend.F32}, [][]test{list[:3]}, func() {}, func(c Case) { d.Cases = append(d.Cases, c) })
	return d
}
