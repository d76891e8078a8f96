//go:build linux

package media

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/lipstream/lipstream/internal/frame"
)

// lumaAt returns the mean luma of a small square around a point, whose coordinates are
// shares of the width and the height.
func lumaAt(f *frame.Frame, x, y float64) int {
	cx, cy, sum := int(x*float64(f.Width)), int(y*float64(f.Height)), 0
	for dy := -2; dy <= 2; dy++ {
		for dx := -2; dx <= 2; dx++ {
			sum += int(f.Planes[0][(cy+dy)*f.Width+cx+dx])
		}
	}
	return sum / 25
}

func firstFrame(t *testing.T, path string) (*Info, *frame.Frame) {
	t.Helper()
	src, f := openVideo(t, path)
	if err := src.Read(f); err != nil {
		t.Fatal(err)
	}
	return probe(t, path), f
}

// corner is a black picture whose upper left quarter is white.
const corner = "color=black:s=64x48:r=25:d=0.4,drawbox=w=32:h=24:c=white:t=fill"

func TestRotation(t *testing.T) {
	slow(t)
	plain := generate(t, args("-f lavfi -i", corner, "-c:v libx264 -pix_fmt yuv420p a.mp4")...)
	for _, c := range []struct {
		tag  string
		turn int
		x, y float64 // where the white corner is afterwards
	}{{"90", 0, 0, 0}, {"180", 0, 0, 0}, {"270", 0, 0, 0}} {
		path := filepath.Join(t.TempDir(), "r.mp4")
		if tools(t).olderThan(6, 0) {
			ff(t, "-i", plain, "-c", "copy", "-metadata:s:v", "rotate="+c.tag, path)
		} else {
			ff(t, "-display_rotation", c.tag, "-i", plain, "-c", "copy", path)
		}
		info, f := firstFrame(t, path)
		v := info.Video
		if quarter := v.Rotation%180 != 0; v.Rotation == 0 || quarter != (c.tag != "180") || quarter != (v.Width == 48) || f.Width != v.Width {
			t.Errorf("rotate=%s: %+v", c.tag, v)
		}
		// Clockwise: the upper left corner goes to the upper right and so on.
		at := map[int][2]float64{90: {.75, .25}, 180: {.75, .75}, 270: {.25, .75}}[v.Rotation]
		for _, p := range [][2]float64{{.25, .25}, {.75, .25}, {.25, .75}, {.75, .75}} {
			if white := lumaAt(f, p[0], p[1]) > 128; white != (p == at) {
				t.Errorf("rotate=%s, rotation %d: at %v white is %v", c.tag, v.Rotation, p, white)
			}
		}
		// The output is upright and has no rotation.
		out := pass(t, path, filepath.Join(t.TempDir(), "o.mp4"), nil)
		if out.Video.Rotation != 0 || out.Video.Width != v.Width {
			t.Errorf("output %+v", out.Video)
		}
	}
}

