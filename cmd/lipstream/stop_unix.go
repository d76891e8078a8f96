//go:build unix

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilStopped runs f with a context that ends when the user or the system asks this
// program to end. A second signal kills it.
func untilStopped(f func(context.Context) int) int {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	// When the reader of a pipe goes away, let the write fail, so that files are
	// cleaned up. Without this, SIGPIPE kills the process. Nothing reads the channel.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	context.AfterFunc(ctx, stop)
	return f(ctx)
}
