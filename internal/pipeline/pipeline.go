// Package pipeline moves frames from a source to a sink, through its stages:
// decode, faces, engine, composite, encode. Each stage is one goroutine. Frames
// go through bounded channels and return to a pool, so that peak memory does not
// depend on the length of the video.
package pipeline

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
)

// Source returns the frames of the input in order. Read fills f, and returns
// io.EOF after the last frame.
type Source interface {
	Read(f *frame.Frame) error
}

// Tracker follows the face. It holds back at most face.LookAhead frames and
// returns them in order.
type Tracker interface {
	Push(ctx context.Context, f *frame.Frame) ([]face.Tracked, error)
	Flush(ctx context.Context) ([]face.Tracked, error)
}

// Sink takes the finished frames in order.
type Sink interface {
	Write(f *frame.Frame) error
}

// Stats counts what a pipeline did.
type Stats struct {
	Frames int64 // written
	NoFace int64 // frames passed through without a usable face
	Cuts   int64 // scene cuts
	// Absent counts, for each speaker, the frames without their face.
	Absent [face.MaxPeople]int64
	// Stages says how long each stage worked.
	Stages []StageTime
}

// Pipeline is one run of a pipeline. The fields after Sink are optional.
type Pipeline struct {
	Format  frame.Format
	Source  Source
	Tracker Tracker
	Engine  lip.Engine
	Sink    Sink
	// First is the number of the first frame that Source returns.
	First int64
	// Wanted reports whether a frame is written. The others are only tracked, and seen
	// by the engine, for the sake of their neighbours. nil means that all are written.
	Wanted func(i int64) bool
	// Composite, if it is not nil, finishes a wanted frame in place of Item.Composite. It
	// is called from one goroutine, with the frames in order.
	Composite func(ctx context.Context, it *lip.Item) error
	// Sources keeps a copy of each frame from before the engine for Composite, as
	// Item.Source.
	Sources bool
	// Show is called with each finished frame before it is written, from one
	// goroutine. It must not keep the frame.
	Show func(*frame.Frame)
	// Progress is called after each written frame, from one goroutine. It must not
	// block.
	Progress func(Stats)

	watches [len(stageNames)]stopwatch
}

// queue is the capacity of the channels between the stages: just enough that a stage
// need not wait for each frame of its neighbour.
const queue = 3

// PoolSize returns the number of frames in the pool of a pipeline whose engine holds
// back so many: frames in the tracker, in the engine, in the channels, and one in the
// hands of each stage, so that no stage waits for another to release a frame. With no
// more than tracker and engine hold, the pipeline would deadlock.
func PoolSize(hold int) int {
	const stages = len(stageNames)
	return face.LookAhead + hold + (stages-1)*queue + stages
}

// Run moves all frames through the pipeline. It may be called once. When it returns,
// every goroutine that it started has ended. The caller closes source and sink. The
// Stats say what was done, even if there is an error.
func (p *Pipeline) Run(ctx context.Context) (Stats, error) {
	g, ctx := errgroup.WithContext(ctx)
	pool := frame.NewPool(p.Format, PoolSize(p.Engine.Hold()))
	sources := frame.NewPool(p.Format, p.Engine.Hold()+queue+2) // between the engine and Composite
	decoded := make(chan *frame.Frame, queue)
	tracked := make(chan face.Tracked, queue)
	spoken := make(chan lip.Item, queue)
	finished := make(chan lip.Item, queue)
	var stats Stats
	g.Go(func() error { defer close(decoded); return p.decode(ctx, pool, decoded) })
	g.Go(func() error {
		defer close(tracked)
		return delay(ctx, &p.watches[facing], decoded, tracked, p.Tracker.Push, p.Tracker.Flush)
	})
	g.Go(func() error {
		defer close(spoken)
		push := func(ctx context.Context, t face.Tracked) ([]lip.Item, error) {
			it := lip.Item{Frame: t.Frame, Face: t.Face, Others: t.Others, Cut: t.Cut}
			if p.Sources {
				if it.Source = sources.Get(ctx.Done()); it.Source == nil {
					return nil, ctx.Err()
				}
				copy(it.Source.Data, it.Frame.Data)
			}
			return p.Engine.Push(ctx, it)
		}
		return delay(ctx, &p.watches[speaking], tracked, spoken, push, p.Engine.Flush)
	})
	g.Go(func() error { defer close(finished); return p.composite(ctx, pool, sources, spoken, finished) })
	g.Go(func() error { return p.write(ctx, pool, finished, &stats) })
	err := g.Wait()
	stats.Stages = p.Stages()
	return stats, err
}

