//go:build !amd64

package frame

// fast is false: there are no faster functions for this processor.
const fast = false

func warpRow[T sample](*Frame, *toRGB, []byte, int64, int64, int64, int64, int64) int { return 0 }
