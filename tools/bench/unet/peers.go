package unet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

// input is an input of the network in graph.json.
type input struct {
	Name  string `json:"name"`
	Shape []int  `json:"shape"`
	DType string `json:"dtype"`
}

// inputs returns the inputs of the network.
func inputs(n *network.UNet) []input {
	c, s := n.Config, n.Shape
	return []input{
		{"sample", []int{s.Batch * s.Frames, c.In, s.Latent, s.Latent}, "float32"},
		{"audio", []int{s.Batch * s.Frames, s.Tokens, c.AudioDim}, "float32"},
		{"time", []int{1, c.Channels[0]}, "float32"},
	}
}

// dump writes the graphs as ONNX files whose weights stay in the checkpoint, and
// graph.json, whose format is described in openvino_graph.py.
func (u *run) dump(net *network.UNet, backendName string) error {
	if err := os.MkdirAll(u.Dump, 0o755); err != nil {
		return fault.Output.Wrap("write the graphs "+u.Dump, fault.WithoutPath(err), "set `dump` to another folder")
	}
	type graph struct {
		File    string   `json:"file"`
		Inputs  []string `json:"inputs"`
		Outputs []string `json:"outputs"`
	}
	var all struct {
		Backend string  `json:"backend"` // whose operators the graphs use
		Inputs  []input `json:"inputs"`
		Graphs  []graph `json:"graphs"`
	}
	all.Backend, all.Inputs = backendName, inputs(net)
	write := func(name string, b []byte) error {
		path := filepath.Join(u.Dump, name)
		return fault.Output.Wrap("write the graphs "+path, fault.WithoutPath(os.WriteFile(path, b, 0o644)), "set `dump` to another folder")
	}
	for _, g := range net.Graphs {
		file := g.Name() + ".onnx"
		all.Graphs = append(all.Graphs, graph{file, g.InputNames(), g.OutputNames()})
		if err := write(file, g.Encode(func(w onnx.Weight) (string, uint64) { return w.File, uint64(w.Offset) })); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fault.Internal.Wrap("write the graphs "+u.Dump, err)
	}
	return write("graph.json", append(text, '\n'))
}

// peers runs the other implementations. If the graphs are for ONNX Runtime, OpenVINO cannot
// read them, and only PyTorch runs.
func (u *run) peers(ctx context.Context) ([]Result, error) {
	common := []string{"--dtype", string(u.Precision), "--steps", strconv.Itoa(u.Steps), "--threads", strconv.Itoa(u.Threads)}
	var out []Result
	if u.report.Backend == "openvino" {
		r, err := u.peer(ctx, lab.OpenVINOScript, append([]string{u.Dump, "--runs", strconv.Itoa(2 / u.Batch)}, common...))
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	r, err := u.peer(ctx, lab.TorchScript, append([]string{"time", "--checkpoint", u.Checkpoint, "--batch", "2",
		"--frames", strconv.Itoa(u.Frames), "--latent", strconv.Itoa(u.Latent), "--device", u.Device}, common...))
	return append(out, r), err
}

// peer runs one of the scripts.
func (u *run) peer(ctx context.Context, script string, args []string) (r Result, err error) {
	u.progress("peer: " + strings.TrimSuffix(script, ".py"))
	if err := u.Peer.Run(ctx, &r, script, args...); err != nil {
		return r, err
	}
	if r.Median <= 0 || len(r.Steps) == 0 {
		return r, fault.Internal.New("read the result of "+script, "it has no times")
	}
	r.Version, _, _ = strings.Cut(r.Version, "-") // OpenVINO's version ends with the build
	u.progress(fmt.Sprintf("peer: %s %s, %.2f s per step", r.Peer, r.Version, r.Median))
	return r, nil
}

// goals reports whether the goals apply to this measurement.
func (r *Report) goals() bool {
	return slices.Equal(r.Channels, network.Published().Channels) && r.Frames == 16 && r.Latent == 32 &&
		r.Precision == "bf16" && r.Backend == "openvino"
}

// figures compares the results with the goals and the peers.
func (r *Report) figures() []bench.Figure {
	goal := func(v float64) *float64 {
		if r.goals() {
			return &v
		}
		return nil
	}
	own := r.Peers[0]
	list := []bench.Figure{
		{Key: "unet_load", Name: "load", Value: own.Load, Unit: bench.Seconds, Max: goal(goalLoad), Note: "from the prepared checkpoint"},
		{Key: "unet_step", Name: "step", Value: own.Median, Unit: bench.Seconds, Note: fmt.Sprintf("2 x %d frames, median of %d", r.Frames, len(own.Steps))},
	}
	if own.PeakRSS > 0 {
		list = append(list,
			bench.Figure{Key: "unet_anonymous", Name: "anonymous memory", Value: float64(own.Anonymous), Unit: bench.Bytes, Max: goal(goalAnonymous), Note: "after the last step"},
			bench.Figure{Key: "unet_peak", Name: "peak memory", Value: float64(own.PeakRSS), Unit: bench.Bytes, Max: goal(goalResident), Note: "resident, with mapped files"})
	}
	if own.MedianCheap > 0 {
		list = append(list, bench.Figure{Key: "unet_cheap_step", Name: "cheap step", Value: own.MedianCheap, Unit: bench.Seconds, Note: "DeepCache skips the deep layers"})
	}
	for _, p := range r.Peers[1:] {
		goals := map[string]*float64{"openvino": goal(goalOpenVINO), "torch": goal(goalTorch)}
		list = append(list, bench.Figure{Key: "unet_to_" + p.Peer, Name: "step relative to " + p.Peer, Value: own.Median / p.Median, Unit: bench.Times, Max: goals[p.Peer], Note: p.Version})
	}
	return list
}

// WriteTable writes the settings, the results and the figures.
func (r *Report) WriteTable(w io.Writer) error {
	heading := fmt.Sprintf("%s\nUNet %v (%s), %s, 2 x %d frames in batches of %d, %d x %d latents, %s, %d threads\n\n",
		r.Machine, r.Channels, r.Checkpoint, r.Precision, r.Frames, r.Batch, r.Latent, r.Latent, r.Device, r.Threads)
	seconds := func(v float64) string { return strconv.FormatFloat(v, 'f', 3, 64) + " s" }
	size := func(n int64) string {
		if n == 0 {
			return "-"
		}
		return memory.Size(n)
	}
	rows := [][]string{{"", "load", "first step", "step", "fastest step", "lipstream relative to it", "anonymous", "anonymous peak", "resident peak"}}
	for _, p := range r.Peers {
		rows = append(rows, []string{p.Peer + " (" + p.Version + ")", seconds(p.Load), seconds(p.Warmup), seconds(p.Median), seconds(slices.Min(p.Steps)),
			bench.Format(r.Peers[0].Median/p.Median, bench.Times), size(p.Anonymous), size(p.AnonymousPeak), size(p.PeakRSS)})
	}
	remarks := ""
	if n := r.Nodes; n != nil {
		remarks = fmt.Sprintf("%d nodes: %d copies to or from the host, %d casts, %d on the CPU instead of the device\n\n", n.All, n.Memcpy, n.Cast, n.CPU)
	}
	return lab.WriteReport(w, heading, rows, remarks, r.Figures)
}
