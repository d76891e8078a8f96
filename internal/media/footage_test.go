//go:build linux

package media

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// rewrite changes the content of a file.
func rewrite(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// damage overwrites a stretch in the middle of the pictures.
func damage(b []byte) []byte {
	from := bytes.Index(b, []byte("mdat")) + len(b)/4
	r := rand.NewChaCha8([32]byte{7})
	_, _ = r.Read(b[from : from+len(b)/8])
	return b
}

// TestOddVideos reads video as people have it: frames from files that break some habit
// of others.
func TestOddVideos(t *testing.T) {
	slow(t)
	const x264 = " -c:v libx264 -preset ultrafast -pix_fmt yuv420p "
	whole := generate(t, args(testVideo("64x48", "25", "1"), "-f lavfi -i sine=d=1:r=48000"+x264+"-g 50 -c:a aac a.mp4")...)
	for _, c := range []struct {
		name   string
		args   []string
		change func([]byte) []byte
		rate   Rational
		frames int // that are read; -1 if more than half is enough
		want   func(i *Info, frames [][32]byte) bool
	}{
		{"16 fps", args(testVideo("64x48", "16", "0.5"), x264, "a.mp4"), nil, Rational{16, 1}, 8, nil},
		{"23.976 fps", args(testVideo("64x48", "24000/1001", "0.5"), x264, "a.mp4"), nil, Rational{24000, 1001}, 12, nil},
		{"59.94 fps", args(testVideo("64x48", "60000/1001", "0.5"), x264, "a.mkv"), nil, Rational{60000, 1001}, 30, nil},
		{"240 fps", args(testVideo("64x48", "240", "0.2"), x264, "a.mov"), nil, Rational{240, 1}, 48, nil},
		{"copied cut in mp4", args("-ss 0.4 -i", whole, "-c copy a.mp4"), nil, Rational{25, 1}, 15, nil},
		{"copied cut in mkv", args("-ss 0.4 -i", whole, "-c copy a.mkv"), nil, Rational{25, 1}, -1, nil},
		{"video 0.5 s late", args("-itsoffset 0.5", testVideo("64x48", "25", "0.5"), "-f lavfi -i sine=d=1:r=48000"+x264+"-c:a aac a.mkv"), nil, Rational{25, 1}, 26,
			func(i *Info, f [][32]byte) bool {
				return i.Video.Start > 400*time.Millisecond && f[0] == f[12] && f[13] != f[20]
			}},
		{"MPEG-TS from 10 s", args(testVideo("64x48", "25", "1"), "-f lavfi -i sine=d=1:r=48000"+x264+"-c:a aac -output_ts_offset 10 a.ts"), nil, Rational{25, 1}, 25,
			func(i *Info, _ [][32]byte) bool {
				return i.Start > 9*time.Second && i.Video.Start < 100*time.Millisecond
			}},
		{"full-range MJPEG in AVI", args(testVideo("64x48", "25", "0.4"), "-c:v mjpeg -pix_fmt yuvj420p a.avi"), nil, Rational{25, 1}, 10,
			func(i *Info, _ [][32]byte) bool { return WorkingFormat(*i.Video).FullRange }},
		{"anamorphic", args(testVideo("64x48", "25", "0.4"), "-vf setsar=64/45"+x264+"a.mp4"), nil, Rational{25, 1}, 10,
			func(i *Info, _ [][32]byte) bool { return i.Video.SampleAspect == Rational{64, 45} }},
		{"animated GIF", args(testVideo("64x48", "10", "0.5"), "a.gif"), nil, Rational{10, 1}, 5, nil},
		{"damaged in the middle", args(testVideo("160x96", "25", "2"), "-crf 5 -g 10", x264, "a.mp4"), damage, Rational{25, 1}, -1, nil},
		{"variable rate by a pattern", args(testVideo("64x48", "25", "1"), "-vf select='not(eq(mod(n\\,5)\\,3))' -vsync vfr", x264, "a.mp4"), nil, Rational{25, 1}, 25, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := generate(t, c.args...)
			if c.change != nil {
				rewrite(t, path, c.change)
			}
			info, frames := probe(t, path), readAll(t, path, VideoOptions{})
			if info.Video.FrameRate != c.rate {
				t.Errorf("rate %v", info.Video.FrameRate)
			}
			if c.frames < 0 && (len(frames) < int(info.Video.Frames)/2 || len(frames) == 0) || c.frames >= 0 && len(frames) != c.frames {
				t.Errorf("%d frames, want %d of %d", len(frames), c.frames, info.Video.Frames)
			} else if c.want != nil && !c.want(info, frames) {
				t.Errorf("%+v", info.Video)
			}
		})
	}
}

