package pipeline

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
)

var format = frame.Format{Width: 8, Height: 8, ShiftX: 1, ShiftY: 1, Depth: 8}

// counter writes each frame's number into its first pixel.
type counter struct {
	n    int64
	at   int64 // where it fails with err; io.EOF ends
	err  error
	seen map[*frame.Frame]bool // the frames that were allocated
}

func (c *counter) Read(f *frame.Frame) error {
	if c.err != nil && c.n == c.at {
		return c.err
	}
	if c.seen == nil {
		c.seen = map[*frame.Frame]bool{}
	}
	c.seen[f] = true
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

// engine keeps back up to hold items and then finishes them all, each with a
// layer.
type engine struct {
	lip.Engine // panics if another method is called
	hold       int
	held       []lip.Item
	err        error
	block      bool
	paste      time.Duration // what a layer takes
	layers     []*layer
}

func (e *engine) Hold() int { return e.hold }
func (e *engine) Push(ctx context.Context, it lip.Item) ([]lip.Item, error) {
	if e.block {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	l := &layer{frame: it.Frame, index: it.Frame.Index, takes: e.paste}
	it.Layer, e.layers = l, append(e.layers, l)
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

// layer copies the first pixel of its frame to the second.
type layer struct {
	frame  *frame.Frame
	index  int64
	takes  time.Duration
	pasted int
}

func (l *layer) Paste(f *frame.Frame) lip.Region {
	if f != l.frame || f.Index != l.index {
		panic("a layer was pasted into another frame")
	}
	time.Sleep(l.takes)
	f.Data[1] = f.Data[0]
	l.pasted++
	return lip.Region{}
}

type collector struct {
	first, spoken []byte
	err           error
	slow          time.Duration
}

func (c *collector) Write(f *frame.Frame) error {
	time.Sleep(c.slow)
	defer func() { f.Data[1] = 255 }() // before it is used again
	if int64(byte(f.Index)) != int64(f.Data[0]) {
		return errors.New("a frame lost its index")
	}
	c.first, c.spoken = append(c.first, f.Data[0]), append(c.spoken, f.Data[1])
	return c.err
}

// run runs the pipeline in a bubble, which fails the test if the stages block each
// other or if a goroutine is left.
func run(t *testing.T, p *Pipeline) (stats Stats, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p.Format, p.Tracker = format, &delayed{}
		stats, err = p.Run(t.Context())
	})
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
				t.Fatalf("%d frames, hold %d: stats %+v, %d written, %d reported", n, hold, stats, len(sink.first), len(progress))
			}
			for i := range n {
				if sink.first[i] != byte(i) || sink.spoken[i] != byte(i) || progress[i] != i+1 {
					t.Fatalf("frame %d is %d, its layer is of %d, progress %d", i, sink.first[i], sink.spoken[i], progress[i])
				}
			}
			if want := (n + 2) / 3; stats.NoFace != want {
				t.Errorf("%d without a face, want %d", stats.NoFace, want)
			}
			if want := (n + 9) / 10; stats.Cuts != want {
				t.Errorf("%d cuts, want %d", stats.Cuts, want)
			}
			checkPasted(t, e, n, func(int64) bool { return true })
		}
	}
}

// checkPasted checks that the layers of the wanted frames were pasted once, and the
// others never.
func checkPasted(t *testing.T, e *engine, n int64, wanted func(i int64) bool) {
	t.Helper()
	if int64(len(e.layers)) != n {
		t.Errorf("%d layers of %d frames", len(e.layers), n)
	}
	for _, l := range e.layers {
		want := 0
		if wanted(l.index) {
			want = 1
		}
		if l.pasted != want {
			t.Errorf("the layer of frame %d was pasted %d times, want %d", l.index, l.pasted, want)
		}
	}
}

// TestPart writes some of the frames: only those are composited, shown and
// counted.
func TestPart(t *testing.T) {
	wanted := func(i int64) bool { return i >= 24 && i < 60 }
	src, sink, e := &counter{n: 7, at: 107, err: io.EOF}, &collector{}, &engine{hold: 16}
	var shown []byte
	stats, err := run(t, &Pipeline{First: 7, Wanted: wanted, Source: src, Sink: sink, Engine: e,
		Show: func(f *frame.Frame) { shown = append(shown, f.Data[1]) }})
	if err != nil {
		t.Fatal(err)
	}
	if len(sink.first) != 36 || sink.first[0] != 24 || sink.first[35] != 59 || !slices.Equal(sink.first, sink.spoken) || !slices.Equal(sink.first, shown) {
		t.Errorf("written %v with layers of %v, shown %v", sink.first, sink.spoken, shown)
	}
	if stats.Frames != 36 || stats.NoFace != 12 || stats.Cuts != 3 || stats.Stages[compositing].Calls != 36 || stats.Stages[speaking].Calls != 100 {
		t.Errorf("%+v", stats)
	}
	checkPasted(t, e, 100, wanted)
}

