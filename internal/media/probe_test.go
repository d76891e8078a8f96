package media

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/ffmpeg"
	"github.com/lipstream/lipstream/internal/frame"
)

func TestBadInputs(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	whole := generate(t, args(testVideo("160x120", "25", "1"), "-c:v libx264 a.mp4")...)
	b, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	device := "NUL"
	if runtime.GOOS != "windows" {
		device = filepath.Join(dir, "dev.mp4")
		if err := os.Symlink("/dev/null", device); err != nil {
			t.Fatal(err)
		}
	}
	secret := write("secret.txt", "secret")
	for path, want := range map[string]string{
		filepath.Join(dir, "none.mp4"): "no such file",
		"":                             "no file was named",
		dir:                            "is a directory",
		device:                         "not a regular file",
		write("empty.mp4", ""):         "empty",
		write("text.mp4", strings.Repeat("This is a text.\n", 50)):                         "not a media file",
		write("text.png", strings.Repeat("This is a text.\n", 50)):                         "not a media file",
		write("noise.mp4", strings.Repeat("\x00\x01\x7f\xfe", 5000)):                       "not a media file",
		write("cut.mp4", string(b[:len(b)/2])):                                             "incomplete",
		write("list.m3u8", "#EXTM3U\n#EXTINF:1,\nfile://"+secret):                          "playlist",
		write("list.mp4", "\n ffconcat version 1.0\nfile secret.txt"):                      "playlist",
		write("list.txt", "ffconcat version 1.0\nfile "+whole):                             "playlist",
		write("x.mpd", "<?xml version='1.0'?><MPD/>"):                                      "playlist",
		write("anim.webp", "RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02\x00\x00\x00"): "animated WebP",
		write("half.png", "\x89PNG\r\n\x1a\n\x00\x00"):                                     "",
	} {
		info, err := Probe(t.Context(), tools(t), path)
		if err == nil && info.Video != nil {
			t.Errorf("%s: %+v", path, info.Video)
			continue
		}
		if err == nil {
			err = info.NeedVideo()
		}
		wantFault(t, err, fault.Input, want)
	}
	if os.Geteuid() > 0 { // not root, and a system with these permissions
		if err := os.Chmod(whole, 0); err != nil {
			t.Fatal(err)
		}
		_, err := Probe(t.Context(), tools(t), whole)
		wantFault(t, err, fault.Input, "permission denied")
	}
}

func TestMissingTracks(t *testing.T) {
	slow(t)
	silent := generate(t, args(testVideo("160x120", "25", "0.2"), "-c:v libx264 a.mp4")...)
	err := probe(t, silent).NeedAudio()
	wantFault(t, err, fault.Input, "no audio track")
	_, err = OpenAudio(t.Context(), tools(t), silent, probe(t, silent), 0, 16000)
	wantFault(t, err, fault.Input, "no audio track")
	// Cover art is no video.
	cover := generate(t, args("-f lavfi -i sine=d=0.5 -f lavfi -i color=red:s=64x64:d=0.04 -map 0 -map 1 -c:v png -disposition:v attached_pic -c:a libmp3lame a.mp3")...)
	wantFault(t, probe(t, cover).NeedVideo(), fault.Input, "no video track")
	_, err = OpenVideo(t.Context(), tools(t), cover, probe(t, cover), VideoOptions{})
	wantFault(t, err, fault.Input, "no video track")
}

func TestSeveralTracks(t *testing.T) {
	slow(t)
	in := generate(t, args(testVideo("64x48", "25", "1"), testVideo("128x96", "25", "1"), "-f lavfi -i sine=440:d=1:r=44100 -f lavfi -i sine=880:d=1:r=48000",
		"-map 0:v -map 1:v -map 2:a -map 3:a -c:v libx264 -c:a aac -metadata:s:a:0 language=eng -metadata:s:a:1 language=deu -ac:a:1 2 -disposition:v:0 0 -disposition:v:1 default -disposition:a:0 0 -disposition:a:1 default a.mkv")...)
	info := probe(t, in)
	if info.Video.Width != 128 || len(info.Audio) != 2 || info.DefaultAudio() != 1 {
		t.Fatalf("%+v", info)
	}
	a := info.Audio[1]
	if a.Language != "deu" || a.SampleRate != 48000 || a.Channels != 2 || a.Duration.Round(100*time.Millisecond) != time.Second {
		t.Errorf("%+v", a)
	}
	if out := pass(t, in, filepath.Join(t.TempDir(), "o.mp4"), nil); out.Audio[0].SampleRate != 48000 || out.Audio[0].Language != "deu" {
		t.Errorf("%+v", out.Audio)
	}
}

