package job

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// together calls both functions at the same time and returns when both have ended. If one
// fails, the context of the other ends, and the error of the first is returned.
func together(ctx context.Context, beside, f func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return beside(ctx) })
	g.Go(func() error { return f(ctx) })
	return g.Wait()
}
