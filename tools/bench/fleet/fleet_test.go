package fleet

import (
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/fault"
)

// TestMeasure runs a small fleet. It checks what must hold on any machine.
func TestMeasure(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes 15 s")
	}
	t.Parallel()
	r, err := Options{Workers: 6, Jobs: 40, Task: 50 * time.Millisecond, Lease: 2 * time.Second, Lose: 0.34}.Measure(t.Context(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if r.Done != 40 || r.Twice != 0 || r.Lost > 2 || r.Shares[2] < 1 || r.Requests < 1 || r.Rows[0].Workers != 6 || r.Rows[1].Workers != 4 {
		t.Errorf("%+v", r)
	}
	var b strings.Builder
	if err := r.WriteTable(&b); err != nil || strings.Count(b.String(), "|") != 4*6 || !strings.Contains(b.String(), "high") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestOvertaken(t *testing.T) {
	s := &run{order: map[string]int{"a": 0, "b": 1, "high": 3, "c": 4, "d": 5}}
	for want, started := range map[float64][]string{0: {"high", "a", "b", "c", "d"}, 3: {"b", "c", "high", "d", "a"}} {
		if s.started = started; s.overtaken() != want {
			t.Errorf("%v: %v, want %v", started, s.overtaken(), want)
		}
	}
}

func TestFigures(t *testing.T) {
	good := Report{Options: Options{Workers: 10, Jobs: 5, Lease: time.Second}, Done: 5, Rows: []Row{{Jobs: 9, Ideal: 10}, {Jobs: 9, Ideal: 10}}}
	bad := Report{Options: good.Options, Done: 4, Twice: 1, Recovery: 20, Idle: 9, Order: 11, Rows: []Row{{Jobs: 1, Ideal: 10}, {Jobs: 1, Ideal: 10}}}
	if good.figures(); good.Missed() != nil {
		t.Error(good.Missed())
	}
	if bad.figures(); len(bench.Missed(bad.Figures)) != 7 {
		t.Errorf("missed %q", bench.Missed(bad.Figures))
	}
}

func TestRefused(t *testing.T) {
	for want, o := range map[string]Options{
		"`workers`: 1 is out": {Workers: 1},
		"`jobs`: 1 is out":    {Workers: 2, Jobs: 1},
		"`lose`: 1 is out":    {Workers: 2, Jobs: 10, Lose: 1},
		"`task`: 0s is no":    {Workers: 2, Jobs: 10},
	} {
		if _, err := o.Measure(t.Context(), nil); err == nil || !strings.Contains(err.Error(), want) || fault.HintOf(err) == "" {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
