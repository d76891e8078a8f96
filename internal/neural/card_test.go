package neural

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/stub"
)

// card stands in for NVIDIA's management library on a machine with a card of 24 GB, whose
// used memory is what a file says.
type card struct {
	library, file string
}

const cardTotal = 24 << 30

func newCard(t *testing.T, used int64) card {
	t.Helper()
	c := card{file: filepath.Join(t.TempDir(), "used")}
	c.use(t, used)
	c.library = stub.Library(t, fmt.Sprintf(`
#include <stdio.h>
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory;
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int r) { return "error"; }
int nvmlSystemGetDriverVersion(char *v, unsigned int n) { strcpy(v, "580.0"); return 0; }
int nvmlDeviceGetCount_v2(unsigned int *n) { *n = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, void **d) { *d = (void *)1; return 0; }
int nvmlDeviceGetName(void *d, char *s, unsigned int n) { strcpy(s, "stub"); return 0; }
int nvmlDeviceGetMemoryInfo(void *d, memory *m) {
  FILE *f = fopen("%s", "r");
  if (!f) return 999;
  int got = fscanf(f, "%%llu", &m->used);
  fclose(f);
  m->total = %dull;
  m->free = m->total - m->used;
  return got == 1 ? 0 : 999;
}
`, c.file, int64(cardTotal)))
	return c
}

// use makes processes use so many bytes of the card.
func (c card) use(t *testing.T, used int64) {
	t.Helper()
	written := c.file + ".new"
	if err := os.WriteFile(written, fmt.Append(nil, used), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(written, c.file); err != nil { // a reading sees all of it
		t.Fatal(err)
	}
}

// watch returns the level of the card, and waits until it is a given one.
func (c card) watch(t *testing.T) (level func() memory.Level, await func(memory.Level)) {
	t.Helper()
	read := make(chan struct{}, 1)
	m := memory.NewMonitor(memory.Probe{Root: t.TempDir(), NVML: c.library}, memory.MonitorOptions{
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
			c := newCard(t, cardTotal/10)
			faulty := backendtest.NewFaulty(b)
			o := options(faulty)
			var await func(memory.Level)
			o.Level, await = c.watch(t)
			var plans []memory.Plan
			var reasons []string
			o.Replanned = func(p memory.Plan, why string) {
				plans, reasons = append(plans, p), append(reasons, why)
				if len(plans) == 2 { // the other process ends
					c.use(t, cardTotal/10)
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
					c.use(t, cardTotal/20*19)
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
