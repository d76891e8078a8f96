package native

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Errors of Windows' loader.
const (
	moduleNotFound    = syscall.Errno(126) // ERROR_MOD_NOT_FOUND
	procedureNotFound = syscall.Errno(127) // ERROR_PROC_NOT_FOUND
)

// MissingError is returned for a library that needs others, which were not found.
type MissingError struct{ Names []string }

// Error names the libraries.
func (e *MissingError) Error() string {
	if len(e.Names) == 1 {
		return "it needs " + e.Names[0] + ", which was not found"
	}
	return "it needs " + strings.Join(e.Names, ", ") + ", which were not found"
}

// explain names the libraries that the one at path needs, if they are why the loader has
// refused it. Windows does not.
func explain(path string, err error) error {
	switch {
	case errors.Is(err, moduleNotFound):
		if names := missing(path, finder(filepath.Dir(path), searchPath())); len(names) > 0 {
			return &MissingError{names}
		}
		return fmt.Errorf("one of the libraries that it needs is missing: %w", err)
	case errors.Is(err, procedureNotFound):
		return fmt.Errorf("one of the libraries that it needs has another version: %w", err)
	}
	return err
}

// finder returns a function that searches where Windows does for what a library in dir
// needs: among the loaded libraries, in dir, then in others. It returns "" for the path
// of a library of the system, whose needs are not examined.
func finder(dir string, others []string) func(name string) (path string, ok bool) {
	return func(name string) (string, bool) {
		lower := strings.ToLower(name)
		// These are not files: they are names for parts of the system.
		if strings.HasPrefix(lower, "api-ms-") || strings.HasPrefix(lower, "ext-ms-") || loaded(name) != "" {
			return "", true
		}
		if at := filepath.Join(dir, name); exists(at) {
			return at, true
		}
		for _, d := range others {
			if filepath.IsAbs(d) && exists(filepath.Join(d, name)) {
				return "", true
			}
		}
		return "", false
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// missing returns the libraries that the one at path needs, directly or through another,
// and that find does not find.
func missing(path string, find func(name string) (path string, ok bool)) []string {
	var list []string
	seen := map[string]bool{}
	var visit func(path string)
	visit = func(path string) {
		names, err := Imports(path)
		if err != nil {
			return // the loader reports it
		}
		for _, n := range names {
			key := strings.ToLower(n)
			if seen[key] {
				continue
			}
			seen[key] = true
			if next, ok := find(n); !ok {
				list = append(list, n)
			} else if next != "" {
				visit(next)
			}
		}
	}
	visit(path)
	return list
}