func TestFindTools(t *testing.T) {
	tools(t)
	dir := t.TempDir()
	fake, shell := filepath.Join(dir, "fake"), "#!/bin/sh\n"
	if runtime.GOOS == "windows" {
		fake, shell = fake+".bat", "@"
	}
	for script, want := range map[string]string{
		"echo ffmpeg version 4.1.2 Copyright": "too old",
		"echo hello":                          "not ffmpeg",
		"exit 3":                              "exit code 3",
	} {
		if err := os.WriteFile(fake, []byte(shell+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv(ffmpeg.EnvFFmpeg, fake)
		_, err := FindTools(t.Context())
		wantFault(t, err, fault.Missing, want, "install")
	}
	t.Setenv(ffmpeg.EnvFFmpeg, filepath.Join(dir, "none"))
	_, err := FindTools(t.Context())
	wantFault(t, err, fault.Missing, ffmpeg.EnvFFmpeg, "no such program")
	for v, want := range map[string][2]int{"5.1.9-0+deb12u1": {5, 1}, "n7.1": {7, 1}, "4.4": {4, 4}} {
		if tl := (Tools{Version: v}); tl.olderThan(want[0], want[1]) || !tl.olderThan(want[0], want[1]+1) || !tl.olderThan(want[0]+1, 0) {
			t.Errorf("%s is not %v", v, want)
		}
	}
	if got := (Tools{Version: "4.4.1"}).fpsMode("cfr")[0] + (Tools{Version: "N-1234-gab"}).fpsMode("cfr")[0]; got != "-vsync-fps_mode" {
		t.Error(got)
	}
}

func TestRational(t *testing.T) {
	ntsc := ParseRational("30000/1001")
	for _, n := range []int64{0, 1, 2, 29, 1000003, 1 << 40} {
		if got := ntsc.Frame(ntsc.Time(n)); got != n && n < 1<<35 {
			t.Errorf("frame %d becomes %d", n, got)
		}
	}
	if d := ntsc.Time(30); d != 1001*time.Millisecond {
		t.Error(d)
	}
	for in, want := range map[string]Rational{"25": {25, 1}, "50/2": {25, 1}, "4:3": {4, 3}, "0/0": {}, "x": {}, "-1/2": {}, "": {}, "1/": {}} {
		if got := ParseRational(in); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
	for in, want := range map[Rational]Rational{{2997, 100}: {30000, 1001}, {23976, 1000}: {24000, 1001}, {24, 1}: {24, 1}, {29870, 1000}: {29870, 1000}, {2500001, 100000}: {25, 1}} {
		if got := snap(in); got != want {
			t.Errorf("%v snaps to %v, want %v", in, got, want)
		}
	}
}

func TestWorkingFormat(t *testing.T) {
	for _, c := range []struct {
		v    VideoInfo
		pix  string
		m    frame.Matrix
		full bool
	}{
		{VideoInfo{PixFmt: "yuv420p", Width: 1920, Height: 1080}, "yuv420p", frame.BT709, false},
		{VideoInfo{PixFmt: "yuv420p", Width: 640, Height: 480}, "yuv420p", frame.BT601, false},
		{VideoInfo{PixFmt: "yuvj422p", Width: 640, Height: 480, ColorRange: "pc"}, "yuv422p", frame.BT601, true},
		{VideoInfo{PixFmt: "yuv422p12le", Width: 640, Height: 480, ColorSpace: "bt709"}, "yuv422p10le", frame.BT709, false},
		{VideoInfo{PixFmt: "p010le", Width: 640, Height: 480, ColorSpace: "bt2020nc"}, "yuv420p10le", frame.BT2020, false},
		{VideoInfo{PixFmt: "nv12", Width: 641, Height: 480}, "yuv444p", frame.BT601, false},
		{VideoInfo{PixFmt: "yuv422p", Width: 640, Height: 481}, "yuv422p", frame.BT601, false},
		{VideoInfo{PixFmt: "yuv440p", Width: 640, Height: 480}, "yuv444p", frame.BT601, false},
		{VideoInfo{PixFmt: "gbrp10le", Width: 640, Height: 480, ColorRange: "pc"}, "yuv420p", frame.BT709, false},
		{VideoInfo{PixFmt: "yuvj444p", Width: 640, Height: 480, ColorRange: "pc", IsPicture: true}, "yuv420p", frame.BT709, false},
		{VideoInfo{PixFmt: "yuva444p12le", Width: 640, Height: 480}, "yuv444p10le", frame.BT601, false},
		{VideoInfo{PixFmt: "yuv422p", Width: 480, Height: 640, Rotation: 90}, "yuv444p", frame.BT709, false},
	} {
		p := pixelFormat(c.v.PixFmt)
		c.v.Depth, c.v.ShiftX, c.v.ShiftY, c.v.RGB, c.v.HasAlpha = p.depth, p.shiftX, p.shiftY, p.rgb, p.alpha
		f := WorkingFormat(c.v)
		if f.PixFmt() != c.pix || f.Matrix != c.m || f.FullRange != c.full {
			t.Errorf("%+v: %+v %s", c.v, f, f.PixFmt())
		}
	}
}

func FuzzParseProbe(f *testing.F) {
	f.Add([]byte(`{"streams":[{"index":0,"codec_type":"video","width":64,"height":48,"pix_fmt":"yuv420p","r_frame_rate":"25/1","avg_frame_rate":"25/1",
		"start_time":"0.02","duration":"1.001000","nb_frames":"30","sample_aspect_ratio":"16:11","disposition":{"default":1},"tags":{"rotate":"90","DURATION":"00:00:01.001"},
		"side_data_list":[{"side_data_type":"Display Matrix","rotation":-90}]},{"index":1,"codec_type":"audio","sample_rate":"44100","channels":2}],
		"format":{"format_name":"mov,mp4","start_time":"0.0","duration":"1.001000"}}`), true)
	f.Add([]byte(`{"streams":[{"codec_type":"video","width":1,"height":1,"r_frame_rate":"90000/1","avg_frame_rate":"0/0","side_data_list":[{"rotation":1e300}]}]}`), false)
	f.Add([]byte(`{}`), false)
	f.Fuzz(func(t *testing.T, data []byte, picture bool) {
		info, err := parseProbe(data, fileKind{picture: picture})
		if err != nil {
			return
		}
		if info.Duration < 0 {
			t.Errorf("duration %v", info.Duration)
		}
		for _, a := range info.Audio {
			if a.SampleRate < 0 || a.Channels < 0 || a.Duration < 0 {
				t.Errorf("%+v", a)
			}
		}
		v := info.Video
		if v == nil {
			return
		}
		v.rateFrom([]float64{0, 0.04, 0.08})
		if !v.IsPicture {
			v.countFrames()
		}
		w := WorkingFormat(*v)
		if v.Width <= 0 || v.Height <= 0 || v.Rotation%90 != 0 || v.Duration < 0 || v.Frames < 0 || v.Frames == 0 && v.Duration > 0 ||
			!v.IsPicture && !v.FrameRate.Valid() || w.Bytes() <= 0 || w.Depth != 8 && w.Depth != 10 {
			b, _ := json.Marshal(v)
			t.Errorf("%s", b)
		}
	})
}

func FuzzSniff(f *testing.F) {
	f.Add([]byte("\xff\xd8\xff\xe1\x00\x24Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x08eXIfII*\x00\x08\x00\x00\x00"))
	f.Add([]byte("RIFF\x00\x00\x00\x00WEBPEXIF\x01\x00\x00\x00MM\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if k := sniffBytes(data, "a.jpg"); k.orientation < 0 || k.orientation > 8 {
			t.Errorf("%+v", k)
		}
	})
}

func TestRateWithHolds(t *testing.T) {
	var times []float64
	for i := range 40 {
		at := float64(i) * 0.04
		if i >= 20 {
			at += 1.16
		}
		times = append(times, at)
	}
	v := VideoInfo{VFR: true, FrameRate: Rational{29, 2}, header: [2]Rational{{25, 1}, {29, 2}}}
	v.rateFrom(append(times, 3.5))
	if v.FrameRate != (Rational{25, 1}) || !v.VFR {
		t.Errorf("%v %v", v.FrameRate, v.VFR)
	}
}

func TestDamagedPicture(t *testing.T) {
	slow(t)
	in := generate(t, args(testVideo("320x240", "25", "1"), "-frames:v 1 -update 1 a.png")...)
	b, err := os.ReadFile(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in, b[:40], 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := Probe(t.Context(), tools(t), in)
	if err == nil {
		var src *VideoSource
		f := frame.New(WorkingFormat(*info.Video))
		if src, err = OpenVideo(t.Context(), tools(t), in, info, VideoOptions{Format: f.Format}); err == nil {
			err = src.Read(f)
			_ = src.Close()
		}
	}
	wantFault(t, err, fault.Input, "check that the file")
}

func TestHEIC(t *testing.T) {
	slow(t)
	in := generate(t, args(testVideo("64x64", "25", "1"), "-frames:v 1 -c:v libx265 -x265-params log-level=error a.mp4")...)
	b, err := os.ReadFile(in)
	if err != nil {
		t.Fatal(err)
	}
	copy(b[8:], "heic")
	if err := os.WriteFile(in, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if v := probe(t, in).Video; v == nil || !v.IsPicture || v.Width != 64 {
		t.Errorf("%+v", v)
	}
	if err := os.WriteFile(in, b[:32], 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Probe(t.Context(), tools(t), in)
	wantFault(t, err, fault.Input, "HEIC", "convert it")
}
