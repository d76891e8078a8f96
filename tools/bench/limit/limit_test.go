package limit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/tools/bench/cgroup"
	"github.com/lipstream/lipstream/tools/bench/lab"
	"github.com/lipstream/lipstream/tools/bench/lab/labtest"
)

func TestMain(m *testing.M) {
	if code, ok := labtest.Run(); ok {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// TestFigures: everything that must hold is checked.
func TestFigures(t *testing.T) {
	good := Result{Limit: 3000, Frames: 16, Anonymous: 2999, Samples: 5}
	r := &Report{Jobs: []Result{good}, Refused: &Result{Limit: 300, ExitCode: 7, Elapsed: 2, Message: "at least 1 GiB"}}
	if r.Figures = r.figures(16); len(bench.Missed(r.Figures)) > 0 {
		t.Errorf("missed %v", bench.Missed(r.Figures))
	}
	for want, change := range map[string]func(*Report){
		"exit code":        func(r *Report) { r.Jobs[0].ExitCode = -1 },
		"frames":           func(r *Report) { r.Jobs[0].Frames = 15 },
		"anonymous":        func(r *Report) { r.Jobs[0].Anonymous = 3000 },
		"anonymous memory": func(r *Report) { r.Jobs[0].Samples = 0 },
		"swap":             func(r *Report) { r.Jobs[0].Swap = 1 },
		"300 B, exit code": func(r *Report) { r.Refused.ExitCode = 0 },
		"failed after":     func(r *Report) { r.Refused.Elapsed = 31 },
	} {
		refused := *r.Refused
		bad := &Report{Jobs: []Result{good}, Refused: &refused}
		change(bad)
		if missed := bench.Missed(bad.figures(16)); len(missed) != 1 || !strings.Contains(missed[0], want) {
			t.Errorf("missed %v, want %s", missed, want)
		}
	}
	var b bytes.Buffer
	if err := r.WriteTable(&b); err != nil || !strings.Contains(b.String(), "at least 1 GiB") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// TestMeasure runs the stand-in for lipstream inside real control groups.
func TestMeasure(t *testing.T) {
	g, err := cgroup.New(256 << 20)
	if fault.KindOf(err) == fault.Missing && err != nil {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	program, models, runs := labtest.Setup(t)
	var groups []string
	o := Options{Binary: lab.Binary{Program: program}, Models: models, Limits: []lipstream.Size{512 << 20}, Frames: 3, Steps: 2}
	// The job ends once its memory was seen: the kernel counts late, and the job is short.
	seen := filepath.Join(t.TempDir(), "seen")
	t.Setenv(labtest.Until, seen)
	o.sampled = func(u cgroup.Usage) {
		if u.Anonymous > 0 {
			if err := os.WriteFile(seen, nil, 0o600); err != nil {
				t.Error(err)
			}
		}
	}
	progress := func(line string) {
		if _, dir, ok := strings.Cut(line, ": in "); ok {
			groups = append(groups, dir)
		}
	}
	r, err := o.Measure(t.Context(), progress)
	if err != nil {
		t.Fatal(err)
	}
	j := r.Jobs[0]
	if missed := bench.Missed(r.Figures); len(missed) > 0 || j.Frames != 3 || j.Anonymous <= 0 || j.Samples < 2 || j.Peak <= 0 || j.Seconds != 2 {
		t.Errorf("missed %v: %+v", missed, j)
	}
	if last := runs(); !strings.Contains(last[0], "--memory-limit "+strconv.Itoa(512<<20)) {
		t.Error(last)
	}

	none := o
	none.Models = "nowhere"
	if _, err := none.Measure(t.Context(), progress); fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("without checkpoints: %v", err)
	}

	// A job that fails is a result; its exit code and its message are kept.
	t.Setenv(labtest.Broken, "none")
	o.Limits, o.TooSmall = nil, 256<<20
	r, err = o.Measure(t.Context(), progress)
	if err != nil {
		t.Fatal(err)
	}
	if missed := bench.Missed(r.Figures); len(missed) > 0 || r.Refused.ExitCode != int(fault.Memory) || !strings.Contains(r.Refused.Message, "no memory: take more") {
		t.Errorf("missed %v: %+v", missed, r.Refused)
	}

	// Nothing is left of the groups.
	for _, dir := range groups {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if len(groups) != 2 {
		t.Errorf("groups %v", groups)
	}
}
