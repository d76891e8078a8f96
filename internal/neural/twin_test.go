package neural

import (
	"testing"

	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
)

// TestNeedOfSpeakers checks that a second speaker takes the memory of the frames that its
// engine holds, and no more: the networks are shared.
func TestNeedOfSpeakers(t *testing.T) {
	o, one := onCard(t, 24, 256, "auto")
	o.FrameBytes = 1 << 20
	one.o = o
	two := one
	two.o.Speakers = 2
	want := int64(o.hold(o.Plan)) * (o.FrameBytes + 3*256*256)
	if got := two.of(o.Plan) - one.of(o.Plan); got != want {
		t.Errorf("a second speaker takes %d bytes, want %d", got, want)
	}
}

// TestTwin opens an engine that works with the networks of another, closes it, and checks
// that they are still loaded.
func TestTwin(t *testing.T) {
	l := &loads{Backend: openBackend(t, onnxruntime.Name).Backend}
	first := open(t, small(t, l))
	loaded := len(l.options)
	o := first.o
	o.Speech = func(float64) float64 { return 0 }
	second := first.twin(o)
	if second.Name() != first.Name() || second.Hold() != first.Hold() || len(second.Report().Work) != 0 {
		t.Errorf("%s holds %d items, report %+v", second.Name(), second.Hold(), second.Report())
	}
	if second.features.net != first.features.net || second.features.speech == nil || second.painter == first.painter || second.painter.encoder.model != first.painter.encoder.model {
		t.Error("the twin does not share the networks, or shares more")
	}
	if err := second.Close(); err != nil || first.features.net.chain == nil {
		t.Errorf("closing the twin closes the networks: %v", err)
	}
	if len(l.options) != loaded {
		t.Errorf("%d graphs are loaded, %d before the twin", len(l.options), loaded)
	}
}
