//go:build unix

package disk

import (
	"errors"
	"syscall"
)

// IsFull reports whether a write failed because no space, or no quota, is left.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// IsTooLarge reports whether a write failed at a limit on the size of files.
func IsTooLarge(err error) bool { return errors.Is(err, syscall.EFBIG) }
