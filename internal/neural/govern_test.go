package neural

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/journal"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
)

// small returns options for jobs of a few frames with several windows.
func small(t testing.TB, b backend.Backend) Options {
	o := quick(t, b)
	o.Plan.Frames, o.Overlap, o.Guidance, o.DeepCache = 4, 1, 1.5, 2
	return o
}

// calls returns how often a kind of work was done.
func calls(e *Engine, name string) int64 {
	for _, w := range e.networks.work {
		if w.Name == name {
			return w.Calls
		}
	}
	return 0
}

// TestPlansAreExact checks that plans that must not change the frames change them by at
// most one level.
func TestPlansAreExact(t *testing.T) {
	picture, fc := portrait(t)
	onEachEngine(t, func(t *testing.T, b *backendtest.Cached, job jobOptions) {
		batched := false
		run := func(set func(p *memory.Plan)) []lip.Item {
			o := job(t, b)
			if o.Resolution == 64 {
				o.Resolution = 128
			}
			o.Batched = batched
			set(&o.Plan)
			e, items := open(t, o), shotOf(picture, fc, 0, 7, 3)
			process(t, e, items)
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			return items
		}
		base := run(func(*memory.Plan) {})
		if most, _ := apart(base, shotOf(picture, fc, 0, 7, 3)); most < 10 {
			t.Fatalf("the frames are hardly changed: %d", most)
		}
		for name, set := range map[string]func(p *memory.Plan){
			"3 windows in flight":             func(p *memory.Plan) { p.Windows = 3 },
			"offload model":                   func(p *memory.Plan) { p.Offload = memory.OffloadModel },
			"offload sequential":              func(p *memory.Plan) { p.Offload = memory.OffloadSequential },
			"offload sequential, 3 in flight": func(p *memory.Plan) { p.Offload, p.Windows = memory.OffloadSequential, 3 },
			"3 pictures a call":               func(p *memory.Plan) { p.VAEFrames = 3 },
			"attention in slices":             func(p *memory.Plan) { p.Slices = 2 },
		} {
			if name == "attention in slices" && b.Name() == openvino.Name && !long() {
				continue // compiling takes long, and OpenVINO fuses attention
			}
			if most, _ := apart(run(set), base); most > 1 {
				t.Errorf("%s: frames differ by %d", name, most)
			}
		}
		batched = true // a call is full with 2 windows, and filled up with 3
		for _, windows := range []int{2, 3} {
			if windows == 3 && b.Name() == openvino.Name && !long() {
				continue // compiling takes long
			}
			if most, _ := apart(run(func(p *memory.Plan) { p.Windows = windows }), base); most > 1 {
				t.Errorf("%d windows per call: frames differ by %d", windows, most)
			}
		}
	})
}

// TestTiles checks that a VAE that works in tiles changes the frames little.
func TestTiles(t *testing.T) {
	picture, fc := portrait(t)
	onOne(t, func(t *testing.T, b *backendtest.Cached) {
		run := func(tile int) []lip.Item {
			o := small(t, b)
			o.Resolution, o.Steps, o.Guidance, o.Plan.Tile = 256, 1, 1, tile
			e, items := open(t, o), shotOf(picture, fc, 0, 1, 0)
			process(t, e, items)
			if got := calls(e, workDecoder); tile > 0 && got < 4 {
				t.Errorf("tiles of %d: %d calls of the decoder", tile, got)
			}
			return items
		}
		whole := run(0)
		most, ratio := apart(run(192), whole)
		t.Logf("tiles of 192 of 256 pixels: by at most %d levels, %.1f dB", most, ratio)
		if most == 0 || ratio < 30 {
			t.Errorf("tiles change frames by %d levels, %.1f dB", most, ratio)
		}
	})
}

