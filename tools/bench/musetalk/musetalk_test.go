package musetalk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/tensor"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

// The test binary takes the place of this program and of the Python of the peer, whose
// script ends after its settings if this variable is set.
const brokenVariable = "LIPSTREAM_TEST_PEER_BROKEN"

func TestMain(m *testing.M) {
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == "musetalk-step":
		var cli struct {
			Step Step `cmd:"" name:"musetalk-step"`
		}
		err = kong.Parse(&cli, kong.BindTo(context.Background(), (*context.Context)(nil))).Run()
	case len(os.Args) > 1 && filepath.Base(os.Args[1]) == lab.MuseTalkScript:
		err = lab.Serve(os.Stdin, os.Stdout, func() (any, func() (any, error), error) {
			return settings{"torch", "2.15", 1}, func() (any, error) {
				if os.Getenv(brokenVariable) != "" {
					return nil, errors.New("out of luck")
				}
				return times{1000, 3000, 500}, nil
			}, nil
		})
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// tiny returns options for tiny checkpoints.
func tiny(t *testing.T) Options {
	t.Helper()
	if testing.Short() {
		t.Skip("compiles networks")
	}
	t.Setenv(wheels.DirVariable, filepath.Dir(backendtest.Library(t, "openvino")))
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := models.Synth(t.Context(), dir, models.SynthOptions{Engine: models.MuseTalk, Size: "tiny", Resolution: 256, TAESD: true, DType: tensor.F32}); err != nil {
		t.Fatal(err)
	}
	return Options{Models: dir, Backend: []string{"openvino"}, Precision: []backend.Precision{backend.F32}, Decoder: []string{"full", "tiny"},
		Frames: []int{1, 2}, Latent: 16, Steps: 2, Peer: lab.Peer{Peers: program, PeerScripts: "../../peers"}}
}

// TestMeasure: all configurations are measured beside the peer.
func TestMeasure(t *testing.T) {
	o := tiny(t)
	r, err := o.Measure(t.Context(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 2*2*2 || r.Published {
		t.Fatalf("%+v", r)
	}
	for i, row := range r.Rows {
		if len(row.Steps) != 2 || row.UNet <= 0 || row.Decode <= 0 || row.Both < max(row.UNet, row.Decode) || memory.SelfStatus()["RssAnon"] > 0 && (row.Anonymous == 0 || row.AnonymousPeak < row.Anonymous) {
			t.Errorf("%+v", row)
		}
		torch := i%2 == 1
		if torch != (row.Peer == "torch") || torch && (row.UNet != 1000/float64(row.Frames) || row.Both != 4000/float64(row.Frames)) {
			t.Errorf("%+v", row)
		}
		if (row.ToTorch == nil) != torch {
			t.Errorf("%+v is compared: %v", row, row.ToTorch)
		}
	}
	if own := r.Rows[2]; own.Frames != 2 || own.ToTorch.Both != bench.Median([]float64{own.Steps[0].both() / 4000, own.Steps[1].both() / 4000}) {
		t.Errorf("%+v: %+v", own, own.ToTorch)
	}
	for _, f := range r.Figures {
		if f.Max != nil {
			t.Error("a tiny network has no goals")
		}
	}
	var b bytes.Buffer
	if err := r.WriteTable(&b); err != nil || !strings.Contains(b.String(), "torch (2.15)") || !strings.Contains(b.String(), "full decoder, relative to PyTorch") {
		t.Errorf("%v:\n%s", err, b.String())
	}
}

// TestPeerFails: a peer that ends is an error that says why.
func TestPeerFails(t *testing.T) {
	o := tiny(t)
	o.Decoder, o.Frames = o.Decoder[1:], o.Frames[:1]
	t.Setenv(brokenVariable, "1")
	if _, err := o.Measure(t.Context(), func(string) {}); err == nil || !strings.Contains(err.Error(), "out of luck") {
		t.Error(err)
	}
}

// TestBest: the fastest rows are compared, each with its own number of frames.
func TestBest(t *testing.T) {
	row := func(peer string, frames int, both float64) Row {
		return Row{settings: settings{Peer: peer}, Precision: "bf16", Decoder: "full", Frames: frames, Both: both, ToTorch: &ratios{Both: 0.5}}
	}
	r := Report{Latent: 32, Published: true, Rows: []Row{row("lipstream", 1, 8), row("torch", 1, 9), row("lipstream", 4, 7), row("torch", 4, 10)}}
	r.finish()
	if len(r.Figures) != 2 || r.Figures[0].Value != 7 || r.Figures[1].Value != 7./9 || r.Figures[1].Verdict() != "ok" {
		t.Errorf("%+v", r.Figures)
	}
	r.Figures, r.Rows[3].Both = nil, 8.5
	if r.finish(); r.Figures[1].Value != 0.5 { // calls that alternated
		t.Errorf("%+v", r.Figures)
	}
}

func TestRefused(t *testing.T) {
	good := Options{Models: "nowhere", Latent: 16, Steps: 1}
	for want, change := range map[string]func(*Options){
		"`latent`: 4 is out":    func(o *Options) { o.Latent = 4 },
		"`steps`: 0 is out":     func(o *Options) { o.Steps = 0 },
		"find the peer nowhere": func(o *Options) { o.Peers, o.PeerScripts = "python3", "nowhere" },
		"find the checkpoints":  func(*Options) {},
	} {
		o := good
		change(&o)
		_, err := o.Measure(t.Context(), func(string) {})
		if err == nil || !strings.Contains(err.Error(), want) || fault.HintOf(err) == "" {
			t.Errorf("%v (%s), want %q", err, fault.HintOf(err), want)
		}
	}
}
