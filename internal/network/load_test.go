package network

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// loading is a backend whose loads take as many seconds as the graph has weights.
type loading struct {
	backend.Backend
	fail string // graph that cannot be loaded

	mu         sync.Mutex
	began      []string
	now, most  int
	open       map[string]bool
	afterError int // loads that began after one had failed
	failed     bool
}

type loadedSession struct {
	backend.Session
	close func()
}

func (s loadedSession) Close() error { s.close(); return nil }

func (l *loading) Load(_ context.Context, m backend.Model, _ backend.Options) (backend.Session, error) {
	l.mu.Lock()
	l.began = append(l.began, m.Name)
	l.now++
	l.most = max(l.most, l.now)
	if l.failed {
		l.afterError++
	}
	l.mu.Unlock()
	time.Sleep(time.Duration(m.Graph.WeightBytes()) * time.Second)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now--
	if m.Name == l.fail {
		l.failed = true
		return nil, errors.New("no memory for " + m.Name)
	}
	l.open[m.Name] = true
	return loadedSession{close: func() { delete(l.open, m.Name) }}, nil
}

func graphOf(name string, bytes int) *onnx.Graph {
	g := onnx.New(name)
	g.Weight(onnx.Weight{Name: "w", Tensor: tensor.New(tensor.U8, bytes)})
	return g
}

// TestLoadAll loads two networks, of which one has a streamed graph, two graphs at a time.
func TestLoadAll(t *testing.T) {
	load := func(ctx context.Context, l *loading, loads int) (chains []*Chain, took, reported time.Duration, err error) {
		l.open = map[string]bool{}
		began := time.Now()
		loader := Loader{Backend: l, Loaded: func(d time.Duration) { reported += d }}
		streaming := loader
		streaming.Streamed = func(i int) bool { return i == 0 }
		chains, err = LoadAll(ctx, loads,
			Unloaded{loader, []*onnx.Graph{graphOf("a", 2), graphOf("b", 7), graphOf("c", 5)}},
			Unloaded{streaming, []*onnx.Graph{graphOf("streamed", 9), graphOf("d", 3)}})
		return chains, time.Since(began), reported, err
	}
	synctest.Test(t, func(t *testing.T) {
		for loads, want := range map[int]time.Duration{0: 17, 1: 17, 2: 9, 9: 7} {
			l := &loading{}
			chains, took, reported, err := load(t.Context(), l, loads)
			if err != nil || len(chains) != 2 || chains[0].Len() != 3 || chains[1].Len() != 2 {
				t.Fatalf("%d at a time: %v, %d networks", loads, err, len(chains))
			}
			if took != want*time.Second || reported != took || l.most > max(1, loads) {
				t.Errorf("%d at a time: %v, of which %v were reported; %d at once", loads, took, reported, l.most)
			}
			if loads < 2 && !slices.Equal(l.began, []string{"b", "c", "d", "a"}) {
				t.Errorf("loaded in the order %v", l.began)
			}
			for _, c := range chains {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
			if len(l.open) > 0 {
				t.Errorf("%v are open", l.open)
			}
		}
		l := &loading{fail: "c"}
		chains, _, _, err := load(t.Context(), l, 2)
		if chains != nil || err == nil || len(l.open) > 0 || l.afterError > 0 {
			t.Errorf("%v; %v are open, %d loads began after it", err, l.open, l.afterError)
		}
	})
}
