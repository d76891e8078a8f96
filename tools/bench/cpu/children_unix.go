//go:build unix

package cpu

import "golang.org/x/sys/unix"

// children returns the CPU time, in seconds, of the child processes that have ended.
func children() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_CHILDREN, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
