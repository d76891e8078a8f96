package backendtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/memory"
)

// childVariable holds the name of the test in a child of InChild.
const childVariable = "LIPSTREAM_TEST_CHILD"

// InChild runs the calling test again in a child process and returns false; in the
// child it returns true. The output of the child is logged. The test fails if the
// child fails or dies.
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
		t.Errorf("the test in a child process: %v", err)
	}
	return false
}

// residentPeak returns the resident size of the process and its peak.
func residentPeak(t *testing.T) (now, peak int64) {
	t.Helper()
	f := memory.SelfStatus()
	if f["VmHWM"] == 0 {
		t.Skip("this system does not report the size of a process")
	}
	return f["VmRSS"], f["VmHWM"]
}
