package child

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"
)

// playHere plays the roles that only this system has.
func playHere(role string) int {
	switch role {
	case "window":
		window, _, _ := windows.NewLazySystemDLL("kernel32.dll").NewProc("GetConsoleWindow").Call()
		fmt.Println(window)
	case "violation":
		fmt.Println("ready")
		windows.NewLazySystemDLL("ntdll.dll").NewProc("NtTerminateProcess").Call(^uintptr(0), 0xC0000005)
	}
	return 0
}

// ended reports whether a process has ended.
func ended(pid int) bool {
	h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		return true
	}
	defer func() { _ = windows.CloseHandle(h) }()
	s, err := windows.WaitForSingleObject(h, 0)
	return err == nil && s == windows.WAIT_OBJECT_0
}

func TestNoWindow(t *testing.T) {
	out, err := Output(t.Context(), program("window"), 0, 100)
	if err != nil || strings.TrimSpace(string(out)) != "0" {
		t.Errorf("console window %q, %v", out, err)
	}
}

// TestKillWithoutJob: a process that could not enter a job can be killed.
func TestKillWithoutJob(t *testing.T) {
	p, _, _ := reader(t, t.Context(), "deaf", 0)
	defer p.group.close() // as it was
	p.group.job = 0
	p.Kill()
	if err := p.Wait(); err == nil {
		t.Error("it ended well")
	}
}

func TestStatusOfCrash(t *testing.T) {
	_, err := Output(t.Context(), program("violation"), 0, 100)
	if err == nil || !strings.HasSuffix(err.Error(), "failed with exit code 0xc0000005") {
		t.Error(err)
	}
}

// TestHandles: the handles of jobs and threads are closed.
func TestHandles(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	handles := windows.NewLazySystemDLL("kernel32.dll").NewProc("GetProcessHandleCount")
	count := func() (n uint32) {
		for range 10 {
			if _, err := Output(t.Context(), program("good"), 0, 100); err != nil {
				t.Fatal(err)
			}
		}
		if ok, _, err := handles.Call(uintptr(windows.CurrentProcess()), uintptr(unsafe.Pointer(&n))); ok == 0 {
			t.Fatal(err)
		}
		return n
	}
	// Threads of the runtime come and go: one round without more handles is enough.
	counts := []uint32{count()}
	for range 5 {
		n := count()
		if n <= slices.Max(counts) {
			return
		}
		counts = append(counts, n)
	}
	t.Errorf("handles after each round of 10 processes: %d", counts)
}
