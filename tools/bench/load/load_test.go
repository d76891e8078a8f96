package load

import (
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

func TestFigures(t *testing.T) {
	var times []time.Duration
	for i := range 100 {
		times = append(times, time.Duration(100-i)*time.Millisecond)
	}
	idle := latency(times)
	if idle != (Latency{Calls: 100, P50: 0.051, P99: 0.1}) || latency(nil) != (Latency{}) {
		t.Errorf("%+v", idle)
	}
	r := &Report{Jobs: 2, Done: 2, Events: 5, Listeners: 1, Middle: 100, End: 110, Elapsed: 60,
		Calls: []CallResult{{Call: "GET /", Idle: idle, Loaded: Latency{Calls: 9, P99: 0.5}}, {Call: "POST /v1/jobs", Loaded: idle}}}
	r.figures()
	if err := r.Missed(); err != nil {
		t.Error(err)
	}
	var b strings.Builder
	if err := r.WriteTable(&b); err != nil || !strings.Contains(b.String(), "| 5.0") || strings.Count(b.String(), "|") != 4*7 {
		t.Errorf("%v\n%s", err, b.String())
	}
	r.Done, r.Lost, r.End, r.Calls[0].Loaded.P99 = 1, 1, 200, 2
	r.figures()
	if got := bench.Missed(r.Figures); len(got) != 4 {
		t.Errorf("missed %q", got)
	}
}

func TestRefused(t *testing.T) {
	for want, o := range map[string]Options{
		"`jobs`: 0 is out":       {},
		"`listeners`: -1 is out": {Jobs: 1, Listeners: -1},
		"find lipstream nowhere": {Jobs: 1, Binary: lab.Binary{Program: "nowhere"}},
	} {
		if _, err := o.Measure(t.Context(), nil); err == nil || !strings.Contains(err.Error(), want) || fault.HintOf(err) == "" {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
