package pipeline

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
)

// What each stage takes for a frame, and the engine at the end.
const (
	readTime  = 10 * time.Millisecond
	trackTime = 20 * time.Millisecond
	mouthTime = 100 * time.Millisecond
	flushTime = time.Second
	pasteTime = 40 * time.Millisecond
	writeTime = 30 * time.Millisecond
)

type slowSource struct{ counter }

func (s *slowSource) Read(f *frame.Frame) error {
	time.Sleep(readTime)
	return s.counter.Read(f)
}

type slowTracker struct{ delayed }

func (s *slowTracker) Push(ctx context.Context, f *frame.Frame) ([]face.Tracked, error) {
	time.Sleep(trackTime)
	return s.delayed.Push(ctx, f)
}

type slowEngine struct{ engine }

func (s *slowEngine) Push(ctx context.Context, it lip.Item) ([]lip.Item, error) {
	time.Sleep(mouthTime)
	return s.engine.Push(ctx, it)
}

func (s *slowEngine) Flush(ctx context.Context) ([]lip.Item, error) {
	time.Sleep(flushTime)
	return s.engine.Flush(ctx)
}

func slow(src *slowSource, sink *collector) *Pipeline {
	return &Pipeline{
		Format: format, Source: src, Tracker: &slowTracker{}, Engine: &slowEngine{engine{paste: pasteTime}}, Sink: sink,
	}
}

// TestStagesCountWorkOnly: all stages wait for the engine, and none of that waiting
// counts. Compositing counts for its own stage, not for the engine.
func TestStagesCountWorkOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 40
		var last []StageTime
		p := slow(&slowSource{counter{at: n, err: io.EOF}}, &collector{slow: writeTime})
		p.Progress = func(s Stats) { last = s.Stages }
		stats, err := p.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := []StageTime{
			{"decode", n, (n + 1) * readTime}, // it reads once more to see the end
			{"faces", n, n * trackTime},
			{"engine", n, n*mouthTime + flushTime},
			{"composite", n, n * pasteTime},
			{"encode", n, n * writeTime},
		}
		if d := cmp.Diff(want, stats.Stages); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		// While the last frame is composited and written, the engine flushes.
		want[speaking].Busy -= flushTime - pasteTime - writeTime
		if d := cmp.Diff(want, last); d != "" {
			t.Errorf("with the last frame (-want +got):\n%s", d)
		}
		want[speaking].Busy += flushTime - pasteTime - writeTime
		if d := cmp.Diff(want, p.Stages()); d != "" {
			t.Errorf("afterwards (-want +got):\n%s", d)
		}
	})
}

// TestStagesLive reads the times while the engine works on a frame.
func TestStagesLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := slow(&slowSource{counter{at: 10, err: io.EOF}}, &collector{})
		done := make(chan error)
		go func() { _, err := p.Run(t.Context()); done <- err }()
		// The tracker returns its first frame when it has LookAhead later ones.
		first := readTime + (face.LookAhead+1)*trackTime
		time.Sleep(first + mouthTime + mouthTime/2)
		if got := p.Stages()[speaking]; got.Calls != 1 || got.Busy != mouthTime*3/2 {
			t.Errorf("engine %+v", got)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestStagesOfFailure: a run that fails returns the times of what it did.
func TestStagesOfFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("boom")
		stats, err := slow(&slowSource{counter{}}, &collector{err: boom, slow: writeTime}).Run(t.Context())
		if !errors.Is(err, boom) || len(stats.Stages) != 5 {
			t.Fatalf("%v, %+v", err, stats)
		}
		if encode := stats.Stages[encoding]; encode.Calls != 1 || encode.Busy != writeTime || stats.Stages[decoding].Calls == 0 {
			t.Errorf("%+v", stats.Stages)
		}
	})
}
