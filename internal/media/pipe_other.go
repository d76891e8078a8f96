//go:build !linux

package media

import "os"

// enlarge does nothing: the size of a pipe's buffer cannot be set on this system.
func enlarge(*os.File) {}
