package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
)

// overTime is a chart of memory, with a gap and a lone point.
func overTime() Chart {
	nan := math.NaN()
	var x, ram, gpu []float64
	for i := range 300 {
		t := float64(i) * 2
		x = append(x, t)
		ram = append(ram, 6+3*math.Sin(t/60))
		gpu = append(gpu, 14+4*math.Sin(t/40))
	}
	gpu[100], gpu[101] = nan, nan
	return Chart{
		Title: "Memory", X: "time (s)", Y: "memory (GiB)",
		Series: []Series{
			{"host", x, ram}, {"NVIDIA GeForce RTX 4090", x, gpu},
			{"lone", []float64{300}, []float64{2}},
		},
		Lines: []Line{{"warning 15.0 GiB", 15}, {"critical 18.0 GiB", 18}},
	}
}

func ladder() Chart {
	c := Chart{Title: "Seconds per window, each switch alone", X: "seconds"}
	for i, name := range []string{
		"original's loop, PyTorch, f32, DDIM 20", "exact, f32, DDIM 20", "bf16", "DPM-Solver++ 10 steps",
		"DeepCache 3", "DeepCache 5", "frames per window 8", "VAE slicing, one frame a call", "VAE tiling 256 px",
		"attention slicing 8", "offload model", "offload sequential", "all together (a very long name that goes on and on)",
	} {
		c.Bars = append(c.Bars, Bar{name, 300 / (1 + float64(i)*1.7)})
	}
	c.Bars[6].Value = math.Inf(1)
	c.Bars[7].Value = math.NaN()
	return c
}

// folder is CHART_SAMPLES where that is set, to look at the charts.
func folder(t *testing.T) string {
	if dir := os.Getenv("CHART_SAMPLES"); dir != "" {
		return dir
	}
	return t.TempDir()
}

func TestSave(t *testing.T) {
	dir := folder(t)
	for name, c := range map[string]Chart{
		"time": overTime(), "ladder": ladder(),
		"one bar":   {Title: "one", X: "s", Bars: []Bar{{"a", 0}}},
		"negative":  {X: "dB", Bars: []Bar{{"a", -3}, {"b", 5}}},
		"one point": {Series: []Series{{"a", []float64{1e9}, []float64{7}}}},
		"only gaps": {Series: []Series{{"a", []float64{1}, []float64{math.NaN()}}}},
		"only line": {Lines: []Line{{"a", 3}}},
	} {
		path := filepath.Join(dir, name+".PNG")
		if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.Save(path); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.Decode(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if b := img.Bounds(); b.Dx() != 1440 || b.Dy() < 200 {
			t.Errorf("%s: %v", name, b)
		}
		path = filepath.Join(dir, name+".svg")
		if err := c.Save(path); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkSVG(t, path, c)
	}
}

// checkSVG reads the file as XML and looks for every name in its texts.
func checkSVG(t *testing.T, path string, c Chart) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for dec := xml.NewDecoder(bytes.NewReader(data)); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if s, ok := token.(xml.CharData); ok {
			texts = append(texts, strings.TrimSpace(string(s)))
		}
	}
	want := []string{c.Title, c.X, c.Y}
	for _, s := range c.Series {
		want = append(want, s.Name)
	}
	for _, l := range c.Lines {
		want = append(want, l.Name)
	}
	for _, b := range c.Bars {
		want = append(want, shorten(b.Name), number(b.Value))
	}
	for _, w := range want {
		if w != "" && !slices.Contains(texts, w) {
			t.Errorf("%s: no %q in %q", path, w, texts)
		}
	}
}

func TestSaveRefuses(t *testing.T) {
	good := Chart{Bars: []Bar{{"a", 1}}}
	for _, tt := range []struct {
		name string
		c    Chart
		path string
		kind fault.Kind
	}{
		{"format", good, "a.pdf", fault.Usage},
		{"no format", good, "png", fault.Usage},
		{"no folder", good, "none/a.png", fault.Output},
		{"empty", Chart{}, "a.png", fault.Internal},
		{"both", Chart{Bars: good.Bars, Lines: []Line{{"a", 1}}}, "a.png", fault.Internal},
		{"unequal", Chart{Series: []Series{{"a", []float64{1}, nil}}}, "a.png", fault.Internal},
	} {
		dir := t.TempDir()
		err := tt.c.Save(filepath.Join(dir, tt.path))
		if err == nil || fault.KindOf(err) != tt.kind {
			t.Errorf("%s: %v", tt.name, err)
		}
		if tt.kind != fault.Internal && fault.HintOf(err) == "" {
			t.Errorf("%s: no hint", tt.name)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left %v", tt.name, left)
		}
	}
}

// TestSaveLeavesNothing has the last step fail: there is a folder of the name.
func TestSaveLeavesNothing(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("renaming differs")
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a.png/x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := (Chart{Bars: []Bar{{"a", 1}}}).Save(filepath.Join(dir, "a.png")); fault.KindOf(err) != fault.Output {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}

func TestTicks(t *testing.T) {
	for _, tt := range []struct {
		low, high float64
		want      string
	}{
		{0, 10, "0 1 2 3 4 5 6 7 8 9 10"},
		{0, 600, "0 100 200 300 400 500 600"},
		{0, 0.35, "0.00 0.05 0.10 0.15 0.20 0.25 0.30 0.35"},
		{-3, 5.4, "-3 -2 -1 0 1 2 3 4 5"},
		{1e9, 1e9 + 1, "1000000000.0 1000000000.1"},
		{5, 5, ""},
		{0, math.NaN(), ""},
	} {
		var got []string
		for _, tick := range ticks(tt.low, tt.high) {
			got = append(got, tick.Label)
		}
		if s := strings.Join(got, " "); !strings.HasPrefix(s, tt.want) || len(got) > 21 {
			t.Errorf("%g to %g: %s", tt.low, tt.high, s)
		}
	}
	for v, want := range map[float64]string{0: "0.00", 0.01234: "0.0123", 0.5: "0.500", 1: "1.00", 9.876: "9.88", 42.04: "42.0", 12345: "12345", -0.2: "-0.200"} {
		if got := number(v); got != want {
			t.Errorf("number(%g) = %s, want %s", v, got, want)
		}
	}
}
