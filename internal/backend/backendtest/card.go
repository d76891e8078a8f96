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
	file string // says how much memory is in use
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
typedef struct { unsigned long long total, free, used; } memory;
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int r) { return "error"; }
int nvmlSystemGetDriverVersion(char *v, unsigned int n) { strcpy(v, "580.0"); return 0; }
int nvmlDeviceGetCount_v2(unsigned int *n) { *n = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, void **d) { *d = (void *)1; return 0; }
int nvmlDeviceGetName(void *d, char *s, unsigned int n) { strcpy(s, "stub"); return 0; }
int nvmlDeviceGetMemoryInfo(void *d, memory *m) {
  FILE *f = fopen("%s", "r");
  if (!f) return 999;
  int got = fscanf(f, "%%llu", &m->used);
  fclose(f);
  m->total = %dull;
  m->free = m->total - m->used;
  return got == 1 ? 0 : 999;
}
`, c.file, total))
	return c
}

// Use makes processes use so many bytes of the card.
func (c Card) Use(t testing.TB, used int64) {
	t.Helper()
	written := c.file + ".new"
	if err := os.WriteFile(written, fmt.Append(nil, used), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(written, c.file); err != nil { // a reading sees all of it
		t.Fatal(err)
	}
}
