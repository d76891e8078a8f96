package bench

import (
	"errors"
	"io"
	"math"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/syncnet"
)

func TestPlaceOf(t *testing.T) {
	f := &face.Face{Track: 2, Points: []face.Point{{X: 10, Y: 20}, {X: 50, Y: 100}, {X: 30, Y: 60}}}
	if got, want := placeOf(f), (place{2, syncnet.Box{X: 30, Y: 60, Half: 40}}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := placeOf(nil); got.track != -1 {
		t.Errorf("%+v", got)
	}
}

// TestAt25 takes each frame's place from the video's frame at that time.
func TestAt25(t *testing.T) {
	for _, tt := range []struct {
		rate media.Rational
		want []int
	}{
		{media.Rational{Num: 25, Den: 1}, []int{0, 1, 2, 3, 4, 5}},
		{media.Rational{Num: 30, Den: 1}, []int{0, 1, 2, 4, 5}},
		{media.Rational{Num: 50, Den: 1}, []int{0, 2, 4}},
		{media.Rational{Num: 10, Den: 1}, []int{0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 5, 5, 5}},
	} {
		places := make([]place, 6)
		for i := range places {
			places[i].track = i
		}
		var got []int
		for _, p := range at25(places, tt.rate) {
			got = append(got, p.track)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%v: %v, want %v", tt.rate, got, tt.want)
		}
	}
}

// TestStretches drops what is too short, and smooths no box over a cut.
func TestStretches(t *testing.T) {
	var places []place
	add := func(n, track int, x float64) {
		for range n {
			places = append(places, place{track, syncnet.Box{X: x, Y: x, Half: x}})
		}
	}
	add(minStretch+1, 0, 10)
	add(minStretch, 1, 20)
	add(3, -1, 0)
	add(60, 2, 30)
	places[20].box.X = 500 // an outlier
	stretches(places)
	for i, p := range places {
		want := place{-1, p.box}
		switch {
		case i <= minStretch:
			want = place{0, syncnet.Box{X: 10, Y: 10, Half: 10}}
		case i >= 2*minStretch+4:
			want = place{2, syncnet.Box{X: 30, Y: 30, Half: 30}}
		}
		if p != want {
			t.Errorf("frame %d is at %+v, want %+v", i, p, want)
		}
	}
}

// floats is a sound that arrives in small pieces.
type floats []float32

func (f *floats) Read(p []float32) (int, error) {
	n := copy(p[:min(len(p), 2)], *f)
	if *f = (*f)[n:]; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

type broken struct{}

func (broken) Read([]float32) (int, error) { return 0, iotest.ErrTimeout }

func TestReadSamples(t *testing.T) {
	sound := floats{0, 0.5, -0.5, 1, -1, 2, 1.5 / 32768, 0.4 / 32768, -2}
	got, err := readSamples(&sound, 5)
	if err != nil || !slices.Equal(got, []int16{0, 16384, -16384, 32767, -32768}) {
		t.Errorf("%v, %v", got, err)
	}
	got, err = readSamples(&sound, 3)
	if err != nil || !slices.Equal(got, []int16{32767, 2, 0}) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err = readSamples(&sound, 2); !errors.Is(err, io.EOF) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err = readSamples(broken{}, 2); !errors.Is(err, iotest.ErrTimeout) {
		t.Error(err)
	}
}

func TestLSEFigures(t *testing.T) {
	got := lseFigures([]syncnet.Score{{Confidence: 4, Distance: 9, Offset: 1, Windows: 50}, {Confidence: 6, Distance: 7, Offset: 0, Windows: 100}})
	for i, want := range []float64{5, 8, 0.5} {
		if got[i].Value != want {
			t.Errorf("%s is %v", got[i].Key, got[i].Value)
		}
	}
	for _, f := range lseFigures(nil) {
		if !math.IsNaN(f.Value) || f.Verdict() != "" {
			t.Errorf("%+v", f)
		}
	}
}
