package backendtest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/lipstream/lipstream/internal/stub"
)

// Card stands in for NVIDIA's management library on a machine with one card.
type Card struct {
	NVML string // path of the library, for memory.Probe
	file string // says how much memory is in use, and how much of it this process holds
}

// NewCard returns a card with so many bytes, some of them in use. The test is skipped on
// other systems than Linux, and if gcc is not installed.
func NewCard(t testing.TB, total, used int64) Card {
	t.Helper()
	c := Card{file: filepath.Join(t.TempDir(), "used")}
	c.Use(t, used)
	c.NVML = stub.Library(t, fmt.Sprintf(`
#include <stdio.h>
#include <string.h>
#include <unistd.h>
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned pid; unsigned long long used; unsigned instances[2]; } process;
static int in_use(unsigned long long *all, unsigned long long *own) {
  FILE *f = fopen("%s", "r");
  if (!f) return 0;
  int got = fscanf(f, "%%llu %%llu", all, own);
  fclose(f);
  return got == 2;
}
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int r) { return "error"; }
int nvmlSystemGetDriverVersion(char *v, unsigned int n) { strcpy(v, "580.0"); return 0; }
int nvmlDeviceGetCount_v2(unsigned int *n) { *n = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, void **d) { *d = (void *)1; return 0; }
int nvmlDeviceGetName(void *d, char *s, unsigned int n) { strcpy(s, "stub"); return 0; }
int nvmlDeviceGetMemoryInfo(void *d, memory *m) {
  unsigned long long own;
  if (!in_use(&m->used, &own)) return 999;
  m->total = %dull;
  m->free = m->total - m->used;
  return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *n, process *list) {
  unsigned long long all;
  if (!in_use(&all, &list->used)) return 999;
  list->pid = getpid();
  *n = list->used > 0;
  return 0;
}
`, c.file, total))
	return c
}

// Use makes other processes use so many bytes of the card.
func (c Card) Use(t testing.TB, used int64) {
	t.Helper()
	c.Hold(t, used, 0)
}

// Hold makes processes use so many bytes of the card, of which this process holds own.
func (c Card) Hold(t testing.TB, used, own int64) {
	t.Helper()
	written := c.file + ".new"
	if err := os.WriteFile(written, fmt.Append(nil, used, " ", own), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(written, c.file); err != nil { // a reading sees all of it
		t.Fatal(err)
	}
}
