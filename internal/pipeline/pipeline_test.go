package pipeline

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
)

var format = frame.Format{Width: 8, Height: 8, ShiftX: 1, ShiftY: 1, Depth: 8}

// counter writes each frame's number into its first pixel.
type counter struct {
	n      int64
	at     int64 // of the failure
	err    error // what the failure is; io.EOF ends
	allocs atomic.Int64
	seen   map[*frame.Frame]bool
}

func (c *counter) Read(f *frame.Frame) error {
	if c.err != nil && c.n == c.at {
		return c.err
	}
	if c.seen == nil {
		c.seen = map[*frame.Frame]bool{}
	}
	if !c.seen[f] {
		c.seen[f] = true
		c.allocs.Add(1)
	}
	f.Data[0] = byte(c.n)
	c.n++
	return nil
}

// delayed holds frames back as a real tracker does; every third has no face,
// every tenth begins a shot.
type delayed struct{ held []*frame.Frame }

func (d *delayed) Push(ctx context.Context, f *frame.Frame) ([]face.Tracked, error) {
	d.held = append(d.held, f)
	if len(d.held) <= face.LookAhead {
		return nil, ctx.Err()
	}
	return d.pop(1), ctx.Err()
}

func (d *delayed) Flush(context.Context) ([]face.Tracked, error) { return d.pop(len(d.held)), nil }

func (d *delayed) pop(n int) (out []face.Tracked) {
	for _, f := range d.held[:n] {
		t := face.Tracked{Frame: f, Face: &face.Face{}, Cut: f.Index%10 == 0}
		if f.Index%3 == 0 {
			t.Face = nil
		}
		out = append(out, t)
	}
	d.held = d.held[n:]
	return out
}

// engine keeps back up to hold items and then finishes them all.
type engine struct {
	hold  int
	held  []lip.Item
	err   error
	block bool
}

func (e *engine) Name() string { return "test" }
func (e *engine) Hold() int    { return e.hold }
func (e *engine) Close() error { return nil }
func (e *engine) Push(ctx context.Context, it lip.Item) ([]lip.Item, error) {
	if e.block {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	it.Frame.Data[1] = it.Frame.Data[0]
	e.held = append(e.held, it)
	if len(e.held) <= e.hold {
		return nil, e.err
	}
	return e.Flush(ctx)
}

func (e *engine) Flush(context.Context) ([]lip.Item, error) {
	done := e.held
	e.held = nil
	return done, e.err
}

type collector struct {
	first, spoken []byte
	err           error
	slow          time.Duration
}

func (c *collector) Write(f *frame.Frame) error {
	time.Sleep(c.slow)
	if int64(byte(f.Index)) != int64(f.Data[0]) {
		return errors.New("a frame lost its index")
	}
	c.first, c.spoken = append(c.first, f.Data[0]), append(c.spoken, f.Data[1])
	return c.err
}

func run(t *testing.T, p *Pipeline) (Stats, error) {
	t.Helper()
	before := runtime.NumGoroutine()
	p.Format, p.Tracker = format, &delayed{}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stats, err := p.Run(ctx)
	if ctx.Err() != nil {
		t.Fatal("the pipeline locked up")
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return stats, err
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d goroutines before, %d after", before, runtime.NumGoroutine())
	return stats, err
}

func TestFramesInOrder(t *testing.T) {
	for _, n := range []int64{1, 2, 7, 100} {
		for _, hold := range []int{0, 4, 16} {
			src, sink, e := &counter{at: n, err: io.EOF}, &collector{}, &engine{hold: hold}
			var progress []int64
			stats, err := run(t, &Pipeline{Source: src, Sink: sink, Engine: e, Progress: func(s Stats) { progress = append(progress, s.Frames) }})
			if err != nil {
				t.Fatal(err)
			}
			if stats.Frames != n || int64(len(sink.first)) != n || int64(len(progress)) != n {
				t.Fatalf("%d frames, hold %d: stats %+v, %d written, %d told", n, hold, stats, len(sink.first), len(progress))
			}
			for i := range n {
				if sink.first[i] != byte(i) || sink.spoken[i] != byte(i) {
					t.Fatalf("frame %d is %d, the engine saw %d", i, sink.first[i], sink.spoken[i])
				}
			}
			if want := (n + 2) / 3; stats.NoFace != want {
				t.Errorf("%d without a face, want %d", stats.NoFace, want)
			}
			if want := (n + 9) / 10; stats.Cuts != want {
				t.Errorf("%d cuts, want %d", stats.Cuts, want)
			}
		}
	}
}

// TestMemoryIsBounded runs many frames into a slow sink: no more frames exist
// than the pool allows.
func TestMemoryIsBounded(t *testing.T) {
	src := &counter{at: 2000, err: io.EOF}
	if _, err := run(t, &Pipeline{Source: src, Sink: &collector{slow: 50 * time.Microsecond}, Engine: &engine{hold: 4}}); err != nil {
		t.Fatal(err)
	}
	if limit := int64(face.LookAhead + 4 + 3*queue + 4); src.allocs.Load() > limit {
		t.Errorf("%d frames were allocated, at most %d should be", src.allocs.Load(), limit)
	}
}

func TestFailuresEndEverything(t *testing.T) {
	boom := errors.New("boom")
	for name, p := range map[string]*Pipeline{
		"source": {Source: &counter{at: 40, err: boom}, Sink: &collector{}, Engine: &engine{hold: 4}},
		"engine": {Source: &counter{}, Sink: &collector{}, Engine: &engine{hold: 4, err: boom}},
		"sink":   {Source: &counter{}, Sink: &collector{err: boom}, Engine: &engine{hold: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := run(t, p); !errors.Is(err, boom) {
				t.Errorf("error %v, want boom", err)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	p := Pipeline{
		Format: format, Tracker: &delayed{}, Source: &counter{}, Sink: &collector{}, Engine: &engine{hold: 4, block: true},
	}
	began := time.Now()
	if _, err := p.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v to stop", d)
	}
}
