package audio

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/golden"
)

// segmentColumns is the number of columns of a segment of Whisper, 30 s.
const segmentColumns = 3000

func segment(t testing.TB, s *spool, start, count int64) (mel []float32, silence float32) {
	t.Helper()
	mel, silence, err := s.segment(context.Background(), start, count)
	if err != nil {
		t.Fatal(err)
	}
	return mel, silence
}

// part returns columns from (inclusive) to to (exclusive) of a log-mel of count columns.
func part(mel []float32, count, from, to int) []float32 {
	var out []float32
	for row := range MelBands {
		out = append(out, mel[row*count+from:row*count+to]...)
	}
	return out
}

// TestMelSegmentAgreesWithOriginal compares with transformers' log-mel, within 1e-4
// (testdata/musetalk/networks.md).
func TestMelSegmentAgreesWithOriginal(t *testing.T) {
	speech := readWAV(t, "mel.wav")
	for _, file := range []struct {
		name    string
		samples []float32
		parts   map[string][3]int // the segment, and the first and last column
	}{
		{"speech", speech, map[string][3]int{"logmel": {0, 0, 309}}},
		{"demo", readWAV(t, "speech.wav"), map[string][3]int{"logmel_240_360": {0, 240, 360}, "logmel_590_620": {0, 590, 620}}},
		{"long", slices.Repeat(speech, 11), map[string][3]int{
			"seg0_logmel_2980_3000": {0, 2980, 3000}, "seg1_logmel_0_20": {1, 0, 20}, "seg1_logmel_305_325": {1, 305, 325},
		}},
	} {
		f, err := checkpoint.Open("../../testdata/musetalk/audio/" + file.name + ".safetensors")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		s := spooled(t, file.samples, 4096)
		for name, p := range file.parts {
			got, _ := segment(t, s, int64(p[0]*segmentColumns), segmentColumns)
			d := worst(t, part(got, segmentColumns, p[1], p[2]), f.Tensor(name).F32())
			golden.Check(t, golden.Measurement{Module: "log-mel of MuseTalk", Case: file.name + " " + name, Measure: "max abs", Value: d, Limit: 1e-4})
		}
	}
}

// TestMelSegmentIsAVoiceOfItsOwn checks that a segment has the values of a voice that
// consists of nothing but its samples and padding.
func TestMelSegmentIsAVoiceOfItsOwn(t *testing.T) {
	speech := readWAV(t, "mel.wav")
	s := spooled(t, speech, 4096)
	for _, p := range [][2]int64{{0, 50}, {37, 100}, {250, 51}, {250, 52}, {290, 700}, {301, 3}, {302, 3}, {400, 5}} {
		start, count := p[0], p[1]
		alone := make([]float32, count*MelHop)
		if from := start * MelHop; from < int64(len(speech)) {
			copy(alone, speech[from:])
		}
		own := spooled(t, alone, 999)
		got, silence := segment(t, s, start, count)
		if d := worst(t, got, mel(t, own, 0, count)); d > 1e-6 {
			t.Errorf("%d columns from %d: differ by %g", count, start, d)
		}
		if d := math.Abs(float64(silence - own.silence())); d > 1e-6 || slices.Min(got) < silence {
			t.Errorf("%d columns from %d: silence is %v, want %v", count, start, silence, own.silence())
		}
	}
	if got, silence := segment(t, spooled(t, make([]float32, 5000), 999), 0, 40); silence != -1.5 || slices.Max(got) != -1.5 {
		t.Errorf("digital silence is %v", silence)
	}
}

func TestMelSegmentMisuse(t *testing.T) {
	s := spooled(t, readWAV(t, "mel.wav"), 4096)
	if _, _, err := s.segment(t.Context(), -1, 5); fault.KindOf(err) != fault.Internal {
		t.Errorf("before the start: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.segment(ctx, 0, 5); fault.KindOf(err) != fault.Cancelled {
		t.Errorf("cancelled: %v", err)
	}
	v, err := NewVoice("", Needs{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := v.MelSegment(t.Context(), 0, 5); fault.KindOf(err) != fault.Internal {
		t.Errorf("without Needs.Mel: %v", err)
	}
}