// TestComposite finishes the wanted frames with a function, which sees them as they were
// before the engine.
func TestComposite(t *testing.T) {
	for hold := range 20 {
		const n = 107
		wanted := func(i int64) bool { return i >= 24 && i < 60 }
		e, sink := &engine{hold: hold}, &collector{}
		sources := map[*frame.Frame]bool{}
		var wrong []int64
		stats, err := run(t, &Pipeline{Source: &counter{at: n, err: io.EOF}, Sink: sink, Engine: e, Wanted: wanted, Sources: true, Composite: func(_ context.Context, it *lip.Item) error {
			sources[it.Source] = true
			if it.Source == it.Frame || it.Source.Data[0] != byte(it.Frame.Index) || it.Layer == nil {
				wrong = append(wrong, it.Frame.Index)
			}
			it.Composite()
			it.Frame.Data[1]++
			return nil
		}})
		if err != nil || stats.Frames != 36 || len(wrong) > 0 || len(sources) > hold+queue+2 {
			t.Fatalf("hold %d: %d frames, %v have a wrong source, %d copies, error %v", hold, stats.Frames, wrong, len(sources), err)
		}
		for i, v := range sink.spoken {
			if v != sink.first[i]+1 {
				t.Fatalf("hold %d: frame %d was not finished", hold, sink.first[i])
			}
		}
		checkPasted(t, e, n, wanted)
	}
	boom := errors.New("boom")
	p := &Pipeline{Source: &counter{}, Sink: &collector{}, Engine: &engine{hold: 4}, Composite: func(context.Context, *lip.Item) error { return boom }}
	if _, err := run(t, p); !errors.Is(err, boom) {
		t.Errorf("error %v, want boom", err)
	}
}

// TestNoDeadlock: the pool has enough frames for any number that the engine holds,
// whichever stage is the slowest, and whether or not frames are written.
func TestNoDeadlock(t *testing.T) {
	for hold := range 70 {
		for _, slow := range []time.Duration{0, time.Millisecond} {
			for _, wanted := range []func(int64) bool{nil, func(i int64) bool { return i%2 == 0 }, func(int64) bool { return false }} {
				const n = 160
				p := &Pipeline{Source: &counter{at: n, err: io.EOF}, Sink: &collector{slow: slow}, Engine: &engine{hold: hold, paste: slow / 2}, Wanted: wanted}
				stats, err := run(t, p)
				want := int64(n)
				if wanted != nil {
					want = 0
					for i := range int64(n) {
						if wanted(i) {
							want++
						}
					}
				}
				if err != nil || stats.Frames != want {
					t.Fatalf("hold %d: %d frames, want %d, error %v", hold, stats.Frames, want, err)
				}
			}
		}
	}
}

// TestMemoryIsBounded runs many frames into a slow sink: no more frames exist
// than the pool allows.
func TestMemoryIsBounded(t *testing.T) {
	const hold = 4
	src := &counter{at: 2000, err: io.EOF}
	if _, err := run(t, &Pipeline{Source: src, Sink: &collector{slow: 50 * time.Microsecond}, Engine: &engine{hold: hold}}); err != nil {
		t.Fatal(err)
	}
	// What the tracker and the engine hold, four channels, and one frame in the hands
	// of each of five stages.
	if limit := face.LookAhead + hold + 4*queue + 5; len(src.seen) > limit {
		t.Errorf("%d frames were allocated, at most %d should be", len(src.seen), limit)
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

// TestCancel cancels a run whose engine waits for ever, with all channels full.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := Pipeline{Format: format, Tracker: &delayed{}, Source: &counter{}, Sink: &collector{}, Engine: &engine{hold: 4, block: true}}
		done := make(chan error)
		go func() { _, err := p.Run(ctx); done <- err }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("ended before it was cancelled: %v", err)
		default:
		}
		began := time.Now()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("it waited %v before it stopped", d)
		}
	})
}
