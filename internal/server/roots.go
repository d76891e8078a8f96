package server

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
)

// underRoot returns the real path of a file that a job names. With all links
// followed, it must be in one of the allowed folders.
func (s *Server) underRoot(path string) (string, os.FileInfo, error) {
	// The same error for a missing file: a client must not learn which exist.
	refused := fault.Usage.New("use the file "+path, "it is not in a folder that this server allows", "upload it, or add its folder to `root`")
	roots := realRoots(s.o.Roots)
	// First by its name only: even a look at \\host\share would send this machine's
	// credentials to that host, and other names are devices.
	if !inRoots(roots, path) {
		return "", nil, refused
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil || !inRoots(roots, real) {
		return "", nil, refused
	}
	st, err := os.Stat(real)
	if err != nil {
		return "", nil, refused
	}
	if !st.Mode().IsRegular() {
		return "", nil, fault.Usage.New("use the file "+path, "it is not a regular file")
	}
	return real, st, nil
}

// realRoots returns the absolute paths of folders, and their real paths.
func realRoots(roots []string) (all []string) {
	for _, root := range roots {
		abs, err := filepath.Abs(root)
		if err != nil {
			continue
		}
		all = append(all, abs)
		if real, err := filepath.EvalSymlinks(abs); err == nil && real != abs {
			all = append(all, real)
		}
	}
	return all
}

// inRoots reports whether a path is absolute and names something in one of the roots; see
// disk.Within.
func inRoots(roots []string, path string) bool {
	return filepath.IsAbs(path) && slices.ContainsFunc(roots, func(root string) bool { return disk.Within(root, path) })
}
