package cpu

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/pprof/profile"

	"github.com/lipstream/lipstream/internal/bench"
)

// stack returns a sample of 10 ms; its functions begin with the innermost.
func stack(p *profile.Profile, functions ...string) {
	s := &profile.Sample{Value: []int64{1, 10e6}}
	for _, name := range functions {
		f := &profile.Function{ID: uint64(len(p.Function) + 1), Name: name}
		l := &profile.Location{ID: f.ID, Line: []profile.Line{{Function: f}}}
		p.Function, p.Location, s.Location = append(p.Function, f), append(p.Location, l), append(s.Location, l)
	}
	p.Sample = append(p.Sample, s)
}

func TestParts(t *testing.T) {
	const module = "github.com/lipstream/lipstream/internal/"
	p := &profile.Profile{SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}}}
	stack(p, "syscall.read", module+"media.(*VideoSource).Read", module+"media.(*Sequence).Read")
	stack(p, "syscall.write", module+"media.(*Sink).Write")
	stack(p, module+"frame.warpYUV[go.shape.uint8]", module+"frame.(*Frame).Warp", module+"face.(*Tracker).Push")
	stack(p, module+"face.smooth", module+"face.(*Tracker).Push")
	stack(p, "runtime.asyncPreempt", module+"preview.(*patch).cubic", module+"preview.(*Engine).compose", module+"preview.(*Engine).Push")
	stack(p, module+"preview.(*field).triangle", module+"preview.(*Engine).warp", module+"preview.(*Engine).Push")
	stack(p, "[libopenvino.so]", "runtime._ExternalCode")
	stack(p, "runtime.gcBgMarkWorker")
	var data bytes.Buffer
	if err := p.Write(&data); err != nil {
		t.Fatal(err)
	}
	got, err := parts(data.Bytes(), 0.1) // 20 ms are not in the profile
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{pipes: 0.02, conversions: 0.01, faces: 0.01, composite: 0.01, engine: 0.01, networks: 0.01, other: 0.03}
	if d := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-9)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if len(got) != len(allParts) {
		t.Errorf("%d parts, the table has %d", len(got), len(allParts))
	}
}

// TestReport checks the goals: 16 ms at 1080p, and memory in proportion to the pool.
func TestReport(t *testing.T) {
	r := &Report{Codec: "hevc", Frames: 250, Rounds: 3}
	for _, size := range []struct{ w, h int64 }{{1280, 720}, {1080, 1920}, {3840, 2160}} {
		frame := size.w * size.h * 3 / 2
		r.Jobs = append(r.Jobs, Result{Size: bench.Size{Width: int(size.w), Height: int(size.h)}.String(), Own: 13, Extra: 2, FFmpeg: 50,
			Frame: frame, Pool: 25, Peak: 200<<20 + 28*frame, Parts: map[string]float64{engine: 7.25}})
	}
	figures := map[string]bench.Figure{}
	for _, f := range r.figures() {
		figures[f.Key] = f
	}
	if f := figures["own_1080x1920"]; f.Value != 15 || f.Verdict() != "ok" {
		t.Errorf("%+v: %s", f, f.Verdict())
	}
	if f := figures["memory_pool"]; math.Abs(f.Value-28.0/25) > 1e-6 || f.Verdict() != "ok" {
		t.Errorf("%+v: %s", f, f.Verdict())
	}
	r.Jobs[2].Peak += 4 * r.Jobs[2].Frame
	r.Jobs[1].Extra = 3.5
	for _, f := range r.figures() {
		if f.Max != nil && f.Verdict() != "FAIL" {
			t.Errorf("%+v: %s", f, f.Verdict())
		}
	}
	var table bytes.Buffer
	if err := r.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(table.String(), "| 1080x1920 |") || !strings.Contains(table.String(), " 7.2 ") {
		t.Errorf("the table is\n%s", &table)
	}
}

// TestHolds checks that fewer large frames are held back than small ones.
func TestHolds(t *testing.T) {
	small, err := holds(t.Context(), bench.Size{Width: 1280, Height: 720})
	if err != nil {
		t.Fatal(err)
	}
	large, err := holds(t.Context(), bench.Size{Width: 7680, Height: 4320})
	if err != nil || small != bench.ClipRate || large >= small {
		t.Errorf("%d frames of 720p and %d of 8K are held back, %v", small, large, err)
	}
}