// TestEveryAllocationFails lets calls of the backend fail once, from loading to the last
// image: all of them in a long run, otherwise every fifth and those at the ends. It checks
// that the job continues with a cheaper plan, and that the frames are the same if that
// plan must not change them.
func TestEveryAllocationFails(t *testing.T) {
	picture, fc := portrait(t)
	onOneEngine(t, func(t *testing.T, b *backendtest.Cached, job jobOptions) {
		faulty, least := backendtest.NewFaulty(b), 30
		if job(t, b).recipe == recipe(museTalk{}) {
			least = 20 // it has fewer graphs and one step
		}
		run := func(fail, n int, may memory.Reductions) (items []lip.Item, e *Engine, plans []memory.Plan, err error) {
			o := job(t, faulty)
			o.Steps, o.Guidance, o.Plan.Windows, o.Allowed = 1, 1, 2, may
			o.Replanned = func(p memory.Plan, why string) { plans = append(plans, p) }
			before := faulty.Calls()
			if fail > 0 {
				faulty.Fail(fail, n)
			}
			items = shotOf(picture, fc, 0, 6, 3)
			if e, err = New(t.Context(), o); err == nil {
				err = pushAll(t.Context(), e, items)
				err = errors.Join(err, e.Close())
			}
			faulty.Fail(1<<30, 0)
			t.Logf("fail %d: %d calls, plans %v, %v", fail, faulty.Calls()-before, plans, err)
			return items, e, plans, err
		}
		before := faulty.Calls()
		base, _, _, err := run(0, 0, memory.Reductions{})
		if err != nil {
			t.Fatal(err)
		}
		sites := faulty.Calls() - before
		if sites < least {
			t.Fatalf("only %d calls", sites)
		}
		exact := memory.Reductions{Windows: true, Offload: true}
		for k := 1; k <= sites; k++ {
			if k > 4 && k <= sites-4 && k%5 != 0 && !long() {
				continue
			}
			items, _, plans, err := run(k, 1, exact)
			if err != nil || len(plans) != 1 || plans[0].Windows != 1 {
				t.Fatalf("call %d fails: %v, plans %v", k, err, plans)
			}
			if most, _ := apart(items, base); most > 1 {
				t.Errorf("call %d fails: frames differ by %d", k, most)
			}
		}
		// Two failures in a row take two of the three reductions.
		if items, _, plans, err := run(sites/2, 2, exact); err != nil || len(plans) != 2 || plans[1].Offload != memory.OffloadModel {
			t.Errorf("two failures: %v, plans %v", err, plans)
		} else if most, _ := apart(items, base); most > 1 {
			t.Errorf("two failures: frames differ by %d", most)
		}
		if _, _, plans, err := run(sites/2, 100, exact); fault.KindOf(err) != fault.Memory || fault.HintOf(err) == "" || len(plans) != 3 {
			t.Errorf("all calls fail: %v, plans %v", err, plans)
		}
		if _, _, plans, err := run(1, 1, memory.Reductions{}); fault.KindOf(err) != fault.Memory || len(plans) != 0 {
			t.Errorf("no reduction is allowed: %v, plans %v", err, plans)
		}
	})
}

// TestPlanAfterFailedLoading checks that the engine reports the plan with which it
// continues if an allocation fails while the networks are loaded.
func TestPlanAfterFailedLoading(t *testing.T) {
	faulty := backendtest.NewFaulty(openBackend(t, "onnxruntime"))
	o := small(t, faulty)
	o.Plan.Windows, o.Allowed = 2, memory.Reductions{Windows: true, Offload: true}
	best := o.hold(o.Plan)
	faulty.Fail(1, 2)
	e := open(t, o)
	want := o.Plan
	want.Windows, want.Offload = 1, memory.OffloadModel
	if got := e.Report().Plan; got == nil || *got != want {
		t.Errorf("the report has the plan %v, want %v", got, want)
	}
	if e.Hold() != best { // the best plan may be restored
		t.Errorf("Hold is %d, want %d", e.Hold(), best)
	}
	estimate, err := e.Estimate(t.Context(), 30, 2)
	if err != nil || *estimate.Plan != want || estimate.Needs != e.needs(want) || estimate.Windows != 10 || estimate.Seconds <= 0 || len(estimate.Stages) != 4 {
		t.Errorf("estimate %+v, %v", estimate, err)
	}
}

