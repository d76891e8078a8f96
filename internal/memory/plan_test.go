package memory

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rich is a plan in which everything can be reduced, and all allows it.
var (
	rich = Plan{Windows: 4, Frames: 16, VAEFrames: 4, Slices: 1, Offload: OffloadNone, Precision: "f32"}
	all  = Reductions{Windows: true, VAEFrames: true, Frames: true, Tile: 256, Slices: 4, Offload: true, Precision: "bf16"}
)

func TestPlanString(t *testing.T) {
	for want, p := range map[string]Plan{
		"4 windows of 16 frames, whole pictures, 4 a call, attention whole, f32, offload none":       rich,
		"1 window of 16 frames, whole pictures, attention whole, bf16, offload sequential":           {Windows: 1, Frames: 16, VAEFrames: 1, Slices: 1, Offload: OffloadSequential, Precision: "bf16"},
		"2 windows of 1 frame, tiles of 256 pixels, 2 a call, attention in 4 slices, offload model":  {Windows: 2, Frames: 1, VAEFrames: 2, Tile: 256, Slices: 4, Offload: OffloadModel},
		"1 window of 8 frames, tiles of 256 pixels, attention in 4 slices, bf16, offload sequential": cheapest(rich, all),
	} {
		if got := p.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func cheapest(p Plan, allowed Reductions) Plan {
	l := Ladder(p, allowed)
	return l[len(l)-1]
}

func TestDifferences(t *testing.T) {
	if got := rich.Differences(rich); got != "" {
		t.Errorf("none: %q", got)
	}
	low := cheapest(rich, all)
	if got, want := rich.Differences(low), "1 window of 8 frames, tiles of 256 pixels, attention in 4 slices, bf16, offload sequential"; got != want {
		t.Errorf("down: %q, want %q", got, want)
	}
	if got, want := low.Differences(rich), "4 windows of 16 frames, whole pictures, 4 a call, attention whole, f32, offload none"; got != want {
		t.Errorf("up: %q, want %q", got, want)
	}
}

// TestLadder: every rung is the one before with one reduction, in the order of
// their costs.
func TestLadder(t *testing.T) {
	var got []string
	l := Ladder(rich, all)
	for i := 1; i < len(l); i++ {
		got = append(got, l[i-1].Differences(l[i]))
	}
	want := []string{
		"2 windows of 16 frames", "1 window of 16 frames", "whole pictures", "1 window of 8 frames", "tiles of 256 pixels",
		"attention in 4 slices", "offload model", "offload sequential", "bf16",
	}
	if d := cmp.Diff(want, got); d != "" || l[0] != rich {
		t.Errorf("from %v (-want +got):\n%s", l[0], d)
	}
	if l := Ladder(rich, Reductions{}); !slices.Equal(l, []Plan{rich}) {
		t.Errorf("all pinned: %v", l)
	}
}

// TestLadderEnds: settings that are as low as a reduction, or lower, or of
// another kind, stay.
func TestLadderEnds(t *testing.T) {
	for name, p := range map[string]Plan{
		"the cheapest":    cheapest(rich, all),
		"below it":        {Windows: 1, Frames: 4, VAEFrames: 1, Tile: 128, Slices: 16, Offload: OffloadSequential, Precision: "bf16"},
		"other precision": {Windows: 1, Frames: 8, VAEFrames: 1, Tile: 256, Slices: 4, Offload: OffloadSequential, Precision: "f16"},
	} {
		if q, ok := Cheaper(p, all); ok || q != p {
			t.Errorf("%s: %v of %v", name, q, p)
		}
	}
	odd := rich
	odd.Windows = 7
	var got []int
	for _, p := range Ladder(odd, Reductions{Windows: true}) {
		got = append(got, p.Windows)
	}
	if !slices.Equal(got, []int{7, 3, 1}) {
		t.Errorf("windows %v", got)
	}
}

// weigh is a model of memory in which every reduction helps: a plan's bytes
// are a sum of what each field costs, weights of networks by precision.
type weigh struct{ window, frame, vae, whole, slice, network int64 }

func (w weigh) need(p Plan) int64 {
	n := w.window*int64(p.Windows) + w.frame*int64(p.Windows*p.Frames)
	side := int64(p.Tile)
	if side == 0 {
		side = 512
	}
	n += w.vae*int64(p.VAEFrames)*side/512 + w.whole*side/512 + w.slice/int64(p.Slices)
	resident := map[Offload]int64{OffloadNone: 8, OffloadModel: 4, OffloadSequential: 1}[p.Offload]
	if p.Precision != "f32" {
		return n + w.network*resident
	}
	return n + 2*w.network*resident
}

func (w weigh) fits(budget int64) func(Plan) bool {
	return func(p Plan) bool { return w.need(p) <= budget }
}

func TestChoose(t *testing.T) {
	with := func(change func(*Plan)) Plan {
		p := rich
		change(&p)
		return p
	}
	const lot = 1000
	for _, tt := range []struct {
		name   string
		w      weigh
		budget int64
		want   Plan
		ok     bool
	}{
		{"all fits", weigh{frame: 1}, 64, rich, true},
		{"half of the windows", weigh{frame: 1}, 63, with(func(p *Plan) { p.Windows = 2 }), true},
		{"one reduction in the middle", weigh{whole: 512}, 511, with(func(p *Plan) { p.Tile = 256 }), true},
		{"half of the VAE's batch", weigh{vae: 512}, 2047, with(func(p *Plan) { p.VAEFrames = 2 }), true},
		{"sequential for its own sake", weigh{network: lot, frame: 1}, 2*lot + 64, with(func(p *Plan) { p.Offload = OffloadSequential }), true},
		{"whole windows before many", weigh{network: lot, frame: 1}, 2*lot + 16, with(func(p *Plan) { p.Offload, p.Windows = OffloadSequential, 1 }), true},
		{"then as many as fit", weigh{network: lot, frame: 1}, 2*lot + 63, with(func(p *Plan) { p.Offload, p.Windows = OffloadSequential, 2 }), true},
		{"windows of 8 where nothing else will do", weigh{network: lot, frame: 1}, 2*lot + 15, with(func(p *Plan) { p.Offload, p.Windows, p.Frames = OffloadSequential, 1, 8 }), true},
		{"precision instead of more", weigh{network: lot}, lot + 1, with(func(p *Plan) { p.Offload, p.Precision = OffloadSequential, "bf16" }), true},
		{"what is in force is not taken back", weigh{network: lot, slice: 8000}, lot + 2000, with(func(p *Plan) {
			p.Offload, p.Precision, p.Slices = OffloadSequential, "bf16", 4
		}), true},
		{"nothing fits", weigh{network: lot}, lot - 1, cheapest(rich, all), false},
	} {
		got, ok := Choose(Ladder(rich, all), tt.w.fits(tt.budget))
		if got != tt.want || ok != tt.ok {
			t.Errorf("%s: %v, %v; want %v", tt.name, got, ok, tt.want)
		}
	}
	// Where half precision cannot be done without, what was offloaded on the way
	// down to it comes back as far as it fits.
	tensors := func(limit int) func(Plan) bool {
		return func(p Plan) bool {
			resident := map[Offload]int{OffloadNone: 3, OffloadModel: 2, OffloadSequential: 1}[p.Offload]
			return p.Precision == "bf16" && resident <= limit
		}
	}
	for limit, want := range map[int]Offload{3: OffloadNone, 2: OffloadModel, 1: OffloadSequential} {
		p, ok := Choose(Ladder(rich, all), tensors(limit))
		if want := with(func(p *Plan) { p.Offload, p.Precision = want, "bf16" }); !ok || p != want {
			t.Errorf("half precision, limit %d: %v, %v", limit, p, ok)
		}
	}
}

// random returns a plan, the reductions allowed and a model of its memory.
func random(r *rand.Rand) (Plan, Reductions, weigh) {
	offloads := []Offload{OffloadNone, OffloadModel, OffloadSequential}
	p := Plan{
		Windows: 1 + r.IntN(16), Frames: 1 + r.IntN(24), VAEFrames: 1 + r.IntN(16), Tile: 64 * r.IntN(9), Slices: 1 + r.IntN(16),
		Offload: offloads[r.IntN(3)], Precision: []string{"f32", "bf16", "f16"}[r.IntN(3)],
	}
	allowed := Reductions{
		Windows: r.IntN(4) > 0, VAEFrames: r.IntN(4) > 0, Frames: r.IntN(4) > 0, Tile: 128 * r.IntN(3), Slices: 4 * r.IntN(3),
		Offload: r.IntN(4) > 0, Precision: []string{"", "bf16", "f16"}[r.IntN(3)],
	}
	some := func() int64 { return r.Int64N(1000) }
	return p, allowed, weigh{some(), some(), some(), some(), some(), some()}
}

// poorer reports whether p has no more of anything than q, and whether it keeps everything
// that must not be reduced.
func poorer(p, q Plan, allowed Reductions) (fine, kept bool) {
	offload := map[Offload]int{OffloadNone: 3, OffloadModel: 2, OffloadSequential: 1}
	fine = p.Windows <= q.Windows && p.Windows >= 1 && p.Frames <= q.Frames && p.VAEFrames <= q.VAEFrames && p.Slices >= q.Slices &&
		(p.Tile == q.Tile || q.Tile == 0 || p.Tile > 0 && p.Tile < q.Tile) && offload[p.Offload] <= offload[q.Offload] && offload[p.Offload] > 0 &&
		(p.Precision == q.Precision || q.Precision == "f32")
	kept = (allowed.Windows || p.Windows == q.Windows) && (allowed.Frames || p.Frames == q.Frames) && (allowed.VAEFrames || p.VAEFrames == q.VAEFrames) &&
		(allowed.Tile > 0 || p.Tile == q.Tile) && (allowed.Slices > 0 || p.Slices == q.Slices) && (allowed.Offload || p.Offload == q.Offload) &&
		(allowed.Precision != "" || p.Precision == q.Precision)
	return fine, kept
}

// fields is in how many fields two plans differ.
func fields(p, q Plan) (n int) {
	a, b := reflect.ValueOf(p), reflect.ValueOf(q)
	for i := range a.NumField() {
		if !a.Field(i).Equal(b.Field(i)) {
			n++
		}
	}
	return n
}

// TestChooseAtRandom: of any plan and budget, the choice fits if anything does,
// stays within the allowed reductions, and has none that it could do
// without.
func TestChooseAtRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 1))
	chosen, refused, taken := 0, 0, 0
	for range 20000 {
		best, allowed, w := random(r)
		ladder := Ladder(best, allowed)
		for i := 1; i < len(ladder); i++ {
			if fine, kept := poorer(ladder[i], ladder[i-1], allowed); !fine || !kept || fields(ladder[i], ladder[i-1]) != 1 {
				t.Fatalf("rung %v after %v, allowed %+v", ladder[i], ladder[i-1], allowed)
			}
		}
		least, most := w.need(ladder[len(ladder)-1]), w.need(best)
		budget := least + r.Int64N(most-least+20) - (most-least)/4 - 10
		fits := w.fits(budget)
		p, ok := Choose(ladder, fits)
		if ok != (least <= budget) || ok && !fits(p) {
			t.Fatalf("budget %d of %d to %d: %v, %v", budget, least, most, p, ok)
		}
		if fine, kept := poorer(p, best, allowed); !fine || !kept {
			t.Fatalf("%v of %v, allowed %+v", p, best, allowed)
		}
		if !ok {
			refused++
			continue
		}
		chosen++
		if !slices.Contains(ladder, p) {
			taken++
		}
		for _, q := range richer(p, best) {
			if fits(q) {
				t.Fatalf("budget %d: %v, though there is room for %v", budget, p, q)
			}
		}
	}
	t.Logf("%d chosen, of them %d between rungs, %d refused", chosen, taken, refused)
	if chosen < 1000 || refused < 1000 || taken < 1000 {
		t.Error("one kind is hardly tried")
	}
}

