//go:build linux

package media

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

func TestAudioSource(t *testing.T) {
	slow(t)
	wav := generate(t, args("-f lavfi -i sine=d=2:r=44100 -ac 2 a.wav")...)
	if n := len(samples(t, wav, 0, 16000)); n != 32000 {
		t.Errorf("%d samples", n)
	}
	if n := len(samples(t, wav, 0, 44100)); n != 88200 {
		t.Errorf("%d samples", n)
	}
	// Sound on the centre channel alone comes through the mix.
	six := generate(t, "-f", "lavfi", "-i", "aevalsrc=0|0|sin(2000*t)|0|0|0:c=5.1:d=1:s=48000", "a.wav")
	if s := samples(t, six, 0, 16000); len(s) != 16000 || loudness(s) < 0.1 {
		t.Errorf("%d samples, loudness %f", len(s), loudness(s))
	}
	// A track that starts late starts with silence, in every container.
	for _, ext := range []string{"mp4", "mkv", "ts"} {
		late := generate(t, append(args(testVideo("64x48", "25", "2"), "-itsoffset 0.5 -f lavfi -i sine=d=1:r=48000 -map 0 -map 1 -c:v libx264 -bf 0 -c:a aac"), "a."+ext)...)
		s := samples(t, late, 0, 16000)
		if len(s) < 23500 || len(s) > 25000 || loudness(s[:7500]) > 0.001 || loudness(s[8500:12000]) < 0.05 {
			t.Errorf("%s: %d samples, loudness %f, then %f", ext, len(s), loudness(s[:min(len(s), 7500)]), loudness(s[min(len(s), 8500):]))
		}
		// And the output has it at the same time.
		for _, force := range []time.Duration{0, 3 * time.Second} {
			if force > 0 && ext != "mp4" && !long() {
				continue
			}
			out := filepath.Join(t.TempDir(), "o.mp4")
			pass(t, late, out, func(o *SinkOptions) { o.Duration = force })
			d := samples(t, out, 0, 16000)
			if len(d) < 23500 || loudness(d[:7000]) > 0.005 || loudness(d[8500:12000]) < 0.05 {
				t.Errorf("%s, duration %v: %d samples, loudness %f, then %f", ext, force, len(d), loudness(d[:7000]), loudness(d[8500:]))
			}
		}
	}
	empty := generate(t, args("-f lavfi -i sine=d=1 -t 0 a.wav")...)
	info, err := Probe(t.Context(), tools(t), empty)
	if err == nil {
		var src *AudioSource
		if src, err = OpenAudio(t.Context(), tools(t), empty, info, 0, 16000); err == nil {
			_, err = src.Read(make([]float32, 10))
			_ = src.Close()
		}
	}
	wantFault(t, err, fault.Input, "no audio")
	_, err = OpenAudio(t.Context(), tools(t), wav, probe(t, wav), 1, 16000)
	wantFault(t, err, fault.Usage, "no audio track 1")
}
