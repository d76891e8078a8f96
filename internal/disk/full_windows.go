package disk

import (
	"errors"

	"golang.org/x/sys/windows"
)

// IsFull reports whether a write failed because no space is left.
func IsFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

// IsTooLarge reports whether a write failed at a limit on the size of files.
func IsTooLarge(err error) bool { return errors.Is(err, windows.ERROR_FILE_TOO_LARGE) }