// richer returns p with each of its reductions undone alone.
func richer(p, best Plan) (list []Plan) {
	for i := range reflect.TypeFor[Plan]().NumField() {
		q := p
		reflect.ValueOf(&q).Elem().Field(i).Set(reflect.ValueOf(best).Field(i))
		if q.Windows != p.Windows {
			q.Windows = min(2*p.Windows, best.Windows)
		}
		if q != p {
			list = append(list, q)
		}
	}
	if p.Offload == OffloadSequential && best.Offload == OffloadNone {
		q := p
		q.Offload = OffloadModel
		list = append(list, q)
	}
	return list
}

func TestChangeString(t *testing.T) {
	q := rich
	q.Frames = 8
	c := Change{From: rich, To: q, Why: "3.2 GiB of 3.0 GiB in use"}
	if got := c.String(); got != "3.2 GiB of 3.0 GiB in use: 4 windows of 8 frames instead of 4 windows of 16 frames" || strings.Contains(got, "\n") {
		t.Error(got)
	}
}

// ExampleChoose is the example of docs/memory.md; its figures, in MB, are made up.
func ExampleChoose() {
	need := func(p Plan) int {
		networks := map[Offload]int{OffloadNone: 6600, OffloadModel: 5200, OffloadSequential: 1600}[p.Offload]
		window := map[int]int{16: 500, 8: 250}[p.Frames]
		pictures, attention := 300, 200
		if p.Tile > 0 {
			pictures = 100
		}
		if p.Slices > 1 {
			attention = 50
		}
		return 300 + networks + p.Windows*window + pictures + attention
	}
	best := Plan{Windows: 2, Frames: 16, VAEFrames: 1, Slices: 1, Offload: OffloadNone, Precision: "f32"}
	ladder := Ladder(best, Reductions{Windows: true, Frames: true, VAEFrames: true, Tile: 256, Slices: 4, Offload: true})
	for i, p := range ladder {
		if i == 0 {
			fmt.Println(need(p), p)
			continue
		}
		fmt.Println(need(p), ladder[i-1].Differences(p))
	}
	p, ok := Choose(ladder, func(p Plan) bool { return need(p) <= 3000 })
	fmt.Println(ok, need(p), p)
	// Output:
	// 8400 2 windows of 16 frames, whole pictures, attention whole, f32, offload none
	// 7900 1 window of 16 frames
	// 7650 1 window of 8 frames
	// 7450 tiles of 256 pixels
	// 7300 attention in 4 slices
	// 5900 offload model
	// 2300 offload sequential
	// true 2900 1 window of 16 frames, whole pictures, attention whole, f32, offload sequential
}
