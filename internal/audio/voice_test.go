package audio

import (
	"errors"
	"io"
	"math"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
)

// sweep is a source of a tone that rises.
type sweep struct{ at, end int64 }

func (v *sweep) Read(p []float32) (int, error) {
	n := int(min(int64(len(p)), v.end-v.at))
	for i := range p[:n] {
		at := float64(v.at + int64(i))
		p[i] = float32(0.3 * math.Sin(at*at*1e-7))
	}
	v.at += int64(n)
	if v.at == v.end {
		return n, io.EOF
	}
	return n, nil
}

// samples is a source of samples that are in memory.
type samples []float32

func (s *samples) Read(p []float32) (int, error) {
	if len(*s) == 0 {
		return 0, io.EOF
	}
	n := copy(p, *s)
	*s = (*s)[n:]
	return n, nil
}

func newVoice(t testing.TB, needs Needs) *Voice {
	t.Helper()
	v, err := NewVoice(t.TempDir(), needs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

func listened(t testing.TB, needs Needs, s samples) *Voice {
	t.Helper()
	v := newVoice(t, needs)
	if err := v.Listen(&s, "voice"); err != nil {
		t.Fatal(err)
	}
	return v
}

// A voice answers the same whatever else is asked of it.
func TestVoiceNeeds(t *testing.T) {
	speech := readWAV(t, "speech.wav")
	plain := listened(t, Needs{}, speech)
	all := listened(t, Needs{Mouths: true, Mel: true}, speech)
	mel := listened(t, Needs{Mel: true}, speech)
	want := analysed(t, speech)
	for _, v := range []*Voice{plain, mel, all} {
		if v.Duration() != want.duration || v.SpeechSeconds() != want.speech.seconds() {
			t.Errorf("%+v: %g s, %g s of speech", v.needs, v.Duration(), v.SpeechSeconds())
		}
		for at := -0.5; at < 7; at += 0.003 {
			if v.Speech(at) != want.speech.at(at) {
				t.Fatalf("%+v: speech %g at %g s", v.needs, v.Speech(at), at)
			}
		}
	}
	for at := -0.5; at < 7; at += 0.003 {
		if all.Mouth(at) != want.mouth(at) || all.Envelope(at) != want.envelope(at) {
			t.Fatalf("another mouth at %g s", at)
		}
	}
	a, err := all.Mel(t.Context(), 0, all.MelFrames())
	b, err2 := mel.Mel(t.Context(), 0, mel.MelFrames())
	if err := errors.Join(err, err2); err != nil || !slices.Equal(a, b) || mel.Silence() != all.Silence() {
		t.Errorf("another log-mel: %v", err)
	}
	if plain.MelFrames() != 0 {
		t.Errorf("%d columns without a log-mel", plain.MelFrames())
	}
	if _, err := plain.Mel(t.Context(), 0, 1); fault.KindOf(err) != fault.Internal {
		t.Errorf("without a log-mel: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a voice without mouth shapes returns some")
		}
	}()
	plain.Mouth(0)
}

// Without mouth shapes nothing is classified, and without a log-mel nothing is
// written to disk.
func TestVoiceComputesOnlyWhatIsNeeded(t *testing.T) {
	a := newAnalyzer(false)
	a.write(readWAV(t, "speech.wav"))
	if tr := a.finish(); len(tr.speech.spans) == 0 || a.classifier != nil || len(tr.hops)+len(tr.levels) > 0 || a.feature != [mfccCoeffs]float64{} || a.mfcc.mel != [melBands]float64{} {
		t.Errorf("%d hops are classified, of %d spans of speech", len(tr.hops), len(tr.speech.spans))
	}
	if v, err := NewVoice("testdata/nowhere", Needs{Mouths: true}); err != nil || v.spool != nil {
		t.Errorf("without a log-mel: %v", err)
	}
	if _, err := NewVoice("testdata/nowhere", Needs{Mel: true}); fault.KindOf(err) != fault.Output || fault.HintOf(err) == "" {
		t.Errorf("no such folder: %v", err)
	}
}

// Quiet looks at every time between its two, also at those between samples of
// Speech.
func TestVoiceQuiet(t *testing.T) {
	v := listened(t, Needs{}, readWAV(t, "speech.wav"))
	const step = 0.001
	var quiet, loud int
	for _, length := range []float64{0.01, 0.4, 0.8} {
		for from := -1.0; from < 7; from += 0.01 {
			want := true
			for at := from + step/2; at < from+length; at += step {
				want = want && v.Speech(at) == 0
			}
			if got := v.Quiet(from, from+length); got != want {
				// Within a step of the edge of a flank only Quiet is exact.
				if v.Quiet(from+step, from+length-step) == v.Quiet(from-step, from+length+step) {
					t.Errorf("%g to %g s: quiet %v", from, from+length, got)
				}
			} else if got {
				quiet++
			} else {
				loud++
			}
		}
	}
	if quiet < 300 || loud < 300 {
		t.Errorf("%d quiet, %d not", quiet, loud)
	}
	if !newVoice(t, Needs{}).Quiet(0, 1) {
		t.Error("a voice that nobody has listened to speaks")
	}
}

// Observers get every sample, once.
func TestVoiceObservers(t *testing.T) {
	var heard int
	count := func(s []float32) error { heard += len(s); return nil }
	v := newVoice(t, Needs{Mel: true})
	if err := v.Listen(&sweep{end: 40001}, "voice", count); err != nil || heard != 40001 || v.spool.total != 40001 || v.Duration() != 40001./SampleRate {
		t.Errorf("%d samples of %g s, %v", heard, v.Duration(), err)
	}
	full := errors.New("disk full")
	if err := newVoice(t, Needs{}).Listen(&sweep{end: 40001}, "voice", func([]float32) error { return full }); err != full {
		t.Errorf("got %v", err)
	}
	if err := newVoice(t, Needs{}).Listen(&samples{}, "voice"); fault.KindOf(err) != fault.Input {
		t.Errorf("empty: %v", err)
	}
}
