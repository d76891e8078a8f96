package unet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

// The test binary plays the Python of the peers where this variable is set:
// "good", or "broken" for a PyTorch that is not installed.
const peerVariable = "LIPSTREAM_TEST_PEER"

func TestMain(m *testing.M) {
	if how := os.Getenv(peerVariable); how != "" {
		os.Exit(fakePeer(how))
	}
	os.Exit(m.Run())
}

// fakePeer checks what it is told to run, and fails when the graphs are not
// there.
func fakePeer(how string) int {
	const result = `{"peer": %q, "version": %q, "load_seconds": 1, "warmup_seconds": 2, "step_seconds": [1], "median_step_seconds": 1}`
	switch filepath.Base(os.Args[1]) {
	case lab.OpenVINOScript:
		if _, err := os.Stat(filepath.Join(os.Args[2], "graph.json")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Printf(result, "openvino", "2026.4.1-1-x")
	case lab.TorchScript:
		if how == "broken" {
			fmt.Fprintln(os.Stderr, "Traceback\nModuleNotFoundError: No module named 'torch'")
			return 1
		}
		fmt.Printf(result, "torch", "2.15")
	default:
		return 2
	}
	return 0
}

// options returns small ones, for a backend that is installed. Conversions
// go into a cache folder of the test's own.
func options(t *testing.T, name string) Options {
	t.Helper()
	if testing.Short() {
		t.Skip("compiles networks")
	}
	t.Setenv(wheels.DirVariable, filepath.Dir(backendtest.Library(t, name)))
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("HOME", cache)
	return Options{Size: "tiny", Backend: name, Device: "cpu", Precision: backend.F32, Frames: 2, Latent: 8, Batch: 1, Steps: 2,
		Peer: lab.Peer{PeerScripts: "../../peers"}}
}

func TestMeasure(t *testing.T) {
	for _, name := range []string{"openvino", "onnxruntime"} {
		t.Run(name, func(t *testing.T) {
			o := options(t, name)
			o.Dump = t.TempDir()
			o.Batch, o.DeepCache, o.Nodes = 2, true, true
			r, err := o.Measure(t.Context(), func(string) {})
			if err != nil {
				t.Fatal(err)
			}
			own := r.Peers[0]
			if len(r.Peers) != 1 || own.Load <= 0 || own.Median <= 0 || len(own.Steps) != 2 || r.Backend != name {
				t.Errorf("%+v", r)
			}
			if len(own.Cheap) != 2 || own.MedianCheap <= 0 {
				t.Errorf("cheap steps %v", own.Cheap)
			}
			if n := r.Nodes; n == nil || n.All == 0 || n.Memcpy > 0 || n.CPU > 0 { // on the CPU by choice
				t.Errorf("nodes %+v", n)
			}
			if memory.SelfStatus()["RssAnon"] > 0 && (own.AnonymousLoad <= 0 || own.AnonymousStep <= 0 || own.AnonymousPeak < own.Anonymous || own.PeakRSS < own.Anonymous) {
				t.Errorf("memory %+v", own)
			}
			if r.goals() {
				t.Error("a tiny network has no goals")
			}
			text, err := os.ReadFile(filepath.Join(o.Dump, "graph.json"))
			if err != nil {
				t.Fatal(err)
			}
			checkDump(t, o.Dump, text)
			var b bytes.Buffer
			if err := r.WriteTable(&b); err != nil || !strings.Contains(b.String(), "lipstream ("+name) {
				t.Errorf("%v:\n%s", err, b.String())
			}
		})
	}
}

// checkDump: every graph is there and takes only what came before it.
func checkDump(t *testing.T, dir string, text []byte) {
	t.Helper()
	var d struct {
		Inputs []input
		Graphs []struct {
			File            string
			Inputs, Outputs []string
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, in := range d.Inputs {
		known[in.Name] = true
	}
	for _, g := range d.Graphs {
		if st, err := os.Stat(filepath.Join(dir, g.File)); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", g.File, err)
		}
		for _, name := range g.Inputs {
			if !known[name] {
				t.Errorf("%s takes %s, which nothing gives", g.File, name)
			}
		}
		for _, name := range g.Outputs {
			known[name] = true
		}
	}
	if len(d.Graphs) < 2 || !known["noise"] {
		t.Errorf("%d graphs, noise: %v", len(d.Graphs), known["noise"])
	}
}

// TestConverted: in half precision the random checkpoint is converted, and
// nothing of it is left.
func TestConverted(t *testing.T) {
	o := options(t, "openvino")
	o.Precision = backend.BF16
	r, err := o.Measure(t.Context(), func(string) {})
	if fault.KindOf(err) == fault.Usage && strings.Contains(err.Error(), "is not supported by the device") {
		t.Log(err) // this CPU
	} else if err != nil {
		t.Fatal(err)
	} else if r.Prepared == "" {
		t.Error("nothing was converted")
	}
	left, err := filepath.Glob(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "lipstream", "prepared", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestPeers(t *testing.T) {
	o := options(t, "openvino")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(peerVariable, "good")
	o.Peers = program
	r, err := o.Measure(t.Context(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Peers) != 3 || r.Peers[1].Version != "2026.4.1" || r.Peers[2].Peer != "torch" {
		t.Errorf("%+v", r.Peers)
	}
	if !slices.ContainsFunc(r.Figures, func(f bench.Figure) bool {
		return f.Key == "unet_to_torch" && f.Value == r.Peers[0].Median && f.Max == nil
	}) {
		t.Errorf("%+v", r.Figures)
	}
	t.Setenv(peerVariable, "broken")
	_, err = o.Measure(t.Context(), func(string) {})
	if fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), "No module named 'torch'") || !strings.Contains(fault.HintOf(err), "setup.sh") {
		t.Errorf("%v, %s", err, fault.HintOf(err))
	}
}

func TestRefused(t *testing.T) {
	good := Options{Size: "tiny", Device: "cpu", Precision: backend.F32, Frames: 2, Latent: 8, Batch: 1, Steps: 1}
	for want, change := range map[string]func(*Options){
		"`frames`: 25 is out":   func(o *Options) { o.Frames = 25 },
		"`latent`: 12 is not":   func(o *Options) { o.Latent = 12 },
		"`batch`: 3 is out":     func(o *Options) { o.Batch = 3 },
		"`steps`: 0 is out":     func(o *Options) { o.Steps = 0 },
		"no such file":          func(o *Options) { o.Checkpoint = "nowhere.pt" },
		"`size`: huge is":       func(o *Options) { o.Size = "huge" },
		"find the peer nowhere": func(o *Options) { o.Peers, o.PeerScripts = "python3", "nowhere" },
		"f16 is a precision":    func(o *Options) { o.Peers, o.PeerScripts, o.Precision = "python3", "../../peers", backend.F16 },
		"f8":                    func(o *Options) { o.Precision = "f8" },
	} {
		o := good
		change(&o)
		_, err := o.Measure(t.Context(), func(string) {})
		if err == nil || !strings.Contains(err.Error(), want) || fault.HintOf(err) == "" {
			t.Errorf("%v (%s), want %q", err, fault.HintOf(err), want)
		}
	}
}

// TestGoals: the goals are those of one measurement only.
func TestGoals(t *testing.T) {
	r := &Report{Channels: []int{320, 640, 1280, 1280}, Backend: "openvino", Precision: "bf16", Frames: 16, Latent: 32,
		Peers: []Result{{Timing: lab.Timing{Peer: "lipstream", Load: 6, Steps: []float64{10}, Median: 10, Memory: lab.Memory{PeakRSS: 6e9, Anonymous: 3e9}}},
			{Timing: lab.Timing{Peer: "openvino", Median: 10}}, {Timing: lab.Timing{Peer: "torch", Median: 12}}}}
	if got := strings.Join(bench.Missed(r.figures()), "; "); got != "load; peak memory; step relative to torch" {
		t.Error(got)
	}
	r.Precision = "f32"
	if got := bench.Missed(r.figures()); len(got) > 0 {
		t.Error(got)
	}
}
