package main

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"

	"github.com/lipstream/lipstream/internal/worker"
)

func TestIgnoreLogoff(t *testing.T) {
	if err := ignoreLogoff(); err != nil {
		t.Error(err)
	}
	for event, want := range map[uintptr]uintptr{windows.CTRL_LOGOFF_EVENT: 1, windows.CTRL_CLOSE_EVENT: 0, windows.CTRL_SHUTDOWN_EVENT: 0, windows.CTRL_C_EVENT: 0} {
		if got := handleLogoff(event); got != want {
			t.Errorf("event %d: %d, want %d", event, got, want)
		}
	}
}

// TestService plays the service manager.
func TestService(t *testing.T) {
	for cmd, hurry := range map[svc.Cmd]bool{svc.Stop: false, svc.Shutdown: true} {
		requests, status := make(chan svc.ChangeRequest), make(chan svc.Status)
		var cause error
		s := &service{run: func(ctx context.Context) int {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return 3
		}}
		ended := make(chan uint32)
		go func() {
			own, code := s.Execute(nil, requests, status)
			if !own {
				t.Error("the code is not the service's own")
			}
			ended <- code
		}()
		running := <-status
		if running.State != svc.Running || running.Accepts != svc.AcceptStop|svc.AcceptShutdown {
			t.Errorf("%+v", running)
		}
		requests <- svc.ChangeRequest{Cmd: svc.Interrogate, CurrentStatus: running}
		if got := <-status; got != running {
			t.Errorf("%+v, want %+v", got, running)
		}
		requests <- svc.ChangeRequest{Cmd: cmd}
		if got := <-status; got.State != svc.StopPending || got.WaitHint < 30_000 {
			t.Errorf("%+v", got)
		}
		if code := <-ended; code != 3 || s.code != 3 {
			t.Errorf("code %d and %d", code, s.code)
		}
		if !errors.Is(cause, context.Canceled) || errors.Is(cause, worker.ErrHurry) != hurry {
			t.Errorf("%v: cause %v", cmd, cause)
		}
	}
}
