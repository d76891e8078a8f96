package musetalk

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"

	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

// finish computes the medians.
func (r *Row) finish() {
	median := func(of func(times) float64) float64 {
		v := make([]float64, len(r.Steps))
		for i, t := range r.Steps {
			v[i] = of(t) / float64(r.Frames)
		}
		return bench.Median(v)
	}
	r.UNet, r.Decode, r.Both, r.CPU = median(times.unet), median(times.decoder), median(times.both), median(times.cpu)
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(text), &r.LoadAverage)
	}
}

// compare returns the ratios of the steps of two implementations.
func compare(own, torch []times) *ratios {
	median := func(of func(times) float64) float64 {
		v := make([]float64, len(own))
		for i := range own {
			v[i] = of(own[i]) / of(torch[i])
		}
		return bench.Median(v)
	}
	return &ratios{median(times.unet), median(times.decoder), median(times.both), median(times.cpu)}
}

// name returns the implementation.
func (r Row) name() string { return r.Peer + " (" + r.Version + ")" }

// finish compares the best results with the goal, and reports the number of frames per call
// that was fastest.
func (r *Report) finish() {
	for _, decoder := range []string{"full", "tiny"} {
		own, torch := r.best(decoder, "lipstream"), r.best(decoder, "torch")
		if own == nil {
			continue
		}
		key := "musetalk_" + decoder
		r.Figures = append(r.Figures, bench.Figure{Key: key, Name: decoder + " decoder, a frame", Value: own.Both, Unit: bench.Seconds,
			Note: fmt.Sprintf("%s, %s, %d frames per call", own.Version, own.Precision, own.Frames)})
		if torch == nil {
			continue
		}
		f := bench.Figure{Key: key + "_to_torch", Name: decoder + " decoder, relative to PyTorch", Value: own.Both / torch.Both, Unit: bench.Times,
			Note: fmt.Sprintf("%s, %d frames per call", torch.Precision, torch.Frames)}
		if own.Frames == torch.Frames && own.Precision == torch.Precision {
			f.Value = own.ToTorch.Both
		}
		if r.Latent == 32 && r.Published {
			goal := goalTorch
			f.Max = &goal
		}
		r.Figures = append(r.Figures, f)
	}
}

// best returns the fastest row of an implementation, or nil.
func (r *Report) best(decoder, peer string) *Row {
	var best *Row
	for i := range r.Rows {
		row := &r.Rows[i]
		if row.Decoder == decoder && row.Peer == peer && (best == nil || row.Both < best.Both) {
			best = row
		}
	}
	return best
}

// WriteTable writes the settings, the results and the figures.
func (r *Report) WriteTable(w io.Writer) error {
	m := r.Machine
	m.Threads = r.Threads
	heading := fmt.Sprintf("%s\n%s, %d x %d latents; seconds of a frame\n\n", m, r.Models, r.Latent, r.Latent)
	rows := [][]string{{"", "precision", "decoder", "frames per call", "UNet", "decoder", "both", "CPU time", "UNet to PyTorch", "decoder to PyTorch", "both to PyTorch", "CPU time to PyTorch", "anonymous peak", "resident peak", "load average"}}
	for _, row := range r.Rows {
		cells := []string{row.name(), string(row.Precision), row.Decoder, strconv.Itoa(row.Frames)}
		for _, v := range []float64{row.UNet, row.Decode, row.Both, row.CPU} {
			cells = append(cells, strconv.FormatFloat(v, 'f', 3, 64))
		}
		t := row.ToTorch
		if t == nil {
			nan := math.NaN()
			t = &ratios{nan, nan, nan, nan}
		}
		for _, v := range []float64{t.UNet, t.Decoder, t.Both, t.CPU} {
			cells = append(cells, bench.Format(v, bench.Times))
		}
		rows = append(rows, append(cells, memory.Size(row.AnonymousPeak), memory.Size(row.PeakRSS), strconv.FormatFloat(row.LoadAverage, 'f', 1, 64)))
	}
	return lab.WriteReport(w, heading, rows, "Ratios are the medians of the ratios of calls that ran one after the other.\n\n", r.Figures)
}
