package native

import (
	"runtime/debug"
	"testing"

	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/stub"
)

// TestReturnFree frees many small C allocations below one that stays, so that the C
// library keeps them until ReturnFree.
func TestReturnFree(t *testing.T) {
	if mallocTrim() == nil {
		t.Skip("this C library has no malloc_trim")
	}
	lib, err := Open(stub.Library(t, `
#include <stdlib.h>
#include <string.h>
enum { blocks = 4096, size = 16384 };
static char *list[blocks], *top;
void take(void) {
	for (int i = 0; i < blocks; i++) memset(list[i] = malloc(size), 1, size);
	memset(top = malloc(size), 1, size);
}
void give(void) { for (int i = 0; i < blocks; i++) free(list[i]); }
`), "")
	if err != nil {
		t.Fatal(err)
	}
	var take, give func()
	if err := lib.Bind("", Func{"take", &take}, Func{"give", &give}); err != nil {
		t.Fatal(err)
	}
	const taken = 4096 * 16384
	resident := func() int64 {
		debug.FreeOSMemory()
		return memory.SelfStatus()["VmRSS"]
	}
	start := resident()
	take()
	full := resident()
	give()
	given := resident()
	ReturnFree()
	trimmed := resident()
	t.Logf("MiB: %d, with blocks %d, without %d, trimmed %d", start>>20, full>>20, given>>20, trimmed>>20)
	if full-start < taken*9/10 || given-trimmed < taken/2 {
		t.Errorf("ReturnFree gave back %d of %d bytes", given-trimmed, taken)
	}
}
