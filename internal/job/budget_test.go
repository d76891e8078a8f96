package job

import (
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/memory"
)

// TestBudgetOfCard follows a card from NVIDIA's library to what the engine may use and to
// the level that the governor reacts to.
func TestBudgetOfCard(t *testing.T) {
	const gb = 1 << 30
	card := backendtest.NewCard(t, 24*gb, 0)
	probe := memory.Probe{NVML: card.NVML}
	format := frame.Format{Width: 64, Height: 64, ShiftX: 1, ShiftY: 1, Depth: 8}
	device := backend.Device{ID: "cuda:0"}
	job := Job{}
	job.MemoryAlert = "75%"
	for _, c := range []struct{ used, want int64 }{
		{0, 18 * gb}, {2 * gb, 16 * gb}, {17 * gb, gb}, {20 * gb, 0},
	} {
		card.Use(t, c.used)
		b, err := newBudget(probe, job, device, format, 0)
		if err != nil {
			t.Fatal(err)
		}
		if s := b.share(); s.Bytes != c.want || s.From != "free memory of nvidia:0" || s.GPU != 24*gb || s.Reserved != 0 {
			t.Errorf("%d bytes are in use: %+v, want %d", c.used, s, c.want)
		}
	}

	// What this process holds is part of what it may use.
	card.Hold(t, 3*gb, gb)
	if b, err := newBudget(probe, job, device, format, 0); err != nil || b.share().Bytes != 16*gb {
		t.Errorf("this process holds 1 of 3 GB in use: %+v, %v", b.share(), err)
	}

	// Frames that the engine holds back are in the memory of the host.
	if _, err := newBudget(probe, job, device, format, 1<<50); fault.KindOf(err) != fault.Memory {
		t.Errorf("an engine that holds 2^50 bytes: %v, want kind memory", err)
	}

	card.Use(t, 2*gb)
	b, err := newBudget(probe, job, device, format, 0)
	if err != nil {
		t.Fatal(err)
	}
	alerts := make(chan string, 100)
	r := newReporter(t.Context(), ObserverFunc(func(e Event) {
		if e.Type == EventAlert && strings.Contains(e.Message, "nvidia:0") {
			alerts <- e.Message
		}
	}))
	defer r.end(&Result{}, nil)
	level, stop, err := b.watch(t.Context(), job, r)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for _, c := range []struct {
		used int64
		want memory.Level
	}{{23 * gb, memory.Critical}, {2 * gb, memory.Normal}} {
		card.Use(t, c.used)
		text := <-alerts
		if got := level(); got != c.want {
			t.Errorf("%d bytes are in use: level %v, want %v (%s)", c.used, got, c.want, text)
		}
	}
}
