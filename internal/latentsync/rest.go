package latentsync

import (
	"context"

	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
)

// What happens to the mouth in a long silence.
const (
	SilenceSpeak = "speak" // it is denoised like everything else: the network closes it
	SilenceHold  = "hold"  // it stays as it was at the silence's beginning, which costs nothing
	SilencePass  = "pass"  // the frames stay as they are in the video
)

// rests passes a frame of a long silence on without denoising it, where the
// options say so.
func (e *Engine) rests(ctx context.Context, it lip.Item, m frame.Affine) (bool, error) {
	hold := e.o.Silence == SilenceHold
	switch {
	case !hold && e.o.Silence != SilencePass, e.o.Quiet == nil, !e.o.Quiet(it.Frame.Index):
		return false, nil
	case hold && e.rest == nil && len(e.shot.covered) == 0:
		return false, nil // there is no mouth yet to be held
	}
	if err := e.complete(ctx); err != nil {
		return false, err
	}
	if hold {
		it = e.paint(it, m, e.painter.aligner.Crop(it.Frame, m), e.rest)
	}
	e.out = append(e.out, it)
	e.stock.note(workRest, 1, 0, 0)
	return true, nil
}
