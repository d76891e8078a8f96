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

// Analyze listens to all of src, which messages call name, and hands the
// samples on to also, piece by piece, so that one decoding does for all: a
// Spool's Write for example. Errors of src and also come back as they are.
func Analyze(src Source, name string, also ...func([]float32) error) (*Track, error) {
	a, buf := NewAnalyzer(), make([]float32, 16384)
	for {
		n, err := src.Read(buf)
		a.Write(buf[:n])
		for _, hear := range also {
			if err := hear(buf[:n]); err != nil {
				return nil, err
			}
		}
		if errors.Is(err, io.EOF) {
			t, err := a.Finish()
			return t, fault.KindOf(err).Wrap("listen to "+name, err)
		}
		if err != nil {
			return nil, err
		}
	}
}