// pushAll sends all frames through an engine.
func pushAll(ctx context.Context, e *Engine, items []lip.Item) error {
	next := 0
	check := func(done []lip.Item, err error) error {
		finish(done)
		for _, it := range done {
			if it.Frame != items[next].Frame {
				return fmt.Errorf("frame %d is returned as number %d", it.Frame.Index, next)
			}
			next++
		}
		return err
	}
	for _, it := range items {
		if err := check(e.Push(ctx, it)); err != nil {
			return err
		}
	}
	if err := check(e.Flush(ctx)); err != nil {
		return err
	}
	if next != len(items) {
		return fmt.Errorf("%d of %d frames", next, len(items))
	}
	return nil
}

// TestSmallerWindowsMidway checks that a failure in the middle of a shot makes its later
// windows smaller.
func TestSmallerWindowsMidway(t *testing.T) {
	picture, fc := portrait(t)
	onOne(t, func(t *testing.T, b *backendtest.Cached) {
		faulty := backendtest.NewFaulty(b)
		o := quick(t, faulty)
		o.Resolution, o.Plan.Frames, o.Overlap, o.Steps, o.Allowed = 64, 16, 4, 1, memory.Reductions{Frames: true}
		var plans []memory.Plan
		o.Replanned = func(p memory.Plan, why string) { plans = append(plans, p) }
		e, items := open(t, o), shotOf(picture, fc, 0, 40, 3)
		for i, it := range items {
			if i == 26 { // the second window of 16 is about to be denoised
				faulty.Fail(1, 1)
			}
			done, err := e.Push(t.Context(), it)
			if finish(done); err != nil {
				t.Fatal(err)
			}
		}
		done, err := e.Flush(t.Context())
		if finish(done); err != nil || len(plans) != 1 || plans[0].Frames != 8 {
			t.Fatalf("%v, plans %v", err, plans)
		}
		if most, _ := apart(items[39:], shotOf(picture, fc, 39, 40, 3)); most < 10 {
			t.Errorf("the last frame is hardly changed: %d", most)
		}
	})
}

// TestBudget checks that the plan fits the budget, and that the error for a budget that is
// too small names one that is large enough.
func TestBudget(t *testing.T) {
	onOneEngine(t, func(t *testing.T, b *backendtest.Cached, job jobOptions) {
		o := job(t, b)
		o.Allowed = memory.Reductions{Windows: true, Frames: true, Offload: true, Tile: 128, Slices: 2}
		o.Plan.Frames = 16
		e := open(t, o)
		rich := e.needs(e.networks.plan())
		o.Budget, o.BudgetFrom = rich-1, "a test"
		e = open(t, o)
		if e.needs(e.networks.plan()) >= rich || e.networks.plan().Offload == memory.OffloadNone && e.networks.plan().Frames == 16 {
			t.Errorf("within %d: needs %d, %v", o.Budget, e.needs(e.networks.plan()), e.networks.plan())
		}
		o.Budget = 1 << 20
		_, err := New(t.Context(), o)
		if fault.KindOf(err) != fault.Memory || fault.HintOf(err) == "" {
			t.Errorf("1 MiB: %v", err)
		}
		if !strings.Contains(err.Error(), "attention whole") { // slices save nothing on a CPU
			t.Errorf("the cheapest plan has attention in slices: %v", err)
		}
	})
}

