package neural

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/settings"
)

// cards is a backend for the plans of cards. It must not be used for anything else.
type cards struct{ backend.Backend }

func (cards) Name() string { return onnxruntime.Name }

// published are the topologies of the published checkpoints.
var published = configs{network.Published(), network.VAE(network.PublishedVAE()), network.VAE(network.PublishedVAE()), network.PublishedWhisper()}

// onCard returns the options of a job on an idle NVIDIA card of so many GB (2³⁰ bytes),
// with checkpoints in f32 and prepared ones in f16, and what it may use of the card.
func onCard(t testing.TB, gb int64, resolution int, profile string) (Options, needs) {
	t.Helper()
	s := settings.Settings{}
	s.Profile = profile
	o, err := newOptions(latentSync{}, s.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	o.Backend, o.Device = cards{}, backend.Device{ID: "cuda:0", Half: backend.F16, Resident: true, ChannelsLast: true, FusesAttention: true}
	o.Resolution, o.Plan.Precision = resolution, string(autoPrecision(o.Device, false))
	o.Allowed.Slices = 0
	if o.Resolution <= o.Allowed.Tile {
		o.Plan.Tile, o.Allowed.Tile = 0, 0
	}
	total := gb << 30
	o.share(lip.Host{Budget: lip.Budget{Bytes: memory.DefaultCritical.Of(total), GPU: total}})
	return o, needs{configs: published, o: o, known: map[string]footprint{}}
}

// loads is a backend that keeps the options of Load.
type loads struct {
	backend.Backend
	options []backend.Options
}

func (l *loads) Load(ctx context.Context, m backend.Model, o backend.Options) (backend.Session, error) {
	l.options = append(l.options, o)
	return l.Backend.Load(ctx, m, o)
}

// TestArenaLimit checks that what a job may use of a card, without CUDA's context, limits
// the arena of every network.
func TestArenaLimit(t *testing.T) {
	const gb, budget = 24, 18 << 30
	card, _ := onCard(t, gb, 256, "auto")
	if want := int64(budget - lip.DeviceContext); card.Budget != budget || card.ArenaLimit != want {
		t.Fatalf("the job may use %d of the card and %d of the arena, want %d", card.Budget, card.ArenaLimit, want)
	}
	l := &loads{Backend: openBackend(t, onnxruntime.Name).Backend}
	o := small(t, l)
	o.Device.Resident, o.ArenaLimit = true, card.ArenaLimit
	open(t, o)
	if len(l.options) < 4 {
		t.Fatalf("%d graphs are loaded", len(l.options))
	}
	for _, got := range l.options {
		if got.Arena.Limit != card.ArenaLimit || !got.Resident {
			t.Errorf("a graph is loaded with %+v", got)
		}
	}
}

// TestCards checks the plan on cards of each size, and that docs/gpu.md has the same table.
func TestCards(t *testing.T) {
	doc, err := os.ReadFile("../../docs/gpu.md")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for _, c := range []struct {
		profile string
		cards   []int64
	}{{"lowmem", []int64{4, 6}}, {"auto", []int64{6, 8, 12, 16, 24, 80}}} {
		for _, resolution := range []int{256, 512} {
			for _, gb := range c.cards {
				o, n := onCard(t, gb, resolution, c.profile)
				p, ok := o.choose(func(p memory.Plan) bool { return n.of(p) <= o.Budget })
				plan := strings.NewReplacer(", attention whole", "", ", f16", "", ", offload none", "").Replace(p.String())
				if !ok {
					plan = "too small"
				}
				fmt.Fprintf(&table, "| %d GB | %d | `%s` | %s | %.1f GB |\n", gb, resolution, c.profile, plan, float64(n.of(p))/(1<<30))
			}
		}
	}
	if !strings.Contains(string(doc), table.String()) {
		t.Errorf("docs/gpu.md has another table than:\n%s", table.String())
	}
}

// TestFullCardAtStart: other processes use so much of the card that a job may use nothing.
func TestFullCardAtStart(t *testing.T) {
	o, _ := onCard(t, 24, 256, "auto")
	o.share(lip.Host{Budget: lip.Budget{From: "free memory of nvidia:0", GPU: 24 << 30}})
	e := &Engine{o: o, networks: newNetworks(o)}
	if err := e.plan(published); fault.KindOf(err) != fault.Memory || !strings.Contains(err.Error(), "only 0 B (free memory of nvidia:0)") {
		t.Errorf("%v", err)
	}
}

// shrinks is a backend that counts the calls of Shrink.
type shrinks struct {
	backend.Backend
	n int
}

func (s *shrinks) Load(ctx context.Context, m backend.Model, o backend.Options) (backend.Session, error) {
	session, err := s.Backend.Load(ctx, m, o)
	return shrinking{session, s}, err
}

type shrinking struct {
	backend.Session
	of *shrinks
}

func (s shrinking) Shrink() { s.of.n++ }

// TestShrinkAfterReplanning: after each change of plan, all networks return the memory that
// only the old plan needed.
func TestShrinkAfterReplanning(t *testing.T) {
	b := &shrinks{Backend: openBackend(t, onnxruntime.Name).Backend}
	o := small(t, b)
	o.Allowed.Windows, o.Plan.Windows = true, 2
	e := open(t, o)
	if err := e.retreat(fault.Memory.New("run a network", "out of memory")); err != nil {
		t.Fatal(err)
	}
	if e.networks.plan().Windows != 1 || b.n < 4 {
		t.Errorf("%v: %d sessions were told to shrink", e.networks.plan(), b.n)
	}
}

// TestKeptFeatureMaps counts the feature maps that deepcache_threshold compares with.
func TestKeptFeatureMaps(t *testing.T) {
	_, n := onCard(t, 24, 512, "auto")
	n.o.Device.Resident, n.o.Batched = false, false
	without := n.of(n.o.Plan)
	n.o.DeepCacheThreshold = 0.1
	if got, want := n.of(n.o.Plan)-without, int64(4*2*320*64*64*n.o.Plan.Windows*n.o.Plan.Frames); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
	n.o.DeepCache = 1
	if got := n.of(n.o.Plan); got != without {
		t.Errorf("%d bytes without DeepCache, want %d", got, without)
	}
}
