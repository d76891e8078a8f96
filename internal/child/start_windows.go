package child

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// group is a process with all that it starts, in a job object. The system ends them
// when the job's last handle is closed, so also when this program is killed.
type group struct {
	process *os.Process
	job     windows.Handle // 0 if this program runs in a job that allows no others, as in some sandboxes
}

// start starts cmd without a console: a window would open if this program has none,
// and Ctrl-C must not reach the process.
func start(cmd *exec.Cmd) (group, error) {
	job, err := newJob()
	if err != nil {
		return group{}, os.NewSyscallError("CreateJobObject", err)
	}
	// It does not run before it belongs to the job, so that all it starts does.
	flags := uint32(windows.CREATE_NO_WINDOW | windows.CREATE_SUSPENDED)
	if InServiceSession() { // without even a hidden console, it does not learn that a user logs off
		flags = windows.DETACHED_PROCESS | windows.CREATE_SUSPENDED
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: flags}
	if err := cmd.Start(); err != nil {
		_ = windows.CloseHandle(job)
		return group{}, err
	}
	g := group{cmd.Process, job}
	if g.enter() != nil {
		g.close()
		g.job = 0
	}
	if err := resume(uint32(cmd.Process.Pid)); err != nil {
		g.kill()
		_ = cmd.Wait()
		g.close()
		return group{}, os.NewSyscallError("ResumeThread", err)
	}
	return g, nil
}

// InServiceSession reports whether this program runs in session 0, that of services. Windows
// tells the programs there that have a console of every user's logoff.
func InServiceSession() bool {
	var session uint32
	return windows.ProcessIdToSessionId(windows.GetCurrentProcessId(), &session) == nil && session == 0
}

// newJob returns a job whose processes end with its last handle.
func newJob() (windows.Handle, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return 0, err
	}
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	_, err = windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)))
	if err != nil {
		_ = windows.CloseHandle(job)
	}
	return job, err
}

// enter puts the suspended process into the job.
func (g group) enter() error {
	var err error
	handleErr := g.process.WithHandle(func(h uintptr) { err = windows.AssignProcessToJobObject(g.job, windows.Handle(h)) })
	return errors.Join(handleErr, err)
}

// resume resumes the threads of a process. os/exec has closed the handle of its only one.
func resume(pid uint32) error {
	all, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPTHREAD, 0)
	if err != nil {
		return err
	}
	defer func() { _ = windows.CloseHandle(all) }()
	e := windows.ThreadEntry32{Size: uint32(unsafe.Sizeof(windows.ThreadEntry32{}))}
	resumed := false
	for err = windows.Thread32First(all, &e); err == nil; err = windows.Thread32Next(all, &e) {
		if e.OwnerProcessID != pid {
			continue
		}
		thread, err := windows.OpenThread(windows.THREAD_SUSPEND_RESUME, false, e.ThreadID)
		if err != nil {
			return err
		}
		_, err = windows.ResumeThread(thread)
		_ = windows.CloseHandle(thread)
		if err != nil {
			return err
		}
		resumed = true
	}
	if !resumed {
		return err
	}
	return nil
}

// interrupt returns false: a process without a console has no Ctrl-C.
func (g group) interrupt() bool { return false }

func (g group) kill() {
	if g.job == 0 {
		_ = g.process.Kill()
		return
	}
	_ = windows.TerminateJobObject(g.job, 1)
}

func (g group) close() {
	if g.job != 0 {
		_ = windows.CloseHandle(g.job)
	}
}

func exitSignal(*os.ProcessState) syscall.Signal { return 0 }
