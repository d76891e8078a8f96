package backendtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/memory"
)

// childVariable is set in a child of InChild to the test that it is for.
const childVariable = "LIPSTREAM_TEST_CHILD"

// InChild runs the calling test once more in a process of its own and reports
// false; in that process it reports true. What the child says is logged, and
// the test fails if it does, or if the child dies.
func InChild(t *testing.T) bool {
	t.Helper()
	if os.Getenv(childVariable) == t.Name() {
		return true
	}
	var pattern []string
	for part := range strings.SplitSeq(t.Name(), "/") {
		pattern = append(pattern, "^"+part+"$")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+strings.Join(pattern, "/"), "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), childVariable+"="+t.Name())
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("the test in a process of its own: %v", err)
	}
	return false
}

// residentPeak gives the resident size of the process and its high-water mark.
func residentPeak(t *testing.T) (now, peak int64) {
	t.Helper()
	f := memory.SelfStatus("VmRSS", "VmHWM")
	if f["VmHWM"] == 0 {
		t.Skip("this system does not tell the size of a process")
	}
	return f["VmRSS"], f["VmHWM"]
}
