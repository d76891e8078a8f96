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

// The goals of all optimisations together, relative to the original's loop in PyTorch.
const (
	goalSpeed      = 16.0
	goalSpeedFrame = 12.0 // of a frame, where windows share frames
	goalMemory     = 0.3
)

// Row is one row of the ladder. Times are in seconds, memory in bytes.
type Row struct {
	Key      string    `json:"key"`
	Name     string    `json:"name"`
	Flags    string    `json:"flags"`
	Steps    int       `json:"steps"`     // of a window
	StepsRun int       `json:"steps_run"` // in the measurement; the time is scaled
	Frames   int       `json:"frames"`    // of the clip
	Windows  int64     `json:"windows"`   // that were denoised
	Time     time.Time `json:"time,omitzero"`
	// SecondsRun is the mean time of a window in the measurement. Seconds is the time
	// for all Steps and as many frames as the window of the base has.
	SecondsRun float64 `json:"seconds_per_window_run"`
	Seconds    float64 `json:"seconds_per_window"`
	VAE        float64 `json:"vae_seconds_per_window"` // encoding and decoding as many frames
	Peak       int64   `json:"peak"`                   // resident, with ffmpeg's processes
	Anonymous  int64   `json:"peak_anonymous"`
	DeviceBusy float64 `json:"device_busy"`
	// PSNR compares the luma of the generated region with that of a base that ran the
	// same number of steps (or all, if the row changes the steps), in dB. It is nil if
	// nothing was compared, and if Exact is set.
	PSNR        *float64              `json:"psnr,omitempty"`
	Exact       bool                  `json:"exact"`
	SpeedUp     float64               `json:"speed_up"`        // relative to the base
	MemoryRatio float64               `json:"memory_ratio"`    // of the peak of the base
	ToTorch     float64               `json:"torch_speed_up"`  // relative to the loop in PyTorch; 0 without it
	TorchMemory float64               `json:"torch_memory"`    // relative to its peak
	Plan        *lipstream.MemoryPlan `json:"plan,omitempty"`  // at the end
	Note        string                `json:"note,omitempty"`  // also the reason if it was not run
	Error       string                `json:"error,omitempty"` // the reason if it failed
}

// seconds sets Seconds for a base whose window has the given number of frames.
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

// row returns the row with this key if it was measured.
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
	// The goals apply to the settings of the original's loop.
	goal := func(v float64) *float64 {
		if r.Steps == 20 && r.Frames == 16 {
			return &v
		}
		return nil
	}
	speed := bench.Figure{Key: "ladder_speed", Name: "all together relative to PyTorch, speed", Value: math.NaN(), Unit: bench.Times, Min: goal(goalSpeed)}
	size := bench.Figure{Key: "ladder_memory", Name: "all together relative to PyTorch, peak memory", Value: math.NaN(), Unit: bench.Times, Max: goal(goalMemory)}
	switch {
	case r.Loop == nil:
		speed.Note, size.Note = "not measured: set `peers`", "not measured: set `peers`"
	case !ok:
		speed.Note, size.Note = "the row \"all together\" was not measured", "the row \"all together\" was not measured"
	default:
		speed.Value, size.Value = all.ToTorch, all.TorchMemory
		speed.Note, size.Note = "a window of float32 DDIM with guidance", "resident"
	}
	r.Figures = []bench.Figure{speed, size}
	if ok && r.Loop != nil {
		overlap := min(4, r.Frames/2)
		share := float64(r.Frames-overlap) / float64(r.Frames)
		r.Figures = append(r.Figures,
			bench.Figure{Key: "ladder_speed_frames", Name: "the same per frame of a long video", Value: all.ToTorch * share, Unit: bench.Times, Min: goal(goalSpeedFrame),
				Note: fmt.Sprintf("windows share %d frames; those of the original share none", overlap)},
			bench.Figure{Key: "ladder_anonymous", Name: "all together relative to PyTorch, anonymous memory", Value: float64(all.Anonymous) / float64(r.Loop.AnonymousPeak), Unit: bench.Times})
	}
}

// WriteTable writes the rows and the figures.
func (r *Report) WriteTable(w io.Writer) error {
	m := r.Machine
	m.Threads = cmp.Or(r.Threads, m.Threads)
	rows := [][]string{{"row", "steps", "steps run", "s per window", "VAE, s per window", "speed to exact", "speed to PyTorch", "peak memory", "anonymous", "peak to exact", "peak to PyTorch", "PSNR", ""}}
	for _, row := range r.Rows {
		rows = append(rows, row.cells())
	}
	if l := r.Loop; l != nil {
		steps := strconv.Itoa(len(l.Timing.Steps))
		rows = append(rows, []string{"PyTorch " + l.Version + ", f32", strconv.Itoa(l.WindowSteps), steps, seconds(l.Seconds), "", "", "", memory.Size(l.PeakRSS), memory.Size(l.AnonymousPeak), "", "", "", ""})
	}
	heading := fmt.Sprintf("%s\n%s (%s), %d pixels, windows of %d frames\n\n", m, r.Version, r.Models, r.Resolution, r.Frames)
	return lab.WriteReport(w, heading, rows, r.remarks()+"\n", r.Figures)
}

// remarks explains the table.
func (r *Report) remarks() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Window: the time to denoise %d frames, with the loading of streamed parts, without decoding, encoding, VAE and the loading before it.\n", r.Frames)
	if slices.ContainsFunc(r.Rows, func(row Row) bool { return row.Seconds > 0 && row.StepsRun < row.Steps }) {
		fmt.Fprintf(&b, "Rows with fewer steps run than steps were measured with --quick %d: their time is scaled by the steps, and their PSNR is relative to an exact job with the same number of steps.\n", r.Quick)
	}
	if slices.ContainsFunc(r.Rows, func(row Row) bool { return strings.HasPrefix(row.Key, "tiny") }) {
		b.WriteString("VAE: encoding and decoding these frames, also by TAESD. With random weights, TAESD and the VAE have nothing in common, and the PSNR of TAESD's rows says nothing about trained ones.\n")
	}
	b.WriteString("PSNR: luma of the generated region relative to the exact job, from lossless files. Exact: no sample differs.\n")
	return b.String()
}

func seconds(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }

// cells returns the row as texts.
func (r Row) cells() []string {
	if r.Error != "" || r.Seconds == 0 {
		why := r.Note
		if r.Error != "" {
			why = "failed: " + r.Error
		}
		return []string{r.Name, strconv.Itoa(r.Steps), "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", why}
	}
	times := func(v float64) string {
		if v == 0 {
			return "-"
		}
		return bench.Format(v, bench.Times)
	}
	return []string{r.Name, strconv.Itoa(r.Steps), strconv.Itoa(r.StepsRun), seconds(r.Seconds), seconds(r.VAE), times(r.SpeedUp), times(r.ToTorch),
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

// plot draws the seconds per window as bars, with memory and PSNR in their names. The
// ending of the path selects PNG or SVG.
func (r *Report) plot(path string) error {
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
