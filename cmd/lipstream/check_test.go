package main

import (
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/check"
)

// TestCheckTable prints a machine on which hardly anything works.
func TestCheckTable(t *testing.T) {
	var out strings.Builder
	table := &checkTable{out: &out, facts: []check.Fact{{Name: "lipstream", Detail: "v1.2.3"}, {Name: "cpu", Detail: "fast\x1b[31m, 2 cores"}}}
	table.Runtime(check.Runtime{Name: "openvino", Problem: check.Problem{Error: "it is not installed", Hint: "run: lipstream runtime install openvino"}})
	table.Runtime(check.Runtime{Name: "onnxruntime", Version: "1.31.1", Libraries: []string{"/lib/libonnxruntime.so", "/lib/libcudnn.so.9"}})
	table.Device(check.Device{ID: "cuda:0", Name: "a card", Dialect: "cuda", Half: backend.F16})
	table.Case(check.Case{Name: "convolution 3x3", Results: []check.Result{
		{Precision: backend.F32, Status: check.OK, Difference: 1.2e-6, PSNR: 140, Seconds: 0.0012},
		{Precision: backend.F16, Status: check.Failed, Problem: check.Problem{Error: "the PSNR is 12.3 dB, and the limit is 40"}, Difference: 0.3, PSNR: 12.3, Seconds: 0.0006},
	}})
	table.Case(check.Case{Name: "GEGLU", Results: []check.Result{
		{Precision: backend.F32, Status: check.OK, PSNR: 200, Seconds: 1},
		{Precision: backend.F16, Status: check.Skipped, Problem: check.Problem{Error: "not supported", Hint: "set `precision` to f32"}},
	}})
	table.Memory(check.Memory{Host: check.Span{Before: 1 << 20, Peak: 3 << 20, After: 2 << 20}, Card: &check.Span{Before: 1 << 30, Peak: 3 << 30, After: 2 << 30}})
	table.Device(check.Device{ID: "cuda:1", Name: "an old card", Problem: check.Problem{Error: "its compute capability is below 7.5", Hint: "use device cpu"}})
	table.Device(check.Device{ID: "cpu", Name: "CPU", Dialect: "openvino", NoHalf: "there is none"})
	const want = `lipstream  v1.2.3
cpu        fast, 2 cores

openvino
  it is not installed
  -> run: lipstream runtime install openvino

onnxruntime 1.31.1
  /lib/libonnxruntime.so
  /lib/libcudnn.so.9

cuda:0: a card
  operators: cuda
                                      f32: difference, time         f16: PSNR, time
  convolution 3x3                     ok       1.2e-06      1.2 ms  failed   12.3 dB      0.6 ms
    f16: the PSNR is 12.3 dB, and the limit is 40
  GEGLU                               ok             0   1000.0 ms  skipped
    f16: not supported
    -> set --precision to f32
  memory of the process: 1.0 MiB before, 3.0 MiB at most, 2.0 MiB after
  memory of the card: 1.0 GiB before, 3.0 GiB at most, 2.0 GiB after

cuda:1: an old card
  its compute capability is below 7.5
  -> use device cpu

cpu: CPU
  operators: openvino
  half precision is skipped: there is none
                                      f32: difference, time
`
	if got := out.String(); got != want || table.err != nil {
		t.Errorf("error %v, got\n%s\ninstead of\n%s", table.err, got, want)
	}
}
