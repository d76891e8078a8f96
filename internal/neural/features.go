package neural

import (
	"context"
	"maps"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// features computes the features of Whisper, window by window on demand. It keeps a few
// windows.
type features struct {
	recipe  recipe
	voice   *audio.Voice
	speech  func(seconds float64) float64
	net     *model
	config  network.WhisperConfig
	overlap bool
	windows map[int64][]float32 // [Context, Features, State] by window number
	code    []float32           // MuseTalk's position code, [tokens, State]; nil until the first frame
}

func newFeatures(o Options, c network.WhisperConfig) *features {
	return &features{recipe: o.recipe, voice: o.Voice, speech: o.Speech, config: c, overlap: o.WhisperOverlap, windows: map[int64][]float32{}}
}

// model returns Whisper's encoder for one window per call.
func (f *features) model() model {
	return model{name: workWhisper, file: func(f Files) string { return f.Whisper }, precision: exact,
		build: func(w *checkpoint.File, _ int, t network.Target) ([]*onnx.Graph, error) {
			return one(network.Whisper(f.config, w, t))
		}}
}

// frame returns the tokens of a frame, [tokens, State].
func (f *features) frame(ctx context.Context, frame, rateNum, rateDen int64) ([]float32, error) {
	return f.recipe.tokens(f, frame, rateNum, rateDen, func(k int64) ([]float32, error) { return f.at(ctx, k) })
}

// hop returns the number of features from the start of a window to the start of the next.
// Overlapping windows share a third of their features.
func (f *features) hop() int64 {
	if f.overlap {
		return int64(f.config.Context) * 2 / 3
	}
	return int64(f.config.Context)
}

// fadeFeatures is the length of the crossfade between two windows.
const fadeFeatures = audio.FeatureRate

// at returns feature k, [Features, State]. If two windows contain it, at takes it from the
// window whose border is farther away, with a crossfade in the middle.
func (f *features) at(ctx context.Context, k int64) ([]float32, error) {
	hop, context := f.hop(), int64(f.config.Context)
	w := k / hop
	into, shared := k-w*hop, context-hop // features into this window, features shared with the one before
	later := float32(1)
	if w > 0 && into < shared {
		later = min(max(float32(into-(shared-fadeFeatures)/2)/fadeFeatures, 0), 1)
	}
	size := int64(f.config.Features() * f.config.State)
	vector := func(w int64) ([]float32, error) {
		all, err := f.window(ctx, w)
		if err != nil {
			return nil, err
		}
		at := (k - w*hop) * size
		return all[at : at+size], nil
	}
	if later == 1 {
		return vector(w)
	}
	before, err := vector(w - 1)
	if err != nil || later == 0 {
		return before, err
	}
	after, err := vector(w)
	if err != nil {
		return nil, err
	}
	mixed := make([]float32, size)
	for i := range mixed {
		mixed[i] = before[i] + later*(after[i]-before[i])
	}
	return mixed, nil
}

// window returns the features of window w, which begins at feature w·hop.
func (f *features) window(ctx context.Context, w int64) ([]float32, error) {
	if v, ok := f.windows[w]; ok {
		return v, nil
	}
	columns, first := int64(2*f.config.Context), 2*w*f.hop()
	mel, silence, err := f.recipe.mel(ctx, f.voice, first, columns)
	if err != nil {
		return nil, err
	}
	f.hush(mel, silence, first, columns)
	flow := network.Flow{"mel": tensor.FromF32(mel, 1, audio.MelBands, int(columns))}
	err = f.net.ready(ctx, 1)
	if err == nil {
		err = f.net.whole(ctx, flow)
	}
	if err != nil {
		return nil, fault.KindOf(err).Wrap("listen with Whisper", err)
	}
	v := flow["features"].F32()
	if err := finite(v); err != nil {
		return nil, broken("listen with", "Whisper", err)
	}
	// Frames come in order, so only neighbours of w will be needed again. Minutes
	// without a face may lie between two windows.
	maps.DeleteFunc(f.windows, func(k int64, _ []float32) bool { return k < w-1 || k > w+1 })
	f.windows[w] = v
	return v, nil
}

// hush sets the columns without speech, up to the end of the voice, to the value of
// silence.
func (f *features) hush(mel []float32, silence float32, first, columns int64) {
	if f.speech == nil {
		return
	}
	for c := range min(columns, f.voice.MelFrames()-first) {
		if f.speech(float64(first+c)*audio.MelHop/audio.SampleRate) > 0 {
			continue
		}
		for row := range int64(audio.MelBands) {
			mel[row*columns+c] = silence
		}
	}
}
