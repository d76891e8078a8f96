package audio

import (
	"errors"
	"io"

	"github.com/lipstream/lipstream/internal/fault"
)

// Source gives mono samples at SampleRate, -1..1; io.EOF at the end, with or
// after the last of them.
type Source interface {
	Read(p []float32) (n int, err error)
}

// Analyze listens to all of src, which messages call name. Errors of src come
// back as they are.
func Analyze(src Source, name string) (*Track, error) {
	a, buf := NewAnalyzer(), make([]float32, 16384)
	for {
		n, err := src.Read(buf)
		a.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			t, err := a.Finish()
			return t, fault.Wrap(fault.KindOf(err), "listen to", name, err, "")
		}
		if err != nil {
			return nil, err
		}
	}
}
