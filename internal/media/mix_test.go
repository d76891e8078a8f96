//go:build linux

package media

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/lipstream/lipstream/internal/frame"
)

// mixOf writes a video of n frames whose sound is the mix of files, and returns its path.
func mixOf(t *testing.T, name string, frames int, files ...string) string {
	t.Helper()
	format := frame.Format{Width: 64, Height: 64, ShiftX: 1, ShiftY: 1, Depth: 8}
	rate := Rational{25, 1}
	out := filepath.Join(t.TempDir(), name)
	o := SinkOptions{Format: format, Rate: rate, Audio: probe(t, files[0]), Duration: rate.Time(int64(frames))}
	for _, f := range files[1:] {
		o.Mix = append(o.Mix, probe(t, f))
	}
	sink, err := OpenSink(t.Context(), tools(t), out, o)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	f := frame.New(format)
	for range frames {
		if err := sink.Write(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := sink.Commit(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestMix adds up voices that differ in length, rate and channels.
func TestMix(t *testing.T) {
	slow(t)
	mono := generate(t, args("-f lavfi -i aevalsrc=0.4*sin(2000*t):d=2:s=22050 mono.wav")...)
	// Left only, from 1 s on.
	stereo := generate(t, "-f", "lavfi", "-i", "aevalsrc=0.3*sin(3000*t)*gte(t\\,1)|0:c=stereo:d=3:s=48000", "stereo.wav")
	out := mixOf(t, "o.mkv", 75, mono, stereo)
	info := probe(t, out)
	if a := info.Audio[0]; a.Codec != "flac" || a.SampleRate != 48000 || a.Channels != 2 {
		t.Errorf("the mix is %+v", a)
	}
	// Both sides at 16 kHz, each by the square root of a half: every voice keeps its level.
	s := samples(t, out, 0, 16000)
	if d := math.Abs(float64(len(s)) - 48000); d > 16 {
		t.Fatalf("%d samples", len(s))
	}
	rms := func(from, to float64) float64 { return loudness(s[int(from*16000):int(to*16000)]) }
	one, two := 0.4, 0.3/2
	for _, c := range []struct{ from, to, want float64 }{
		{0.1, 0.9, one}, {1.1, 1.9, math.Hypot(one, two)}, {2.1, 2.9, two},
	} {
		if got := rms(c.from, c.to); math.Abs(got-c.want) > 0.01*c.want {
			t.Errorf("%.1f to %.1f s: loudness %.4f, want %.4f", c.from, c.to, got, c.want)
		}
	}
}

// TestMixDoesNotClip mixes two loud voices: both are lowered alike, and nothing is cut off.
func TestMixDoesNotClip(t *testing.T) {
	slow(t)
	loud := generate(t, args("-f lavfi -i aevalsrc=0.9*sin(2000*t):d=1:s=16000 a.wav")...)
	out := mixOf(t, "o.mov", 25, loud, loud)
	s := samples(t, out, 0, 16000)
	peak := 0.0
	for _, v := range s {
		peak = max(peak, math.Abs(float64(v)))
	}
	if math.Abs(peak-mixPeak) > 0.002 {
		t.Errorf("the peak is %.4f, want %.3f", peak, mixPeak)
	}
	if got, want := loudness(s), mixPeak/math.Sqrt2; math.Abs(got-want) > 0.01*want {
		t.Errorf("loudness %.4f, want %.4f: it is distorted", got, want)
	}
	// A longer video gets silence, and another length of it costs no second mix.
	if s := samples(t, mixOf(t, "long.mp4", 50, loud, loud), 0, 16000); loudness(s[20000:]) > 0.001 {
		t.Error("the sound does not end in silence")
	}
}
