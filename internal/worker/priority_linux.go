package worker

import "golang.org/x/sys/unix"

// niceness is the priority of tasks. They use the whole machine, and a server on it
// must still answer quickly.
const niceness = 10

// lowerPriority lowers the priority of a process and of those that it starts.
func lowerPriority(pid int) {
	_ = unix.Setpriority(unix.PRIO_PGRP, pid, niceness) // not essential
}
