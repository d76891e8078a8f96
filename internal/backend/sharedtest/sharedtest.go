// Package sharedtest opens backends that all tests of a package share. They compile each
// network once.
package sharedtest

import (
	"context"
	"os"
	"testing"

	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/runtimes"
)

// backends are the open backends, by name.
var backends = map[string]*backendtest.Cached{}

// Open returns the named backend, on its CPU. Its tests must call Main, and must not run in
// parallel. If its library is not installed, the test is skipped, or fails as in
// backendtest.Library.
func Open(t testing.TB, name string) *backendtest.Cached {
	t.Helper()
	if b := backends[name]; b != nil {
		return b
	}
	backendtest.Library(t, name)
	b, err := runtimes.Open(context.WithoutCancel(t.Context()), runtimes.Choice{Backend: name, Device: "cpu"})
	if err != nil {
		t.Fatal(err) // it is installed, so this must not be skipped
	}
	backends[name] = backendtest.NewCached(b.Backend)
	return backends[name]
}

// Main runs the tests of a package and then closes the backends. It panics if something of
// them is still in use. It is what TestMain calls.
func Main(m *testing.M) {
	code := m.Run()
	for _, b := range backends {
		if err := b.Close(); err != nil {
			panic(err)
		}
	}
	os.Exit(code)
}
