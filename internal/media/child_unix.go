//go:build unix

package media

import (
	"os"
	"syscall"
)

func killGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }

func exitSignal(st *os.ProcessState) (syscall.Signal, bool) {
	ws, ok := st.Sys().(syscall.WaitStatus)
	if !ok || !ws.Signaled() {
		return 0, false
	}
	return ws.Signal(), true
}

// fileSizeSignal is what a process gets that writes past RLIMIT_FSIZE.
const fileSizeSignal = syscall.SIGXFSZ

func syncDir(dir string) {
	// Not every file system can; the file itself is safe by then.
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
}
