package native

import (
	"runtime"
	"testing"

	"github.com/lipstream/lipstream/internal/stub"
)

// TestKeepSignalStack exchanges the signal stack as OpenVINO's CPU plugin
// does.
func TestKeepSignalStack(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	lib, err := Open(stub.Library(t, `
#include <signal.h>
#include <stddef.h>
static char stack[65536];
int exchange(void) {
	stack_t s = {.ss_sp = stack, .ss_size = sizeof stack};
	return sigaltstack(&s, NULL);
}
void *current(void) {
	stack_t s;
	return sigaltstack(NULL, &s) ? NULL : s.ss_sp;
}
int blocked(int sig) {
	sigset_t set;
	sigprocmask(SIG_BLOCK, NULL, &set);
	return sigismember(&set, sig);
}
`), "")
	if err != nil {
		t.Fatal(err)
	}
	var exchange func() int32
	var current func() uintptr
	var blocked func(int32) int32
	if err := lib.Bind("", Func{"exchange", &exchange}, Func{"current", &current}, Func{"blocked", &blocked}); err != nil {
		t.Fatal(err)
	}
	const sigurg, sigsegv = 23, 11
	before := current()
	KeepSignalStack(func() {
		if blocked(sigurg) != 1 || blocked(sigsegv) != 0 {
			t.Errorf("inside, SIGURG is blocked: %d, SIGSEGV: %d", blocked(sigurg), blocked(sigsegv))
		}
		if exchange() != 0 || current() == before {
			t.Error("the stub does not exchange the stack")
		}
	})
	if got := current(); got != before {
		t.Errorf("the signal stack is at %#x, was at %#x", got, before)
	}
	if blocked(sigurg) != 0 {
		t.Error("SIGURG stays blocked")
	}
}