func (p *Pipeline) decode(ctx context.Context, pool *frame.Pool, out chan<- *frame.Frame) error {
	for i := p.First; ; i++ {
		f := pool.Get(ctx.Done())
		if f == nil {
			return ctx.Err()
		}
		f.Index = i
		p.watches[decoding].start()
		err := p.Source.Read(f)
		if err != nil {
			p.watches[decoding].stop(0)
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		p.watches[decoding].stop(1)
		if !send(ctx, out, f) {
			return ctx.Err()
		}
	}
}

// delay is a stage that may hold back what it takes: push takes an item and flush ends
// the input; both return what is finished.
func delay[In, Out any](
	ctx context.Context, watch *stopwatch, in <-chan In, out chan<- Out,
	push func(context.Context, In) ([]Out, error), flush func(context.Context) ([]Out, error),
) error {
	pass := func(finished []Out, err error) error {
		if err != nil {
			return err
		}
		for _, v := range finished {
			if !send(ctx, out, v) {
				return ctx.Err()
			}
		}
		return nil
	}
	for v := range in {
		watch.start()
		finished, err := push(ctx, v)
		watch.stop(1)
		if err := pass(finished, err); err != nil {
			return err
		}
	}
	// The channel is also closed when an earlier stage failed. What is held back is
	// then useless.
	if err := ctx.Err(); err != nil {
		return err
	}
	watch.start()
	finished, err := flush(ctx)
	watch.stop(0)
	return pass(finished, err)
}

// composite pastes the layers of the engine into the wanted frames, and drops the
// others.
func (p *Pipeline) composite(ctx context.Context, pool, sources *frame.Pool, in <-chan lip.Item, out chan<- lip.Item) error {
	watch := &p.watches[compositing]
	for it := range in {
		if p.Wanted != nil && !p.Wanted(it.Frame.Index) {
			pool.Put(it.Frame)
			sources.Put(it.Source)
			continue
		}
		watch.start()
		var err error
		if p.Composite == nil {
			it.Composite()
		} else {
			err = p.Composite(ctx, &it)
		}
		watch.stop(1)
		if err != nil {
			return err
		}
		sources.Put(it.Source)
		it.Source = nil
		if !send(ctx, out, it) {
			return ctx.Err()
		}
	}
	return nil
}

func (p *Pipeline) write(ctx context.Context, pool *frame.Pool, in <-chan lip.Item, stats *Stats) error {
	for it := range in {
		if err := ctx.Err(); err != nil {
			return err
		}
		p.watches[encoding].start()
		if p.Show != nil {
			p.Show(it.Frame)
		}
		err := p.Sink.Write(it.Frame)
		p.watches[encoding].stop(1)
		if err != nil {
			return err
		}
		stats.add(&it)
		pool.Put(it.Frame)
		if p.Progress != nil {
			stats.Stages = p.Stages()
			p.Progress(*stats)
		}
	}
	return nil
}

// add counts a written frame.
func (s *Stats) add(it *lip.Item) {
	s.Frames++
	if it.Cut {
		s.Cuts++
	}
	found := it.Face != nil
	if !found {
		s.Absent[0]++
	}
	for i, o := range it.Others {
		if found = found || o != nil; o == nil {
			s.Absent[i+1]++
		}
	}
	if !found {
		s.NoFace++
	}
}

func send[T any](ctx context.Context, ch chan<- T, v T) bool {
	select {
	case ch <- v:
		return true
	case <-ctx.Done():
		return false
	}
}