// withExif puts an EXIF block with an orientation into a JPEG.
func withExif(t *testing.T, path string, orientation byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tiff := []byte("Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00" + string(rune(orientation)) + "\x00\x00\x00\x00\x00\x00")
	seg := append([]byte{0xff, 0xe1, 0, byte(len(tiff) + 2)}, tiff...)
	if err := os.WriteFile(path, bytes.Join([][]byte{b[:2], seg, b[2:]}, nil), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestExifOrientation(t *testing.T) {
	slow(t)
	want := map[int][2]float64{1: {.25, .25}, 2: {.75, .25}, 3: {.75, .75}, 4: {.25, .75}, 5: {.25, .25}, 6: {.75, .25}, 7: {.75, .75}, 8: {.25, .75}}
	plain := generate(t, args("-f lavfi -i", corner, "-frames:v 1 -update 1 a.jpg")...)
	for o := 1; o <= 8; o++ {
		path := filepath.Join(t.TempDir(), "o.jpg")
		if err := os.Link(plain, path); err != nil {
			t.Fatal(err)
		}
		withExif(t, path, byte(o))
		info, f := firstFrame(t, path)
		if info.Video.Orientation != o || (o >= 5) != (info.Video.Width == 48) {
			t.Errorf("orientation %d: %+v", o, info.Video)
		}
		for _, p := range [][2]float64{{.25, .25}, {.75, .25}, {.25, .75}, {.75, .75}} {
			if white := lumaAt(f, p[0], p[1]) > 128; white != (p == want[o]) {
				t.Errorf("orientation %d: at %v white is %v", o, p, white)
			}
		}
	}
}

func TestPictures(t *testing.T) {
	slow(t)
	cases := []struct{ name, args, file string }{
		{"png", "-pix_fmt rgb24", "a%d.png"}, {"png gray", "-pix_fmt gray", "gray.png"}, {"png 16 bit", "-pix_fmt rgb48be", "b.png"},
		{"png palette", "-pix_fmt pal8", "pal8.png"},
		{"jpeg", "-q:v 1 -pix_fmt yuvj444p", "a.jpg"}, {"jpeg under another name", "-q:v 1 -f mjpeg", "a.mp4"},
		{"webp", "-c:v libwebp -quality 100", "a.webp"}, {"webp lossless", "-c:v libwebp -lossless 1", "b.webp"},
		{"bmp", "", "a.bmp"}, {"tiff", "-pix_fmt rgb24", "a.tiff"},
	}
	dir, all := t.TempDir(), args("-f lavfi -i color=0xC83214:s=320x240")
	for _, c := range cases {
		all = append(all, args("-map 0 -frames:v 1 -update 1", c.args)...)
		all = append(all, "file:"+filepath.Join(dir, c.file))
	}
	ff(t, all...)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in := filepath.Join(dir, c.file)
			info, f := firstFrame(t, in)
			if !info.Video.IsPicture || f.PixFmt() != "yuv420p" || f.FullRange || f.Matrix != frame.BT709 {
				t.Fatalf("%+v %+v", info.Video, f.Format)
			}
			want := [3]int{84, 100, 195} // 200, 50, 20 in BT.709, limited range
			if c.name == "png gray" {
				want = [3]int{0, 128, 128}
			}
			if c.name == "png palette" {
				want = [3]int{78, 94, 195} // the nearest of its 256 colours
			}
			for i, w := range want {
				if got := int(f.Planes[i][len(f.Planes[i])/2]); w > 0 && (got < w-3 || got > w+3) {
					t.Errorf("plane %d is %d, want %d", i, got, w)
				}
			}
			if i%4 != 0 && !long() {
				return
			}
			out := pass(t, in, filepath.Join(t.TempDir(), "o.mp4"), func(o *SinkOptions) { o.Rate = Rational{25, 1} })
			if out.Video.Frames != 10 || out.Video.ColorSpace != "bt709" || out.Video.ColorRange != "tv" {
				t.Errorf("output %+v", out.Video)
			}
		})
	}
}

func TestAlphaOverBlack(t *testing.T) {
	slow(t)
	half := "color=white:s=64x48:r=25:d=0.2,format=rgba,geq=r=255:g=255:b=255:a='if(lt(X,32),255,if(lt(Y,24),0,128))'"
	for _, c := range []string{
		"-frames:v 1 -update 1 a.png", "-c:v libvpx-vp9 -pix_fmt yuva420p -lossless 1 a.webm", "-c:v prores_ks -profile:v 4 -pix_fmt yuva444p10le a.mov",
		"-c:v qtrle a.mov", "-c:v ffv1 -pix_fmt yuva420p a.mkv",
	} {
		t.Run(c, func(t *testing.T) {
			in := generate(t, args([]string{"-f", "lavfi", "-i", half}, c)...)
			info, f := firstFrame(t, in)
			if !info.Video.HasAlpha {
				t.Errorf("%+v", info.Video)
			}
			luma := func(x, y int) int {
				if i := y*f.Width + x; f.Depth > 8 {
					return (int(f.Planes[0][2*i]) | int(f.Planes[0][2*i+1])<<8) >> 2
				}
				return int(f.Planes[0][y*f.Width+x])
			}
			for _, p := range [][3]int{{10, 10, 235}, {50, 8, 16}, {50, 40, 126}} {
				if got := luma(p[0], p[1]); got < p[2]-4 || got > p[2]+4 {
					t.Errorf("luma at %d,%d is %d, want %d", p[0], p[1], got, p[2])
				}
			}
		})
	}
}
