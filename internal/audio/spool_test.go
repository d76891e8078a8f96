package audio

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"

	"github.com/lipstream/lipstream/internal/golden"
)

// spooled returns a finished spool of samples, written in pieces of the given
// size.
func spooled(t testing.TB, samples []float32, piece int) *spool {
	t.Helper()
	s, err := newSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	for p := range slices.Chunk(samples, piece) {
		if err := s.write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.finish(); err != nil {
		t.Fatal(err)
	}
	return s
}

func mel(t testing.TB, s *spool, start, count int64) []float32 {
	t.Helper()
	m, err := s.mel(context.Background(), start, count)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func worst(t testing.TB, got, want []float32) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
	var d float64
	for i := range got {
		d = max(d, math.Abs(float64(got[i])-float64(want[i])))
	}
	return d
}

// mel.golden.f32 was written by the original (golden/audio).
func TestMelAgreesWithOriginal(t *testing.T) {
	data, err := os.ReadFile("testdata/mel.golden.f32")
	if err != nil {
		t.Fatal(err)
	}
	want := make([]float32, len(data)/4)
	if err := binary.Read(bytes.NewReader(data), binary.LittleEndian, want); err != nil {
		t.Fatal(err)
	}
	speech := readWAV(t, "mel.wav")
	for _, tt := range []struct {
		name                 string
		samples              []float32
		frames, start, count int64
	}{
		{"speech", speech, 301, 0, 301},
		{"speech_short", speech[6400:20700], 89, 0, 89},
		{"long", slices.Repeat(speech, 11), 3317, 2960, 80},
	} {
		s := spooled(t, tt.samples, 4096)
		if s.melFrames() != tt.frames {
			t.Errorf("%s: %d columns, want %d", tt.name, s.melFrames(), tt.frames)
		}
		n := MelBands * tt.count
		d := worst(t, mel(t, s, tt.start, tt.count), want[:n])
		golden.Check(t, golden.Measurement{Module: "log-mel", Case: tt.name, Measure: "max abs", Value: d, Limit: 1e-4})
		want = want[n:]
	}
	if len(want) > 0 {
		t.Errorf("%d golden values not looked at", len(want))
	}
}

// Spec 12.4: 1 s of a sine, by the original, which computes in float32.
func TestMelOfSine(t *testing.T) {
	sine := make([]float32, SampleRate)
	for i := range sine {
		sine[i] = float32(math.Round(32767*0.5*math.Sin(2*math.Pi*440*float64(i)/SampleRate)) / 32768)
	}
	m := mel(t, spooled(t, sine, 1000), 0, 100)
	var mean float64
	for _, v := range m {
		mean += float64(v) / float64(len(m))
	}
	at := func(row, col int) float64 { return float64(m[100*row+col]) }
	got := []float64{float64(slices.Max(m)), float64(slices.Min(m)), mean, at(0, 50), at(4, 50), at(10, 50), at(11, 50), at(12, 50), at(79, 50), at(12, 0), at(12, 99)}
	want := []float64{1.4381986, -0.5618014, -0.4494252, -0.5618014, -0.5618014, 1.3487301, 1.4381969, 1.2935169, -0.5618014, 1.3382945, 1.2972581}
	var d float64
	for i := range got {
		d = max(d, math.Abs(got[i]-want[i]))
	}
	t.Logf("worst difference %.2g", d)
	if d > 1e-5 {
		t.Errorf("got %v, want %v", got, want)
	}
}

// However it was written and whatever is asked for, a column is the same.
func TestMelByParts(t *testing.T) {
	speech := readWAV(t, "mel.wav")
	s := spooled(t, speech, len(speech))
	f := s.melFrames()
	const beyond = 700 // over a piece
	whole := mel(t, s, 0, f+beyond)
	for row := range int64(MelBands) {
		for _, v := range whole[row*(f+beyond)+f : (row+1)*(f+beyond)] {
			if v != 0 {
				t.Fatal("not zero beyond the end")
			}
		}
	}
	inPieces := spooled(t, speech, 37)
	for _, part := range [][2]int64{{0, 1}, {1, 1}, {0, 2}, {f - 1, 1}, {f - 2, 5}, {f, 3}, {f + 600, 2}, {17, 100}, {5, 0}, {0, f}} {
		start, count := part[0], part[1]
		got := mel(t, inPieces, start, count)
		for row := range int64(MelBands) {
			at := row*(f+beyond) + start
			if !slices.Equal(got[row*count:(row+1)*count], whole[at:at+count]) {
				t.Fatalf("columns %d..%d: row %d differs", start, start+count-1, row)
			}
		}
	}
}

// Every length around the borders agrees with the definition, written down
// again in the plainest way: with the maximum at every place.
func TestMelOfShortVoices(t *testing.T) {
	for _, n := range []int{0, 1, 159, 160, 200, 201, 319, 320, 321, 359, 360, 361, 480, 519, 520, 521, 1000} {
		for _, click := range []int{0, n / 2, n - 1} {
			x := make([]float32, n)
			for i := range x {
				x[i] = float32(i%7-3) / 1024
			}
			if n > 0 {
				x[click] = 0.9
			}
			padded := append(slices.Clone(x), make([]float32, max(0, 320-n))...)
			want := plainMel(padded)
			for _, piece := range []int{1, 40, 5000} {
				s := spooled(t, x, piece)
				if f := int64(len(padded) / 160); s.melFrames() != f {
					t.Fatalf("%d samples: %d columns, want %d", n, s.melFrames(), f)
				}
				if d := worst(t, mel(t, s, 0, s.melFrames()), want); d > 1e-6 {
					t.Errorf("%d samples, click at %d, pieces of %d: differs by %g", n, click, piece, d)
				}
			}
		}
	}
}

// plainMel is spec 2.1 word for word, with a plain Fourier transform.
func plainMel(x []float32) []float32 {
	frames := len(x) / 160
	out := make([]float64, 80*frames)
	loudest := math.Inf(-1)
	for k := range frames {
		var power [201]float64
		for bin := range power {
			var re, im float64
			for j := range 400 {
				i := 160*k - 200 + j
				if i < 0 {
					i = -i
				}
				if i >= len(x) {
					i = 2*(len(x)-1) - i
				}
				v := float64(int16(math.Round(float64(x[i])*32768))) / 32768 * math.Pow(math.Sin(math.Pi*float64(j)/400), 2)
				sin, cos := math.Sincos(2 * math.Pi * float64(bin*j%400) / 400)
				re, im = re+v*cos, im+v*sin
			}
			power[bin] = re*re + im*im
		}
		for row, f := range slaneyFilters() {
			var sum float64
			for i, w := range f.weight {
				sum += w * power[f.start+i]
			}
			out[row*frames+k] = math.Log10(max(sum, 1e-10))
			loudest = max(loudest, out[row*frames+k])
		}
	}
	final := make([]float32, len(out))
	for i, l := range out {
		final[i] = float32((max(l, loudest-8) + 4) / 4)
	}
	return final
}

// A sample of 16 bits comes back as it was; what is out of range is clipped.
func TestQuantise(t *testing.T) {
	for v := -32768; v <= 32767; v++ {
		if got := quantise(float32(v) / 32768); int(got) != v {
			t.Fatalf("%d became %d", v, got)
		}
	}
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for x, want := range map[float32]int16{1: 32767, 2: 32767, inf: 32767, -inf: -32768, -1.5: -32768, 0.5 / 32768: 0, 1.5 / 32768: 2} {
		if got := quantise(x); got != want {
			t.Errorf("%v became %d, want %d", x, got, want)
		}
	}
	if quantise(nan) != 0 {
		t.Error("NaN is not silence")
	}
}

// Half an hour needs no more memory than a minute.
func TestSpoolMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("half an hour of sound")
	}
	peak := func(seconds int64) uint64 {
		s, err := newSpool(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.close() }()
		var top uint64
		measure := func() {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			top = max(top, m.HeapAlloc)
		}
		v, buf := &sweep{end: seconds * SampleRate}, make([]float32, 16384)
		for n := 0; ; n++ {
			got, end := v.Read(buf)
			if err := s.write(buf[:got]); err != nil {
				t.Fatal(err)
			}
			if n%100 == 0 {
				measure()
			}
			if end != nil {
				break
			}
		}
		if err := s.finish(); err != nil {
			t.Fatal(err)
		}
		if s.melFrames() != 100*seconds {
			t.Errorf("%d columns", s.melFrames())
		}
		for at := int64(0); at < s.melFrames(); at += 30000 {
			m := mel(t, s, at, 3000)
			measure()
			runtime.KeepAlive(m)
		}
		return top
	}
	minute, long := peak(60), peak(1800)
	t.Logf("peak %d KB for a minute, %d KB for half an hour", minute>>10, long>>10)
	if long > minute+1<<20 {
		t.Errorf("%d KB more for half an hour", (long-minute)>>10)
	}
}

func TestSpoolLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s, err := newSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	left := func() int {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	if n := left(); runtime.GOOS != "windows" && n > 0 {
		t.Error("the file has a name")
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if left() > 0 {
		t.Error("a file is left")
	}
}

func TestSpoolMisuse(t *testing.T) {
	if _, err := newSpool("testdata/nowhere"); fault.KindOf(err) != fault.Output || fault.HintOf(err) == "" {
		t.Errorf("no such folder: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s, err := newSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.close() }()
	if _, err := s.mel(ctx, 0, 1); fault.KindOf(err) != fault.Internal {
		t.Errorf("unfinished: %v", err)
	}
	if err := errors.Join(s.write(make([]float32, 4000)), s.finish()); err != nil {
		t.Fatal(err)
	}
	if err := s.write(make([]float32, 1)); fault.KindOf(err) != fault.Internal {
		t.Errorf("after the end: %v", err)
	}
	if _, err := s.mel(ctx, -1, 1); fault.KindOf(err) != fault.Internal {
		t.Errorf("before the start: %v", err)
	}
	cancel()
	if _, err := s.mel(ctx, 0, 1); fault.KindOf(err) != fault.Cancelled {
		t.Errorf("cancelled: %v", err)
	}
	if err := s.file.Truncate(100); err != nil {
		t.Fatal(err)
	}
	if _, err := s.mel(context.Background(), 0, 1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut file: %v", err)
	}
}

// Several windows may be computed at once.
func TestMelConcurrently(t *testing.T) {
	s := spooled(t, readWAV(t, "mel.wav"), 4096)
	want := mel(t, s, 100, 50)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if got, err := s.mel(context.Background(), 100, 50); err != nil || !slices.Equal(got, want) {
				t.Errorf("differs: %v", err)
			}
		})
	}
	wg.Wait()
}

// Writing a voice, and computing all of its log-mel.
func BenchmarkSpool(b *testing.B) {
	speech := readWAV(b, "mel.wav")
	s, err := newSpool(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.close() }()
	for b.Loop() {
		if err := s.write(speech); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(speech))/SampleRate*float64(b.N)/b.Elapsed().Seconds(), "x-realtime")
}

func BenchmarkMel(b *testing.B) {
	s := spooled(b, slices.Repeat(readWAV(b, "mel.wav"), 10), 4096)
	for b.Loop() {
		mel(b, s, 0, 3000)
	}
	b.ReportMetric(30*float64(b.N)/b.Elapsed().Seconds(), "x-realtime")
}
