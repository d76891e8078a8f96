package check

import (
	"context"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/memory"
)

// card computes on the CPU what ONNX Runtime has for CUDA.
type card struct{ backendtest.Lowered }

func (c card) Load(ctx context.Context, m backend.Model, o backend.Options) (backend.Session, error) {
	o.Device, o.Precision = "cpu", backend.Auto
	return c.Lowered.Load(ctx, m, o)
}

// TestChannelsLast checks a card that computes with the channels last. Its results are the
// stored ones.
func TestChannelsLast(t *testing.T) {
	b := card{backendtest.Lowered{Backend: open(t, onnxruntime.Name).Backend}}
	w := &work{weights: weights(t), parts: make(chan any, 100), meter: memory.NewMeter(memory.Probe{}), gpus: memory.Probe{}.OpenGPUs()}
	d := backend.Device{ID: "cuda:0", Half: backend.F16, Resident: true, ChannelsLast: true}
	w.check(t.Context(), b, d, w.watch(d))
	close(w.parts)
	if got := (<-w.parts).(Device); got.Dialect != "cuda" || got.Half != backend.F16 || got.Error != "" {
		t.Errorf("%+v", got)
	}
	cases := 0
	for part := range w.parts {
		c, ok := part.(Case)
		if !ok {
			continue
		}
		cases++
		for _, r := range c.Results {
			if r.Status != OK || r.Precision == backend.F16 && r.PSNR < r.Limit+10 {
				t.Errorf("%s: %+v", c.Name, r)
			}
		}
	}
	if cases < 15 {
		t.Errorf("%d cases", cases)
	}
}
