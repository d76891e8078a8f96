//go:build !unix

package checkpoint

import (
	"io"
	"os"

	"github.com/lipstream/lipstream/internal/tensor"
)

// mapFile reads the first size bytes of a file into memory.
func mapFile(file *os.File, size int) (data []byte, unmap func() error, err error) {
	data = tensor.New(tensor.U8, size).Data // aligned, as a mapping is
	if _, err := io.ReadFull(file, data); err != nil {
		return nil, nil, err
	}
	return data, func() error { return nil }, nil
}

func dropPages([]byte) {}
