package bench

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipstream/lipstream/internal/fault"
)

func someFigures() []Figure {
	return []Figure{
		{Key: "r", Name: "correlation", Value: 0.8123, Min: new(0.75)},
		{Key: "lag", Name: "lag", Value: -1.5, Unit: Frames, Min: new(-1.0), Max: new(1.0), Note: "too early"},
		{Key: "silence", Name: "aperture in silence", Value: 3.21, Unit: Percent, Max: new(10.0)},
		{Key: "peak", Name: "peak memory", Value: 512 << 20, Unit: Bytes, Max: new(float64(1 << 30))},
		{Key: "still", Name: "a mouth that never moved", Value: nan, Min: new(0.75)},
		{Key: "psnr", Name: "inside", Value: 31.26, Unit: Decibel},
		{Key: "none", Name: "not asked for", Value: nan, Unit: Percent, Note: "no silence"},
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	if err := WriteTable(&b, someFigures()); err != nil {
		t.Fatal(err)
	}
	want := `figure                    value         goal
correlation               0.812         at least 0.750               ok
lag                       -1.50 frames  -1.00 frames to 1.00 frames  FAIL  too early
aperture in silence       3.2 %         at most 10.0 %               ok
peak memory               512.0 MiB     at most 1.0 GiB              ok
a mouth that never moved  -             at least 0.750               FAIL
inside                    31.3 dB
not asked for             -                                                no silence
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if got := Missed(someFigures()); !cmp.Equal(got, []string{"lag", "a mouth that never moved"}) {
		t.Errorf("missed: %q", got)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestTableReportsWriteErrors(t *testing.T) {
	if err := WriteTable(brokenPipe{}, someFigures()); err == nil {
		t.Error("no error")
	}
}

func TestFigureJSON(t *testing.T) {
	got, err := json.Marshal(someFigures()[3:6])
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"key":"peak","name":"peak memory","value":536870912,"unit":"bytes","goal_max":1073741824,"verdict":"ok"},` +
		`{"key":"still","name":"a mouth that never moved","value":null,"goal_min":0.75,"verdict":"FAIL"},` +
		`{"key":"psnr","name":"inside","value":31.26,"unit":"dB"}]`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestRunFigures(t *testing.T) {
	r := RunReport{Baseline: RunResult{Name: "ffmpeg alone", Seconds: 10, Elapsed: 2, CPU: 4}}
	r.Baseline.finish(250)
	for _, j := range []RunResult{
		{Seconds: 600, Elapsed: 400, FramesPhase: 300, MemoryPeak: 345 << 20, CPU: 700},
		{Seconds: 10, Elapsed: 20, FramesPhase: 5, MemoryPeak: 300 << 20, CPU: 12},
	} {
		j.finish(int64(j.Seconds * 25))
		r.Jobs = append(r.Jobs, j)
	}
	got := map[string]string{}
	for _, f := range r.figures() {
		got[f.Key] = Format(f.Value, f.Unit) + " " + f.Verdict()
	}
	want := map[string]string{
		"fps_600s": "37.5 fps ok", "fps_10s": "12.5 fps FAIL", "peak_600s": "345.0 MiB ok", "peak_10s": "300.0 MiB ok",
		"peak_ratio": "1.15 x FAIL", "speed_ratio": "0.30 x ", "cpu_ratio": "175.00 x ",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	r.Results = Results{r.figures()}
	var b strings.Builder
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"ffmpeg alone", "50.0 fps", "peak memory, 600 s relative to 10 s"} {
		if !strings.Contains(b.String(), part) {
			t.Errorf("%q is missing in\n%s", part, b.String())
		}
	}
}

// TestOutput checks the table, the JSON, the file and the check of goals.
func TestOutput(t *testing.T) {
	r := &SyncReport{Video: "a<b>.mp4", Results: Results{someFigures()}}
	file := filepath.Join(t.TempDir(), "report.json")
	var table, text strings.Builder
	if err := (Output{Report: file}).Write(&table, r); err != nil || !strings.HasPrefix(table.String(), "figure ") {
		t.Errorf("%v\n%s", err, table.String())
	}
	if err := (Output{JSON: true}).Write(&text, r); err != nil || !strings.Contains(text.String(), `"a<b>.mp4"`) {
		t.Errorf("%v\n%s", err, text.String())
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != text.String() {
		t.Errorf("%v\n%s", err, b)
	}
	err := Output{Check: true}.Write(io.Discard, r)
	if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "missed: lag; a mouth that never moved") {
		t.Error(err)
	}
	if err := (Output{Check: true}).Write(io.Discard, &RunReport{Results: Results{someFigures()[:1]}}); err != nil {
		t.Error(err)
	}
	if err := (Output{Report: filepath.Join(file, "x")}).Write(io.Discard, r); fault.KindOf(err) != fault.Output {
		t.Error(err)
	}
	if err := (Output{}).Write(brokenPipe{}, r); fault.KindOf(err) != fault.Output {
		t.Error(err)
	}
}

func TestSize(t *testing.T) {
	var s Size
	if err := s.UnmarshalText([]byte("1280x720")); err != nil || s != (Size{1280, 720}) || s.String() != "1280x720" {
		t.Errorf("%v, %v", s, err)
	}
	for _, text := range []string{"", "1280", "x720", "1280x721", "64x720", "9000x720", "1280x720x2"} {
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}