// TestLevels checks that a job uses less memory while memory is short, and more when it is
// free again.
func TestLevels(t *testing.T) {
	picture, fc := portrait(t)
	onOneEngine(t, func(t *testing.T, b *backendtest.Cached, job jobOptions) {
		o := job(t, b)
		o.Steps, o.Guidance, o.Allowed = 1, 1, memory.Reductions{Offload: true}
		level := memory.Critical
		o.Level = func() memory.Level { return level }
		var plans []memory.Plan
		o.Replanned = func(p memory.Plan, _ string) { plans, level = append(plans, p), memory.Normal }
		e := open(t, o)
		if err := pushAll(t.Context(), e, shotOf(picture, fc, 0, 15*int64(o.Plan.Frames), 3)); err != nil {
			t.Fatal(err)
		}
		if len(plans) != 2 || plans[0].Offload != memory.OffloadModel || plans[1] != o.Plan {
			t.Errorf("plans %v", plans)
		}
	})
}

// TestResume stops a job at each of its windows, and in the middle of one, and resumes it.
// It checks that the frames are those of a job that was not stopped, and that no window is
// denoised twice.
func TestResume(t *testing.T) {
	picture, fc := portrait(t)
	onOneEngine(t, func(t *testing.T, b *backendtest.Cached, job jobOptions) {
		const frames = 11
		base := shotOf(picture, fc, 0, frames, 3)
		base[7].Cut = true
		o := job(t, b)
		whole := open(t, o)
		if err := pushAll(t.Context(), whole, base); err != nil {
			t.Fatal(err)
		}
		windows := calls(whole, workWindow)
		dir := t.TempDir()
		for stop := range windows + 1 {
			for _, inFlight := range []int{1, 2} {
				if !long() && inFlight == 2 && stop%2 == 0 {
					continue
				}
				if !long() && o.recipe == recipe(museTalk{}) && stop%3 != 1 {
					continue // its images are larger
				}
				j, err := journal.Open(dir, "job", journal.Identity{"stop": fmt.Sprint(stop, inFlight)})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				o := o
				var e *Engine
				check := func() {
					if e != nil && calls(e, workWindow) >= stop {
						cancel()
					}
				}
				o.Journal, o.Plan.Windows = j, inFlight
				if o.recipe == recipe(latentSync{}) {
					o.Progress = func(int64, int, int) { check() }
				} else { // it has no steps
					o.Backend = watched{b, check}
				}
				e = open(t, o)
				err = pushAll(ctx, e, marked(shotOf(picture, fc, 0, frames, 3)))
				if cancel(); err != nil && !errors.Is(err, context.Canceled) || stop < windows-1 && err == nil {
					t.Fatalf("stopped at window %d: %v", stop, err)
				}
				done := calls(e, workWindow)
				if err := errors.Join(e.Close(), j.Close()); err != nil {
					t.Fatal(err)
				}

				if j, err = journal.Open(dir, "job", journal.Identity{"stop": fmt.Sprint(stop, inFlight)}); err != nil {
					t.Fatal(err)
				}
				o.Journal, o.Plan.Windows, o.Backend, o.Progress = j, 1, b, nil
				e = open(t, o)
				items := marked(shotOf(picture, fc, 0, frames, 3))
				if err := pushAll(t.Context(), e, items); err != nil {
					t.Fatal(err)
				}
				if most, _ := apart(items, base); most != 0 {
					t.Errorf("stopped at window %d of %d in flight: frames differ by %d", stop, inFlight, most)
				}
				if again := calls(e, workWindow); done+again != windows || calls(e, workRecall) != done {
					t.Errorf("stopped at window %d of %d in flight: %d + %d windows denoised of %d", stop, inFlight, done, again, windows)
				}
				if err := errors.Join(e.Close(), j.Remove()); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// TestResumeWithLessMemory resumes a job whose first windows were larger than the memory
// allows now.
func TestResumeWithLessMemory(t *testing.T) {
	picture, fc := portrait(t)
	onOne(t, func(t *testing.T, b *backendtest.Cached) {
		dir := t.TempDir()
		var j *journal.Journal
		begin := func(ctx context.Context, set func(o *Options)) (*Engine, error) {
			var err error
			if j, err = journal.Open(dir, "job", journal.Identity{}); err != nil {
				t.Fatal(err)
			}
			o := quick(t, b)
			o.Resolution, o.Plan.Frames, o.Overlap, o.Steps, o.Guidance, o.Allowed, o.Journal = 64, 16, 4, 1, 1, memory.Reductions{Frames: true}, j
			set(&o)
			return New(ctx, o)
		}
		ctx, cancel := context.WithCancel(t.Context())
		e, err := begin(ctx, func(o *Options) {})
		if err != nil {
			t.Fatal(err)
		}
		e.generator.(*denoiser).o.Progress = func(int64, int, int) {
			if calls(e, workWindow) == 2 {
				cancel()
			}
		}
		if err := pushAll(ctx, e, shotOf(picture, fc, 0, 50, 3)); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		needs := e.needs(e.networks.plan())
		if err := errors.Join(e.Close(), j.Close()); err != nil {
			t.Fatal(err)
		}
		if e, err = begin(t.Context(), func(o *Options) { o.Budget = needs - 1 }); err != nil {
			t.Fatal(err)
		}
		if e.networks.plan().Frames != 8 {
			t.Fatalf("plan %v", e.networks.plan())
		}
		held := 0
		for _, it := range shotOf(picture, fc, 0, 50, 3) {
			held++
			done, err := e.Push(t.Context(), it)
			if err != nil {
				t.Fatal(err)
			}
			if held -= len(done); held > e.Hold() {
				t.Fatalf("%d frames are held, Hold says %d", held, e.Hold())
			}
		}
		if done, err := e.Flush(t.Context()); err != nil || len(done) != held {
			t.Errorf("Flush returns %d of %d, %v", len(done), held, err)
		}
		if calls(e, workRecall) < 2 {
			t.Errorf("%d windows of the earlier run", calls(e, workRecall))
		}
		if err := errors.Join(e.Close(), j.Remove()); err != nil {
			t.Error(err)
		}
	})
}

func marked(items []lip.Item) []lip.Item {
	items[7].Cut = true
	return items
}

// TestSilence checks that no window is denoised in a long silence if the mouth is held or
// the frames pass.
func TestSilence(t *testing.T) {
	picture, fc := portrait(t)
	onOneEngine(t, func(t *testing.T, b *backendtest.Cached, job jobOptions) {
		run := func(silence string) (items []lip.Item, windows int64) {
			o := job(t, b)
			o.Silence, o.Quiet = silence, func(i int64) bool { return i < 2 || i >= 6 && i < 20 }
			e, items := open(t, o), shotOf(picture, fc, 0, 26, 3)
			if err := pushAll(t.Context(), e, items); err != nil {
				t.Fatal(err)
			}
			return items, calls(e, workWindow)
		}
		untouched := shotOf(picture, fc, 0, 26, 3)
		speak, all := run(SilenceSpeak)
		hold, some := run(SilenceHold)
		pass, least := run(SilencePass)
		if all < 8 || some > all/2+1 || least > all/2 {
			t.Errorf("windows: speak %d, hold %d, pass %d", all, some, least)
		}
		if most, _ := apart(hold[:3], speak[:3]); most != 0 {
			t.Errorf("hold: the first frames of a shot, before any mouth was painted, differ by %d", most)
		}
		// The face does not move, and neither does the mouth after the last one painted.
		if most, _ := apart(hold[7:8], hold[19:20]); most != 0 {
			t.Errorf("hold: the mouth moves by %d", most)
		}
		if most, _ := apart(hold[10:11], untouched[10:11]); most < 10 {
			t.Errorf("hold: the frame is hardly changed: %d", most)
		}
		for i := range pass {
			most, _ := apart(pass[i:i+1], untouched[i:i+1])
			if quiet := i < 2 || i >= 6 && i < 20; quiet != (most == 0) {
				t.Errorf("pass: frame %d differs by %d", i, most)
			}
		}
	})
}
