package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/latentsync/network"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// The peers' programs in tools/peers.
const (
	openvinoScript = "openvino_graph.py"
	torchScript    = "unet.py"
)

// unetInput is an input of the network, as graph.json has it.
type unetInput struct {
	Name  string `json:"name"`
	Shape []int  `json:"shape"`
	DType string `json:"dtype"`
}

// unetInputs are the network's inputs.
func unetInputs(n *network.UNet) []unetInput {
	c, s := n.Config, n.Shape
	return []unetInput{
		{"sample", []int{s.Batch * s.Frames, c.In, s.Latent, s.Latent}, "float32"},
		{"audio", []int{s.Batch * s.Frames, s.Tokens, c.AudioDim}, "float32"},
		{"time", []int{1, c.Channels[0]}, "float32"},
	}
}

// wave is what openvino_graph.py computes for input k: cos(0.31 i + 0.2) for
// even k, else sin, i counting the elements.
func wave(k int, shape []int) *tensor.Tensor {
	t := tensor.New(tensor.F32, shape...)
	f := math.Cos
	if k%2 == 1 {
		f = math.Sin
	}
	v := t.F32()
	for i := range v {
		v[i] = float32(f(0.31*float64(i) + 0.2))
	}
	return t
}

// dump writes the graphs as ONNX files whose weights stay in the checkpoint,
// and graph.json, which openvino_graph.py describes.
func (u *unetBench) dump(net *network.UNet, backendName string) error {
	if err := os.MkdirAll(u.Dump, 0o755); err != nil {
		return fault.Output.Wrap("write the graphs "+u.Dump, err, "give another --dump")
	}
	type graph struct {
		File    string   `json:"file"`
		Inputs  []string `json:"inputs"`
		Outputs []string `json:"outputs"`
	}
	var all struct {
		Backend string      `json:"backend"` // that the operators are for
		Inputs  []unetInput `json:"inputs"`
		Graphs  []graph     `json:"graphs"`
	}
	all.Backend, all.Inputs = backendName, unetInputs(net)
	write := func(name string, b []byte) error {
		path := filepath.Join(u.Dump, name)
		return fault.Output.Wrap("write the graphs "+path, os.WriteFile(path, b, 0o644), "give another --dump")
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

// peers runs the other implementations. ONNX Runtime's dialect of the graphs
// is nothing for OpenVINO, so of those only PyTorch remains.
func (u *unetBench) peers(ctx context.Context) ([]UNetResult, error) {
	common := []string{"--dtype", string(u.Precision), "--steps", strconv.Itoa(u.Steps), "--threads", strconv.Itoa(u.Threads)}
	var out []UNetResult
	if u.report.Backend == "openvino" {
		r, err := u.peer(ctx, append([]string{openvinoScript, u.Dump, "--runs", strconv.Itoa(2 / u.Batch)}, common...))
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	r, err := u.peer(ctx, append([]string{torchScript, "time", "--checkpoint", u.Checkpoint, "--batch", "2",
		"--frames", strconv.Itoa(u.Frames), "--latent", strconv.Itoa(u.Latent)}, common...))
	return append(out, r), err
}

// peer runs one of the scripts.
func (u *unetBench) peer(ctx context.Context, args []string) (r UNetResult, err error) {
	script := filepath.Join(u.PeerScripts, args[0])
	u.Progress("peer: " + strings.TrimSuffix(args[0], ".py"))
	cmd := exec.CommandContext(ctx, u.Peers, append([]string{script}, args[1:]...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Cancel = func() error { return interrupt(cmd.Process) }
	cmd.WaitDelay = 10 * time.Second
	ownGroup(cmd)
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return r, fault.Cancelled.Wrap("measure", ctx.Err())
	case err != nil:
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return r, fault.Missing.Wrap("run the peer "+script, fmt.Errorf("%w: %s", err, lines[len(lines)-1]),
			"make the Python environment with tools/peers/setup.sh PATH and give --peers PATH/bin/python")
	}
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil || r.Median <= 0 || len(r.Steps) == 0 {
		return r, fault.Internal.New("read the result of "+script, fmt.Sprintf("%q has no times", stdout.String()))
	}
	r.Version, _, _ = strings.Cut(r.Version, "-") // OpenVINO's goes on with the build
	u.Progress(fmt.Sprintf("peer: %s %s, %.2f s per step", r.Peer, r.Version, r.Median))
	return r, nil
}

// goals tells whether this is the measurement that goals are set for.
func (r *UNetReport) goals() bool {
	published := network.Published().Channels
	return fmt.Sprint(r.Channels) == fmt.Sprint(published) && r.Frames == 16 && r.Latent == 32 &&
		r.Precision == "bf16" && r.Backend == "openvino"
}

// figures compare with the goals and the peers.
func (r *UNetReport) figures() []Figure {
	goal := func(v float64) *float64 {
		if r.goals() {
			return &v
		}
		return nil
	}
	own := r.Results[0]
	list := []Figure{
		{Key: "unet_load", Name: "load", Value: own.Load, Unit: Seconds, Max: goal(goalLoad), Note: "from the prepared checkpoint"},
		{Key: "unet_step", Name: "step", Value: own.Median, Unit: Seconds, Note: fmt.Sprintf("2 x %d frames, median of %d", r.Frames, len(own.Steps))},
	}
	if own.PeakRSS > 0 {
		list = append(list,
			Figure{Key: "unet_anonymous", Name: "anonymous memory", Value: float64(own.Anonymous), Unit: Bytes, Max: goal(goalAnonymous), Note: "after the last step"},
			Figure{Key: "unet_peak", Name: "peak memory", Value: float64(own.PeakRSS), Unit: Bytes, Max: goal(goalResident), Note: "resident, with mapped files"})
	}
	for _, p := range r.Results[1:] {
		f := Figure{Key: "unet_to_" + p.Peer, Name: "step to that of " + p.Peer, Value: own.Median / p.Median, Unit: Times, Note: p.Version}
		switch p.Peer {
		case "openvino":
			f.Max = goal(goalOpenVINO)
		case "torch":
			f.Max = goal(goalTorch)
		}
		list = append(list, f)
	}
	return list
}

// WriteTable prints what was measured, the results and the figures.
func (r *UNetReport) WriteTable(w io.Writer) error {
	m := r.Machine
	if _, err := fmt.Fprintf(w, "lipstream %s, %s/%s, %s, %d processors, %s memory\nUNet %v (%s), %s, 2 x %d frames in batches of %d, %d x %d latents, %d threads\n\n",
		m.Lipstream, m.OS, m.Arch, m.CPU, m.Threads, memory.Size(m.Memory),
		r.Channels, r.Checkpoint, r.Precision, r.Frames, r.Batch, r.Latent, r.Latent, r.Threads); err != nil {
		return err
	}
	rows := [][]string{{"", "load", "first step", "step", "fastest step", "lipstream to it", "anonymous", "anonymous peak", "resident peak"}}
	for _, p := range r.Results {
		seconds := func(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) + " s" }
		size := func(n int64) string {
			if n == 0 {
				return "-"
			}
			return memory.Size(n)
		}
		rows = append(rows, []string{p.Peer + " (" + p.Version + ")", seconds(p.Load), seconds(p.Warmup), seconds(p.Median), seconds(slices.Min(p.Steps)),
			format(r.Results[0].Median/p.Median, Times), size(p.Anonymous), size(p.AnonymousPeak), size(p.PeakRSS)})
	}
	if err := writeRows(w, rows); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return WriteTable(w, r.Figures)
}
