package worker

import "golang.org/x/sys/windows"

// lowerPriority lowers the priority of a process and of those that it starts. They use
// the whole machine, and a server on it must still answer quickly.
func lowerPriority(pid int) {
	h, err := windows.OpenProcess(windows.PROCESS_SET_INFORMATION, false, uint32(pid))
	if err != nil {
		return // not essential
	}
	_ = windows.SetPriorityClass(h, windows.BELOW_NORMAL_PRIORITY_CLASS)
	_ = windows.CloseHandle(h)
}
