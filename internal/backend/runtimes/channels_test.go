package runtimes

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// card computes on the CPU what ONNX Runtime has for CUDA.
type card struct {
	backendtest.Lowered
	refuses error  // what it returns for the operators for CUDA
	spoils  string // an output whose first number is wrong
}

func (c card) Load(ctx context.Context, m backend.Model, o backend.Options) (backend.Session, error) {
	onlyCUDA := slices.ContainsFunc(m.Graph.Nodes, func(n onnx.Node) bool { return n.Op == "NhwcConv" })
	if onlyCUDA && c.refuses != nil {
		return nil, c.refuses
	}
	o.Device, o.Precision = "cpu", backend.Auto
	s, err := c.Lowered.Load(ctx, m, o)
	return cardSession{s, c.spoils, onlyCUDA}, err
}

type cardSession struct {
	backend.Session
	spoils   string
	onlyCUDA bool
}

func (s cardSession) Run(ctx context.Context, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	out, err := s.Session.Run(ctx, in)
	if y := out[s.spoils]; s.onlyCUDA && y != nil {
		y.F32()[0]++
	}
	return out, err
}

// TestChannelsLast tries devices that compute the operators for CUDA, do not have them, and
// compute one of them wrong. The device does not work in a process in which CUDA has failed,
// nor without memory. One that works also has f16.
func TestChannelsLast(t *testing.T) {
	backendtest.Library(t, onnxruntime.Name)
	o, err := Open(t.Context(), Choice{Backend: onnxruntime.Name, Device: "cpu"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	var log strings.Builder
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })

	type result struct {
		channelsLast bool
		err, warning string
	}
	missing := errors.New("no kernel for NhwcConv")
	for _, c := range []struct {
		name, device string
		card         card
		want         result
	}{
		{"right", "cuda:0", card{}, result{channelsLast: true}},
		{"no GPU", "cpu", card{refuses: missing}, result{}},
		{"not NVIDIA's", "gpu:0", card{refuses: missing}, result{}},
		{"no kernels", "cuda:1", card{refuses: missing}, result{warning: "no kernel for NhwcConv"}},
		{"CUDA has failed", "cuda:0", card{refuses: fault.Device.New("run the model", "an illegal memory access", "start again")}, result{err: "an illegal memory access"}},
		{"no memory", "cuda:0", card{refuses: fault.Memory.New("load the model", "out of memory", "close other programs")}, result{err: "out of memory"}},
		{"wrong convolution", "cuda:0", card{spoils: "convolution"}, result{warning: "convolution computes"}},
		{"wrong narrow convolution", "cuda:0", card{spoils: "narrow convolution"}, result{warning: "narrow convolution computes"}},
		{"wrong norm", "cuda:0", card{spoils: "group norm"}, result{warning: "group norm computes"}},
		{"wrong norm of a sum", "cuda:0", card{spoils: "norm of a sum"}, result{warning: "norm of a sum computes"}},
		{"wrong attention", "cuda:0", card{spoils: "attention"}, result{warning: "attention computes"}},
		{"wrong GEGLU", "cuda:0", card{spoils: "GEGLU"}, result{warning: "GEGLU computes"}},
		{"wrong sum", "cuda:0", card{spoils: "sum"}, result{warning: "sum computes"}},
	} {
		log.Reset()
		c.card.Backend = o.Backend
		tried := Opened{Backend: c.card}
		got := tried.Try(t.Context(), backend.Device{ID: c.device})
		half := backend.F16
		if c.device == "cpu" || c.want.err != "" {
			half = ""
		}
		if got.ID != c.device || got.ChannelsLast != c.want.channelsLast || got.Half != half {
			t.Errorf("%s: %+v", c.name, got)
		}
		if (got.Err != nil) != (c.want.err != "") || got.Err != nil && !strings.Contains(got.Err.Error(), c.want.err) {
			t.Errorf("%s: %v", c.name, got.Err)
		}
		if (log.Len() > 0) != (c.want.warning != "") || !strings.Contains(log.String(), c.want.warning) {
			t.Errorf("%s: the log has %q", c.name, log.String())
		}
	}
}
