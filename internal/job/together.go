package job

import "context"

// together calls beside in a goroutine and f in this one. It returns when both have ended.
// If one fails, the context of the other ends, and the error of the first is returned.
func together(ctx context.Context, beside, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := func(err error) {
		if err != nil {
			cancel(err) // the first cause stays
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		stop(beside(ctx))
	}()
	stop(f(ctx))
	<-done
	return context.Cause(ctx)
}
