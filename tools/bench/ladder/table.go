package ladder

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/chart"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

// The goals of all switches together against the original's loop in PyTorch.
const (
	goalSpeed  = 8.0
	goalMemory = 0.5
)

// Row is one row of the ladder. Times are in seconds, memory in bytes.
type Row struct {
	Key      string    `json:"key"`
	Name     string    `json:"name"`
	Flags    string    `json:"flags"`
	Steps    int       `json:"steps"`     // of a window
	StepsRun int       `json:"steps_run"` // in the measurement, whose time is scaled
	Frames   int       `json:"frames"`    // of the clip
	Windows  int64     `json:"windows"`   // that were denoised
	Time     time.Time `json:"time,omitzero"`
	// SecondsRun is the mean time of a window as it was run. Seconds is the time
	// for as many frames as the base's window has, with all Steps.
	SecondsRun float64 `json:"seconds_per_window_run"`
	Seconds    float64 `json:"seconds_per_window"`
	Peak       int64   `json:"peak"` // resident, with ffmpeg's processes
	Anonymous  int64   `json:"peak_anonymous"`
	DeviceBusy float64 `json:"device_busy"`
	// PSNR compares the generated region with that of a base with as many steps
	// run (rows that change the steps: the full base): luma, dB. It is nil where
	// nothing was compared, and where Exact.
	PSNR        *float64              `json:"psnr,omitempty"`
	Exact       bool                  `json:"exact"`
	SpeedUp     float64               `json:"speed_up"`        // to the base
	MemoryRatio float64               `json:"memory_ratio"`    // of the base's peak
	ToTorch     float64               `json:"torch_speed_up"`  // to the loop in PyTorch; 0 without one
	TorchMemory float64               `json:"torch_memory"`    // of its peak
	Plan        *lipstream.MemoryPlan `json:"plan,omitempty"`  // in the end
	Note        string                `json:"note,omitempty"`  // also why it was not run
	Error       string                `json:"error,omitempty"` // why it failed
}

// seconds computes Seconds for a base whose window has so many frames.
func (r *Row) seconds(window int) {
	r.Seconds = r.SecondsRun * float64(r.Windows) * float64(window) / float64(r.Frames) * float64(r.Steps) / float64(r.StepsRun)
}

// Report is the result of Measure.
type Report struct {
	Machine    bench.Machine `json:"machine"`
	Models     string        `json:"models"`
	Version    string        `json:"version"`
	Resolution int           `json:"resolution"`
	Backend    string        `json:"backend"`
	Threads    int           `json:"threads"`
	Steps      int           `json:"steps"`
	Quick      int           `json:"quick"`
	Frames     int           `json:"frames"`
	Rows       []Row         `json:"rows"`
	Loop       *LoopResult   `json:"loop,omitempty"` // in PyTorch
	bench.Results
}

// row returns a row that was measured.
func (r *Report) row(key string) (Row, bool) {
	i := slices.IndexFunc(r.Rows, func(row Row) bool { return row.Key == key && row.Seconds > 0 && row.Error == "" })
	if i < 0 {
		return Row{}, false
	}
	return r.Rows[i], true
}

// finish compares the rows with PyTorch and with the goals.
func (r *Report) finish() {
	for i := range r.Rows {
		if row := &r.Rows[i]; r.Loop != nil && row.Seconds > 0 {
			row.ToTorch = r.Loop.Seconds / row.Seconds
			row.TorchMemory = float64(row.Peak) / float64(r.Loop.PeakRSS)
		}
	}
	all, ok := r.row(rowAll)
	// The goals are set for the original's loop.
	goal := func(v float64) *float64 {
		if r.Steps == 20 && r.Frames == 16 {
			return &v
		}
		return nil
	}
	speed := bench.Figure{Key: "ladder_speed", Name: "all together to PyTorch, speed", Value: math.NaN(), Unit: bench.Times, Min: goal(goalSpeed)}
	size := bench.Figure{Key: "ladder_memory", Name: "all together to PyTorch, peak memory", Value: math.NaN(), Unit: bench.Times, Max: goal(goalMemory)}
	switch {
	case r.Loop == nil:
		speed.Note, size.Note = "set `peers`", "set `peers`"
	case !ok:
		speed.Note, size.Note = "all together was not measured", "all together was not measured"
	default:
		speed.Value, size.Value = all.ToTorch, all.TorchMemory
		speed.Note, size.Note = "a window of float32 DDIM with guidance", "resident"
	}
	r.Figures = []bench.Figure{speed, size}
	if ok && r.Loop != nil {
		overlap := min(4, r.Frames/2)
		share := float64(r.Frames-overlap) / float64(r.Frames)
		r.Figures = append(r.Figures,
			bench.Figure{Key: "ladder_speed_frames", Name: "the same for a frame of a long video", Value: all.ToTorch * share, Unit: bench.Times,
				Note: fmt.Sprintf("windows share %d frames, the original's none", overlap)},
			bench.Figure{Key: "ladder_anonymous", Name: "all together to PyTorch, anonymous memory", Value: float64(all.Anonymous) / float64(r.Loop.AnonymousPeak), Unit: bench.Times})
	}
}

