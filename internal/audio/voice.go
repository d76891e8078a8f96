package audio

import (
	"context"
	"errors"
	"io"

	"github.com/lipstream/lipstream/internal/fault"
)

// Source reads mono samples at SampleRate, -1..1. Read returns io.EOF with the
// last samples or after them.
type Source interface {
	Read(p []float32) (n int, err error)
}

// Needs says what a job asks of its voice. What it does not need is not
// computed.
type Needs struct {
	Mouths bool // mouth shapes: Mouth and Envelope
	Mel    bool // Whisper's log-mel: MelFrames, Mel and Silence
}

// Voice is the speech of a job. NewVoice returns an empty one, so that an
// engine can hold it before anybody has listened to it; Listen fills it, once.
// After that any number of goroutines may use it, until Close.
//
// Memory grows by 3.2 MB per hour with Needs.Mouths, by 0.4 MB without, and by 2.2 MB more
// while listening. The
// samples for the log-mel are kept on disk.
type Voice struct {
	needs Needs
	track track
	spool *spool // with Needs.Mel
}

// NewVoice returns an empty voice. With Needs.Mel it keeps the samples in a
// temporary file in dir, or in the system's folder for such files if dir is "".
// Close removes the file.
func NewVoice(dir string, needs Needs) (*Voice, error) {
	v := &Voice{needs: needs}
	if needs.Mel {
		var err error
		if v.spool, err = newSpool(dir); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// Listen reads all samples of src, which error messages call name. It passes
// them to the observers piece by piece, so that the sound is decoded once.
// Errors of src and of the observers are returned unchanged.
func (v *Voice) Listen(src Source, name string, observers ...func([]float32) error) error {
	if v.spool != nil {
		observers = append(observers, v.spool.write)
	}
	a, buf := newAnalyzer(v.needs.Mouths), make([]float32, 16384)
	for {
		n, err := src.Read(buf)
		a.write(buf[:n])
		for _, observe := range observers {
			if err := observe(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if a.samples == 0 {
		return fault.Input.New("listen to "+name, "it has no audio samples", "choose a file whose audio stream is not empty")
	}
	v.track = a.finish()
	if v.spool != nil {
		return v.spool.finish()
	}
	return nil
}

// Duration returns the length of the voice in seconds.
func (v *Voice) Duration() float64 { return v.track.duration }

// Speech returns how much speech there is at a time in seconds: 0 in silence,
// 1 in speech, with flanks around each stretch of speech.
func (v *Voice) Speech(at float64) float64 { return v.track.speech.at(at) }

// SpeechSeconds returns how long somebody speaks, in seconds.
func (v *Voice) SpeechSeconds() float64 { return v.track.speech.seconds() }

// Quiet reports whether nobody speaks between two times in seconds: Speech is
// 0 everywhere in between.
func (v *Voice) Quiet(from, to float64) bool { return v.track.speech.quiet(from, to) }

// Mouth returns the mouth at a time in seconds. In silence, before the start
// and after the end it is the zero Mouth. The voice must have Needs.Mouths.
func (v *Voice) Mouth(at float64) Mouth {
	v.needMouths()
	return v.track.mouth(at)
}

// Envelope returns the loudness of the voice at a time in seconds: the level
// between 300 and 3000 Hz, smoothed over 50 ms, from 0 at the speaker's soft
// end and below to 1 at the loud end. It is a reference for measuring lip sync
// that does not depend on visemes. The voice must have Needs.Mouths.
func (v *Voice) Envelope(at float64) float64 {
	v.needMouths()
	return v.track.envelope(at)
}

func (v *Voice) needMouths() {
	if !v.needs.Mouths {
		panic("audio: the voice was made without Needs.Mouths")
	}
}

// MelFrames returns the number of columns of the voice's log-mel: one for each
// whole MelHop of samples, at least 2. It is 0 without Needs.Mel.
func (v *Voice) MelFrames() int64 {
	if v.spool == nil {
		return 0
	}
	return v.spool.melFrames()
}

// Mel computes columns start to start+count-1 of the normalised log-mel (spec
// 2.1): MelBands rows of count values, row-major, about -1.5..1.5. Columns
// from MelFrames on are 0, because the original pads its last segment with
// zeros (spec 2.2). A column has the same bits whichever columns are computed
// with it. An error of reading the temporary file has the kind fault.Output.
// The voice must have Needs.Mel.
func (v *Voice) Mel(ctx context.Context, start, count int64) ([]float32, error) {
	if v.spool == nil {
		return nil, fault.Internal.New(computeMel, "the voice was made without Needs.Mel")
	}
	return v.spool.mel(ctx, start, count)
}

// MelSegment computes the log-mel of a segment as transformers does, for MuseTalk: MelBands
// rows of count values, row-major. The segment consists of the count·MelHop samples from
// column start on, as if there were no others. Beyond the end of the voice they are zero
// (docs/spec/musetalk.md, section 3.2). So, unlike Mel, values depend on the segment: the
// samples are mirrored at its borders, its own loudest value sets the least one, and
// columns after the end of the voice have that least value, which is silence. It uses
// memory for one segment. An error of reading the temporary file has the kind
// fault.Output. The voice must have Needs.Mel.
func (v *Voice) MelSegment(ctx context.Context, start, count int64) (mel []float32, silence float32, err error) {
	if v.spool == nil {
		return nil, 0, fault.Internal.New(computeMel, "the voice was made without Needs.Mel")
	}
	return v.spool.segment(ctx, start, count)
}

// Silence returns the least value in this voice's normalised log-mel: what
// digital silence in it would look like. The voice must have Needs.Mel.
func (v *Voice) Silence() float32 { return v.spool.silence() }

// Close removes the temporary file. The voice must not be used afterwards.
func (v *Voice) Close() error {
	if v.spool == nil {
		return nil
	}
	return v.spool.close()
}
