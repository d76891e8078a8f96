package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"

	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/worker"
)

// untilStopped runs f with a context that ends when the user or the system asks this
// program to end: by Ctrl-C, by closing the console window, at logoff or shutdown, and
// as a service also by the service manager. A second Ctrl-C kills it.
func untilStopped(f func(context.Context) int) int {
	if child.InServiceSession() {
		_ = ignoreLogoff() // without it, the program ends too early
	}
	if is, err := svc.IsWindowsService(); err == nil && is {
		s := &service{run: f}
		if err := svc.Run("", s); err != nil { // the name matters only for shared processes
			return 1
		}
		return s.code
	}
	ctx, hurry := context.WithCancelCause(context.Background())
	defer hurry(nil)
	// Go sends SIGTERM for all but Ctrl-C, and Windows ends the process five seconds
	// later.
	closing := make(chan os.Signal, 1)
	signal.Notify(closing, syscall.SIGTERM)
	go func() { <-closing; hurry(worker.ErrHurry) }()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop)
	return f(ctx)
}

// ignoreLogoff makes this program ignore that a user logs off. In the session of services
// that is any user. Windows calls the newest handler first, so Go's does not learn of it.
func ignoreLogoff() error {
	add := windows.NewLazySystemDLL("kernel32.dll").NewProc("SetConsoleCtrlHandler")
	if ok, _, err := add.Call(windows.NewCallback(handleLogoff), 1); ok == 0 {
		return err
	}
	return nil
}

// handleLogoff is a HandlerRoutine. It returns 1 for events that no other handler gets.
func handleLogoff(event uintptr) uintptr {
	if uint32(event) == windows.CTRL_LOGOFF_EVENT {
		return 1
	}
	return 0
}

// stopTime is how long the service manager waits for the end of a service: longer than
// the default of --grace.
const stopTime = time.Minute

// service is this program as a Windows service. It gets no SIGTERM: that would end it
// whenever any user logs off.
type service struct {
	run  func(context.Context) int
	code int // that run returned
}

// Execute implements [svc.Handler].
func (s *service) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (ownCode bool, code uint32) {
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	ended := make(chan int, 1)
	go func() { ended <- s.run(ctx) }()
	status <- svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown}
	for {
		select {
		case s.code = <-ended:
			return true, uint32(s.code)
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				status <- r.CurrentStatus
			case svc.Stop, svc.Shutdown:
				status <- svc.Status{State: svc.StopPending, WaitHint: uint32(stopTime.Milliseconds())}
				if r.Cmd == svc.Shutdown { // there are a few seconds
					stop(worker.ErrHurry)
				} else {
					stop(nil)
				}
			}
		}
	}
}