// WriteTable writes the ladder in Markdown, and the figures.
func (r *Report) WriteTable(w io.Writer) error {
	m := r.Machine
	m.Threads = cmp.Or(r.Threads, m.Threads)
	if _, err := fmt.Fprintf(w, "%s\n%s (%s), %d pixels, windows of %d frames\n\n", m, r.Version, r.Models, r.Resolution, r.Frames); err != nil {
		return err
	}
	rows := [][]string{{"switch", "steps", "steps run", "s per window", "to exact", "to PyTorch", "peak memory", "anonymous", "peak to exact", "peak to PyTorch", "PSNR", ""}}
	for _, row := range r.Rows {
		rows = append(rows, row.cells())
	}
	if l := r.Loop; l != nil {
		steps := strconv.Itoa(len(l.StepSeconds))
		rows = append(rows, []string{"PyTorch " + l.Version + ", f32", strconv.Itoa(l.Steps), steps, seconds(l.Seconds), "", "", memory.Size(l.PeakRSS), memory.Size(l.AnonymousPeak), "", "", "", ""})
	}
	if err := lab.WriteMarkdown(w, rows); err != nil {
		return err
	}
	if _, err := fmt.Fprint(w, "\n"+r.remarks()+"\n"); err != nil {
		return err
	}
	return bench.WriteTable(w, r.Figures)
}

// remarks returns how it was measured.
func (r *Report) remarks() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Window: denoising %d frames of video, loads of streamed parts included; coding, VAE and loading before it are not.\n", r.Frames)
	if slices.ContainsFunc(r.Rows, func(row Row) bool { return row.Seconds > 0 && row.StepsRun < row.Steps }) {
		fmt.Fprintf(&b, "Rows with fewer steps run than steps: run with --quick %d, their time scaled by the steps, their PSNR to an exact job of as many steps.\n", r.Quick)
	}
	b.WriteString("PSNR: the generated region to the exact job's, luma, from lossless files; exact: no sample differs.\n")
	return b.String()
}

func seconds(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }

// cells returns the texts of the row.
func (r Row) cells() []string {
	if r.Error != "" || r.Seconds == 0 {
		why := r.Note
		if r.Error != "" {
			why = "failed: " + r.Error
		}
		return []string{r.Name, strconv.Itoa(r.Steps), "-", "-", "-", "-", "-", "-", "-", "-", "-", why}
	}
	times := func(v float64) string {
		if v == 0 {
			return "-"
		}
		return bench.Format(v, bench.Times)
	}
	return []string{r.Name, strconv.Itoa(r.Steps), strconv.Itoa(r.StepsRun), seconds(r.Seconds), times(r.SpeedUp), times(r.ToTorch),
		memory.Size(r.Peak), memory.Size(r.Anonymous), times(r.MemoryRatio), times(r.TorchMemory), r.quality(), r.Note}
}

// quality returns the PSNR as text.
func (r Row) quality() string {
	switch {
	case r.Exact:
		return "exact"
	case r.PSNR != nil:
		return bench.Format(*r.PSNR, bench.Decibel)
	}
	return "-"
}

// Plot draws the seconds per window as bars, with memory and PSNR beside the
// names: a PNG or an SVG, by the ending.
func (r *Report) Plot(path string) error {
	c := chart.Chart{Title: "Seconds per window of " + strconv.Itoa(r.Frames) + " frames", X: "seconds (bars: less is better)"}
	bar := func(name string, v float64, notes ...string) {
		c.Bars = append(c.Bars, chart.Bar{Name: name + " (" + strings.Join(notes, ", ") + ")", Value: v})
	}
	for _, row := range r.Rows {
		if row.Seconds > 0 && row.Error == "" {
			notes := []string{memory.Size(row.Peak)}
			if q := row.quality(); q != "-" {
				notes = append(notes, q)
			}
			bar(row.Name, row.Seconds, notes...)
		}
	}
	if r.Loop != nil {
		bar("PyTorch f32", r.Loop.Seconds, memory.Size(r.Loop.PeakRSS))
	}
	return c.Save(path)
}
