package e2e_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream"
)

// frameSums returns a checksum of every frame of a video.
func frameSums(t *testing.T, path string) []string {
	t.Helper()
	out, err := exec.Command("ffmpeg", "-v", "error", "-i", path, "-map", "0:v", "-f", "framemd5", "-").Output()
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var sums []string
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "#") {
			fields := strings.Split(line, ",")
			sums = append(sums, strings.TrimSpace(fields[len(fields)-1]))
		}
	}
	return sums
}

// leastPSNR returns the PSNR of the worst frame of two videos, in dB.
func leastPSNR(t *testing.T, a, b string) float64 {
	t.Helper()
	out, err := exec.Command("ffmpeg", "-v", "error", "-i", a, "-i", b, "-lavfi", "psnr=stats_file=-", "-f", "null", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	least := 100.0
	for line := range strings.Lines(string(out)) {
		var v float64
		if _, text, ok := strings.Cut(line, "psnr_avg:"); ok {
			if _, err := fmt.Sscan(text, &v); err == nil && v < least {
				least = v
			}
		}
	}
	return least
}

// TestParts joins parts of a job and compares the frames with those of the whole
// job, split within a shot, at a cut, and of a picture.
func TestParts(t *testing.T) {
	t.Parallel()
	needRuntime(t)
	dir := t.TempDir()
	// 3 s of one shot, and 3 s with a cut after 1.68 s to the mirrored picture.
	for _, line := range []string{
		"-f lavfi -i color=black:s=320x240:r=25,format=gray,geq=lum=255*lt(X\\,60+2*N),trim=end_frame=60 -c:v ffv1 " + filepath.Join(dir, "mask.mkv"),
		"-loop 1 -framerate 25 -i portrait.png -t 3 -vf scale=340:340,rotate=0.04*sin(2*PI*t),crop=320:240:10:30+4*sin(3*t) -c:v libx264 -preset ultrafast -crf 10 -pix_fmt yuv420p -g 25 " + filepath.Join(dir, "shot.mp4"),
		"-i " + filepath.Join(dir, "shot.mp4") + " -filter_complex [0]split[a][b];[a]trim=end_frame=42[c];[b]trim=start_frame=42,setpts=PTS-STARTPTS,hflip,hue=h=120[d];[c][d]concat -c:v libx264 -preset ultrafast -crf 10 -r 25 " + filepath.Join(dir, "cut.mp4"),
	} {
		if err := ffmpeg(inputs, strings.Fields(line)...); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, video string
		engine      string
		every       time.Duration
		// exact means that the frames are equal, because nothing before a part
		// influences it. Within a shot, tracking of the face starts at another
		// frame, which moves its points by a fraction of a pixel, and the preview
		// engine learns the colours of the mouth from other frames.
		exact bool
	}{
		{"preview in a shot", filepath.Join(dir, "shot.mp4"), "preview", time.Second, false},
		{"preview at a cut", filepath.Join(dir, "cut.mp4"), "preview", 1400 * time.Millisecond, true},
		{"preview of a picture", in("portrait.png"), "preview", time.Second, false},
		{"latentsync in a shot", filepath.Join(dir, "shot.mp4"), "latentsync", 1400 * time.Millisecond, false},
		{"latentsync at a cut", filepath.Join(dir, "cut.mp4"), "latentsync", 1400 * time.Millisecond, true},
		{"musetalk in a shot", filepath.Join(dir, "shot.mp4"), "musetalk", 1400 * time.Millisecond, false},
		{"musetalk at a cut", filepath.Join(dir, "cut.mp4"), "musetalk", 1400 * time.Millisecond, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.engine != "preview" {
				needLong(t)
			}
			mask := "" // ends before the video
			if tt.name == "preview at a cut" {
				mask = filepath.Join(dir, "mask.mkv")
			}
			job := lipstream.Job{Video: tt.video, Mask: mask, Audio: in("three.wav"), Output: filepath.Join(t.TempDir(), "whole.mkv"), Settings: lipstream.Settings{Codec: "ffv1", Engine: tt.engine}}
			switch job.Models = tinyModels(t, tt.engine); tt.engine {
			case "latentsync":
				job.Steps, job.Resolution = new(2), new(64)
			case "musetalk":
				job.VAE = "tiny"
			}
			whole, err := lipstream.Run(t.Context(), job, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := frameSums(t, job.Output)
			job.Output = filepath.Join(t.TempDir(), "joined.mkv")
			parts, err := lipstream.Split(t.Context(), job, tt.every)
			if err != nil || len(parts) < 2 {
				t.Fatalf("split: %v, %v", parts, err)
			}
			t.Log(parts)
			var files []string
			for i, p := range parts {
				part := job
				part.Part, part.Output = &p, filepath.Join(t.TempDir(), fmt.Sprintf("part%d.mkv", i))
				if _, err := lipstream.Run(t.Context(), part, nil); err != nil {
					t.Fatalf("part %+v: %v", p, err)
				}
				files = append(files, part.Output)
			}
			joined, err := lipstream.Join(t.Context(), job, files, nil)
			if err != nil {
				t.Fatal(err)
			}
			if joined.Frames != whole.Frames {
				t.Errorf("%d frames, not %d", joined.Frames, whole.Frames)
			}
			got := frameSums(t, job.Output)
			var differ []int
			for i := range min(len(got), len(want)) {
				if got[i] != want[i] {
					differ = append(differ, i)
				}
			}
			if len(got) != len(want) {
				t.Fatalf("%d and %d frames", len(got), len(want))
			}
			if len(differ) == 0 {
				return
			}
			least := leastPSNR(t, whole.Output, job.Output)
			t.Logf("%d frames differ, the worst by %.1f dB", len(differ), least)
			if tt.exact || least < 40 {
				t.Errorf("other frames: %v", differ)
			}
		})
	}
}