// TestOddVoices listens to sound as people have it.
func TestOddVoices(t *testing.T) {
	slow(t)
	cover := filepath.Join(t.TempDir(), "cover.png")
	ff(t, args("-f lavfi -i color=red:s=64x64:d=0.04 -frames:v 1", cover)...)
	film := generate(t, args(testVideo("64x48", "25", "1"), "-f lavfi -i sine=d=1:r=48000 -c:v libx264 -preset ultrafast -g 50 -c:a aac a.mp4")...)
	for _, c := range []struct {
		name    string
		args    []string
		change  func([]byte) []byte
		seconds float64 // at 16 kHz
		silence float64 // at the beginning, seconds
		quiet   bool
	}{
		{name: "starts 0.8 s late", args: args(testVideo("64x48", "25", "1.3"), "-itsoffset 0.8 -f lavfi -i sine=d=0.5:r=48000 -map 0 -map 1 -c:v libx264 -preset ultrafast -bf 0 -c:a aac a.mp4"), seconds: 1.3, silence: 0.8},
		{name: "copied cut in mp4", args: args("-ss 0.4 -i", film, "-c copy a.mp4"), seconds: 0.6},
		{name: "mp3 after rubbish", args: args("-f lavfi -i sine=d=1:r=44100 -c:a libmp3lame a.mp3"), seconds: 1,
			change: func(b []byte) []byte { return append(bytes.Repeat([]byte("rubbish"), 100), b...) }},
		{name: "cover in mp3", args: args("-f lavfi -i sine=d=1:r=44100 -i", cover, "-map 0 -map 1 -c:a libmp3lame -c:v png -disposition:v attached_pic a.mp3"), seconds: 1},
		{name: "cover in m4a", args: args("-f lavfi -i sine=d=1:r=44100 -i", cover, "-map 0 -map 1 -c:a aac -c:v png -disposition:v attached_pic a.m4a"), seconds: 1},
		{name: "5.1 at 96 kHz", args: args("-f lavfi -i sine=d=1:r=96000 -af pan=5.1|FC=c0 a.wav"), seconds: 1},
		{name: "mu-law of 8 kHz", args: args("-f lavfi -i sine=d=1:r=8000 -c:a pcm_mulaw a.wav"), seconds: 1},
		{name: "Opus", args: args("-f lavfi -i sine=d=1:r=48000 -c:a libopus a.ogg"), seconds: 1},
		{name: "silence", args: args("-f lavfi -i anullsrc=r=16000:cl=mono -t 1 a.wav"), seconds: 1, quiet: true},
		{name: "30 ms", args: args("-f lavfi -i sine=d=0.03:r=44100 a.wav"), seconds: 0.03},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := generate(t, c.args...)
			if c.change != nil {
				rewrite(t, path, c.change)
			}
			if v := probe(t, path).Video; v != nil && v.Width == 64 && v.Height == 64 {
				t.Errorf("the cover counts as video: %+v", v)
			}
			s := samples(t, path, 0, 16000)
			// Encoders of sound add up to a packet at the end.
			if long := float64(len(s)) / 16000; long < c.seconds-0.03 || long > c.seconds+0.06 {
				t.Errorf("%.3f s, want %.3f", long, c.seconds)
			}
			at := int(c.silence * 16000)
			if before := loudness(s[:max(0, at-800)]); before > 0.002 {
				t.Errorf("loudness %f before it begins", before)
			}
			if after := loudness(s[min(len(s), at+800*min(1, at)):]); (after < 0.03) != c.quiet {
				t.Errorf("loudness %f", after)
			}
		})
	}
}
