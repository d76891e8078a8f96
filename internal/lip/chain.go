package lip

import (
	"context"
	"errors"
	"slices"
)

// Chain returns an engine that runs others one after the other over the same frames. Each
// works on a face of its own: the first on Item.Face, the next ones on Item.Others, in
// their order. The first engine measures and reports the work of engines that share
// its networks.
func Chain(engines ...Engine) Engine {
	if len(engines) == 1 {
		return engines[0]
	}
	return &chain{engines: engines}
}

type chain struct {
	engines []Engine
	out     []Item
}

// turn makes the first of the other faces the item's face, and the present one the last of
// the others. After a turn for each face, all are where they were.
func (it *Item) turn() {
	if it.Layer != nil {
		it.under, it.Layer = append(it.under, it.Layer), nil
	}
	next := it.Others[0]
	copy(it.Others, it.Others[1:])
	it.Others[len(it.Others)-1] = it.Face
	it.Face = next
}

// Name implements Engine. All engines have the same.
func (c *chain) Name() string { return c.engines[0].Name() }

// Hold implements Engine.
func (c *chain) Hold() (n int) {
	for _, e := range c.engines {
		n += e.Hold()
	}
	return n
}

// Push implements Engine.
func (c *chain) Push(ctx context.Context, it Item) ([]Item, error) {
	c.out = c.out[:0]
	err := c.pass(ctx, 0, it)
	return c.out, err
}

// pass pushes an item into engine i, and what is done into the next one.
func (c *chain) pass(ctx context.Context, i int, it Item) error {
	if i == len(c.engines) {
		c.out = append(c.out, it)
		return nil
	}
	done, err := c.engines[i].Push(ctx, it)
	if err != nil {
		return err
	}
	return c.passAll(ctx, i+1, done)
}

// passAll pushes what engine i-1 has finished into engine i.
func (c *chain) passAll(ctx context.Context, i int, done []Item) error {
	for _, it := range done {
		it.turn()
		if err := c.pass(ctx, i, it); err != nil {
			return err
		}
	}
	return nil
}

// Flush implements Engine.
func (c *chain) Flush(ctx context.Context) ([]Item, error) {
	c.out = c.out[:0]
	for i, e := range c.engines {
		done, err := e.Flush(ctx)
		if err == nil {
			err = c.passAll(ctx, i+1, done)
		}
		if err != nil {
			return nil, err
		}
	}
	return c.out, nil
}

// Report implements Engine.
func (c *chain) Report() Report {
	r := c.engines[0].Report()
	for _, e := range c.engines[1:] {
		r.Work = append(r.Work, e.Report().Work...)
	}
	return r
}

// Estimate implements Engine. All engines do the same work.
func (c *chain) Estimate(ctx context.Context, frames int64, voice float64) (Estimate, error) {
	e, err := c.engines[0].Estimate(ctx, frames, voice)
	e.Windows *= int64(len(c.engines))
	e.Seconds *= float64(len(c.engines))
	return e, err
}

// Close implements Engine.
func (c *chain) Close() (err error) {
	for _, e := range slices.Backward(c.engines) {
		err = errors.Join(err, e.Close())
	}
	return err
}
