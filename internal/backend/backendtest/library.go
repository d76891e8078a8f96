package backendtest

import (
	"os"
	"testing"

	"github.com/lipstream/lipstream/internal/backend/wheels"
)

// RequireVariable, when set in the environment, makes tests fail that need a
// runtime which is not installed, as CI does. Otherwise they are skipped.
const RequireVariable = "LIPSTREAM_REQUIRE_RUNTIMES"

// Library returns the path of the installed library of a backend.
func Library(t testing.TB, name string) string {
	t.Helper()
	list, err := wheels.Candidates(t.Context(), name)
	if err == nil {
		return list[0].Path
	}
	if os.Getenv(RequireVariable) != "" || os.Getenv("CI") != "" {
		t.Fatalf("%v; run: lipstream runtime install %s", err, name)
	}
	t.Skipf("%v; run: lipstream runtime install %s", err, name)
	return ""
}
