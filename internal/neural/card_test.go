package neural

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
)

const cardTotal = 24 << 30

// watch returns functions that return the level of the card, and wait until it is a given one.
func watch(t *testing.T, c backendtest.Card) (level func() memory.Level, await func(memory.Level)) {
	t.Helper()
	read := make(chan struct{}, 1)
	m := memory.NewMonitor(memory.Probe{Root: t.TempDir(), NVML: c.NVML}, memory.MonitorOptions{
		Interval: memory.MinInterval,
		OnReading: func(memory.Reading) {
			select {
			case read <- struct{}{}:
			default:
			}
		},
	})
	m.Start(t.Context())
	t.Cleanup(m.Stop)
	level = func() memory.Level { return m.Level("nvidia:0") }
	return level, func(want memory.Level) {
		for level() != want {
			<-read
		}
	}
}

// TestFullCard runs jobs whose tensors stay on a device, which the CPU plays, while another
// process fills the card between two windows. The job goes on with a cheaper plan and the
// same frames, and with the first plan after the card is free again. An allocation that
// fails on the full card changes nothing about that.
func TestFullCard(t *testing.T) {
	if testing.Short() {
		t.Skip("denoises many windows")
	}
	picture, fc := portrait(t)
	b := openBackend(t, "onnxruntime")
	const frames = 45
	options := func(b backend.Backend) Options {
		o := small(t, b)
		o.Device.Resident, o.Batched = true, true
		o.Resolution, o.Steps, o.Plan.Windows = 64, 1, 2
		o.Allowed = memory.Reductions{Windows: true, Offload: true}
		return o
	}
	want := shotOf(picture, fc, 0, frames, 3)
	if err := pushAll(t.Context(), open(t, options(b)), want); err != nil {
		t.Fatal(err)
	}
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprintf("allocation fails: %v", fails), func(t *testing.T) {
			c := backendtest.NewCard(t, cardTotal, cardTotal/10)
			faulty := backendtest.NewFaulty(b)
			o := options(faulty)
			var await func(memory.Level)
			o.Level, await = watch(t, c)
			var plans []memory.Plan
			var reasons []string
			o.Replanned = func(p memory.Plan, why string) {
				plans, reasons = append(plans, p), append(reasons, why)
				if len(plans) == 2 { // the other process ends
					c.Use(t, cardTotal/10)
					await(memory.Normal)
				}
			}
			e, got := open(t, o), shotOf(picture, fc, 0, frames, 3)
			next := 0
			take := func(done []lip.Item, err error) {
				t.Helper()
				if finish(done); err != nil {
					t.Fatal(err)
				}
				next += len(done)
			}
			for i, it := range got {
				if i == 7 { // before the first windows: two of 4 frames that share one
					c.Use(t, cardTotal/20*19)
					await(memory.Critical)
					if fails {
						faulty.Fail(1, 1)
					}
				}
				take(e.Push(t.Context(), it))
			}
			take(e.Flush(t.Context()))
			if next != frames {
				t.Fatalf("%d of %d frames", next, frames)
			}
			if len(plans) < 3 || plans[0].Windows != 1 || plans[0].Offload != memory.OffloadNone ||
				plans[1].Offload != memory.OffloadModel || plans[2] != plans[0] {
				t.Fatalf("plans %v, because of %q", plans, reasons)
			}
			if first := strings.HasPrefix(reasons[0], "out of memory"); first != fails {
				t.Errorf("the first change is because of %q", reasons[0])
			}
			if most, _ := apart(got, want); most > 1 {
				t.Errorf("frames differ by %d", most)
			}
		})
	}
}
