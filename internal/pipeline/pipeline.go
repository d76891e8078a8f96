// Package pipeline moves frames from a source to a sink, through its stages:
// decode, faces, engine, composite, encode. Each stage is one goroutine. Frames
// travel one way through bounded channels and come back to a pool, so peak memory
// does not depend on the length of the video.
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
	// Stages says what the work of each stage took.
	Stages []StageTime
}

// Pipeline is one run. Progress, First, Wanted and Show may be left out.
type Pipeline struct {
	Format  frame.Format
	Source  Source
	Tracker Tracker
	Engine  lip.Engine
	Sink    Sink
	// First is the number of the first frame that Source returns.
	First int64
	// Wanted reports which frames are written; the others only help their
	// neighbours. nil means all.
	Wanted func(i int64) bool
	// Show gets each finished frame before it is written, from one goroutine. It
	// must not keep the frame. It may be nil.
	Show func(*frame.Frame)
	// Progress is called after each written frame, from one goroutine. It
	// must not block.
	Progress func(Stats)

	watches [len(stageNames)]stopwatch
}

// queue is the capacity of the channels between the stages: enough that a
// stage does not wait for its neighbour's every frame, no more.
const queue = 3

// Run moves all frames through, once. When it returns, every goroutine that it
// started has ended. Closing source and sink is up to the caller. The Stats say
// what was done, also if there is an error.
func (p *Pipeline) Run(ctx context.Context) (Stats, error) {
	g, ctx := errgroup.WithContext(ctx)
	// Frames in the tracker, in the engine, in the channels, and one in the hands of
	// each stage, so that no stage waits for another to release a frame. With no
	// more than tracker and engine hold, the pipeline would deadlock.
	const stages = len(stageNames)
	pool := frame.NewPool(p.Format, face.LookAhead+p.Engine.Hold()+(stages-1)*queue+stages)
	decoded := make(chan *frame.Frame, queue)
	tracked := make(chan lip.Item, queue)
	spoken := make(chan lip.Item, queue)
	finished := make(chan lip.Item, queue)
	var stats Stats
	g.Go(func() error { defer close(decoded); return p.decode(ctx, pool, decoded) })
	g.Go(func() error { defer close(tracked); return p.track(ctx, decoded, tracked) })
	g.Go(func() error { defer close(spoken); return p.speak(ctx, tracked, spoken) })
	g.Go(func() error { defer close(finished); return p.composite(ctx, pool, spoken, finished) })
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

func (p *Pipeline) track(ctx context.Context, in <-chan *frame.Frame, out chan<- lip.Item) error {
	pass := func(ready []face.Tracked, err error) error {
		if err != nil {
			return err
		}
		for _, t := range ready {
			it := lip.Item{Frame: t.Frame, Face: t.Face, Cut: t.Cut}
			if !send(ctx, out, it) {
				return ctx.Err()
			}
		}
		return nil
	}
	watch := &p.watches[facing]
	for f := range in {
		watch.start()
		ready, err := p.Tracker.Push(ctx, f)
		watch.stop(1)
		if err := pass(ready, err); err != nil {
			return err
		}
	}
	// The channel also closes when decoding failed; what is left in the
	// tracker is then of no use.
	if err := ctx.Err(); err != nil {
		return err
	}
	watch.start()
	ready, err := p.Tracker.Flush(ctx)
	watch.stop(0)
	return pass(ready, err)
}

func (p *Pipeline) speak(ctx context.Context, in <-chan lip.Item, out chan<- lip.Item) error {
	pass := func(done []lip.Item, err error) error {
		if err != nil {
			return err
		}
		for _, it := range done {
			if !send(ctx, out, it) {
				return ctx.Err()
			}
		}
		return nil
	}
	watch := &p.watches[speaking]
	for it := range in {
		watch.start()
		done, err := p.Engine.Push(ctx, it)
		watch.stop(1)
		if err := pass(done, err); err != nil {
			return err
		}
	}
	// The channel also closes when an earlier stage failed.
	if err := ctx.Err(); err != nil {
		return err
	}
	watch.start()
	done, err := p.Engine.Flush(ctx)
	watch.stop(0)
	return pass(done, err)
}

// composite pastes the layers of the engine into the frames that are wanted.
func (p *Pipeline) composite(ctx context.Context, pool *frame.Pool, in <-chan lip.Item, out chan<- lip.Item) error {
	watch := &p.watches[compositing]
	for it := range in {
		if p.Wanted != nil && !p.Wanted(it.Frame.Index) {
			pool.Put(it.Frame)
			continue
		}
		watch.start()
		it.Composite()
		watch.stop(1)
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
		stats.Frames++
		if it.Face == nil {
			stats.NoFace++
		}
		if it.Cut {
			stats.Cuts++
		}
		pool.Put(it.Frame)
		if p.Progress != nil {
			stats.Stages = p.Stages()
			p.Progress(*stats)
		}
	}
	return nil
}

func send[T any](ctx context.Context, ch chan<- T, v T) bool {
	select {
	case ch <- v:
		return true
	case <-ctx.Done():
		return false
	}
}
