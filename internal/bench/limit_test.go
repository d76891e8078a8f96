package bench

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
)

// TestLimitFigures: everything that must hold is looked at.
func TestLimitFigures(t *testing.T) {
	good := LimitResult{Limit: 3000, Frames: 16, Anonymous: 2999, Samples: 5}
	r := &LimitReport{Jobs: []LimitResult{good}, Refused: &LimitResult{Limit: 300, ExitCode: 7, Elapsed: 2, Message: "at least 1 GiB"}}
	if r.Figures = r.figures(16); len(Missed(r.Figures)) > 0 {
		t.Errorf("missed %v", Missed(r.Figures))
	}
	for want, change := range map[string]func(*LimitReport){
		"exit code":        func(r *LimitReport) { r.Jobs[0].ExitCode = -1 },
		"frames":           func(r *LimitReport) { r.Jobs[0].Frames = 15 },
		"anonymous":        func(r *LimitReport) { r.Jobs[0].Anonymous = 3000 },
		"anonymous memory": func(r *LimitReport) { r.Jobs[0].Samples = 0 },
		"swap":             func(r *LimitReport) { r.Jobs[0].Swap = 1 },
		"300 B, exit code": func(r *LimitReport) { r.Refused.ExitCode = 0 },
		"refused within":   func(r *LimitReport) { r.Refused.Elapsed = 31 },
	} {
		refused := *r.Refused
		bad := &LimitReport{Jobs: []LimitResult{good}, Refused: &refused}
		change(bad)
		if missed := Missed(bad.figures(16)); len(missed) != 1 || !strings.Contains(missed[0], want) {
			t.Errorf("missed %v, want %s", missed, want)
		}
	}
	var b bytes.Buffer
	if err := r.WriteTable(&b); err != nil || !strings.Contains(b.String(), "at least 1 GiB") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// TestLimit runs the stand-in for lipstream inside real control groups.
func TestLimit(t *testing.T) {
	newCgroup(t, 256<<20) // or skip
	lo, log := ladderOptions(t)
	o := LimitOptions{Program: lo.Program, Models: lo.Models, Limits: []int64{512 << 20}, Frames: 3, Steps: 2}
	t.Setenv(runDefaults, "1")
	r, err := Limit(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	j := r.Jobs[0]
	if missed := Missed(r.Figures); len(missed) > 0 || j.Frames != 3 || j.Anonymous <= 0 || j.Samples < 2 || j.Peak <= 0 || !near(j.Seconds, 2) {
		t.Errorf("missed %v: %+v", missed, j)
	}
	text, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(text), "--memory-limit "+strconv.Itoa(512<<20)) {
		t.Errorf("%v: %s", err, text)
	}

	none := o
	none.Models = "nowhere"
	if _, err := Limit(t.Context(), none); fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("without checkpoints: %v", err)
	}

	// A job that fails is a result; its exit code and its message are kept.
	t.Setenv(brokenVariable, "none")
	o.Limits, o.TooSmall = nil, 256<<20
	r, err = Limit(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if missed := Missed(r.Figures); len(missed) > 0 || r.Refused.ExitCode != int(fault.Memory) || !strings.Contains(r.Refused.Message, "no memory: take more") {
		t.Errorf("missed %v: %+v", missed, r.Refused)
	}
}

// TestLimitLeavesNoGroup: nothing is left of the groups, also after an interrupt.
func TestLimitLeavesNoGroup(t *testing.T) {
	g := newCgroup(t, 256<<20)
	parent := filepath.Dir(g.Dir)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(parent, "lipstream-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
	if _, err := g.Usage(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("usage of a group that is gone: %v", err)
	}
}
