package latentsync

import (
	"context"

	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
)

// The values of Options.Silence: what happens to the mouth in a long silence.
const (
	SilenceSpeak = "speak" // frames are denoised like all others; the network closes the mouth
	SilenceHold  = "hold"  // the mouth stays as it was when the silence began, which costs nothing
	SilencePass  = "pass"  // frames are not changed
)

// passSilence outputs a frame of a long silence without denoising it, if the options say
// so. It reports whether it did.
func (e *Engine) passSilence(ctx context.Context, it lip.Item, m frame.Affine) (bool, error) {
	hold := e.o.Silence == SilenceHold
	switch {
	case !hold && e.o.Silence != SilencePass, e.o.Quiet == nil, !e.o.Quiet(it.Frame.Index):
		return false, nil
	case hold && e.last == nil && len(e.shot.covered) == 0:
		return false, nil // no mouth has been painted yet
	}
	if err := e.complete(ctx); err != nil {
		return false, err
	}
	if hold {
		it = e.paint(it, m, e.painter.aligner.Crop(it.Frame, m), e.last)
	}
	e.out = append(e.out, it)
	e.networks.note(workRest, 1, 0, 0)
	return true, nil
}
