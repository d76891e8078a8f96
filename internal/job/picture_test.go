package job

import (
	"image/color"
	"testing"

	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
)

// shown returns the color of the middle of the picture that a job shows of a plain frame.
func shown(t *testing.T, f *frame.Frame, tags media.Tags) color.RGBA {
	t.Helper()
	var got color.RGBA
	newShow(func(p Picture) {
		b := p.Image.Bounds()
		if b.Dx() != 64 || b.Dy() != 48 {
			t.Errorf("bounds %v", b)
		}
		got = p.Image.At(32, 24).(color.RGBA)
	}, media.NewToneMap(tags))(f)
	return got
}

// grayFrame returns a gray frame of 10 bits.
func grayFrame(luma uint16, alpha int) *frame.Frame {
	f := frame.New(frame.Format{Width: 64, Height: 48, ShiftX: 1, ShiftY: 1, Depth: 10, Matrix: frame.BT2020, Alpha: alpha >= 0})
	set := func(b []byte, v uint16) {
		for i := 0; i < len(b); i += 2 {
			b[i], b[i+1] = byte(v), byte(v>>8)
		}
	}
	if alpha >= 0 {
		set(f.Data, uint16(alpha))
	}
	set(f.Planes[0], luma)
	set(f.Planes[1], 512)
	set(f.Planes[2], 512)
	return f
}

func TestShow(t *testing.T) {
	const white = 64 + 876*58/100 // of paper, in PQ
	if got := shown(t, grayFrame(white, -1), media.Tags{}); got.R < 146 || got.R > 149 || got.G != got.R || got.B != got.R {
		t.Errorf("SDR: %v", got)
	}
	if got := shown(t, grayFrame(white, -1), media.Tags{Transfer: "smpte2084", Primaries: "bt2020"}); got.R < 200 || got.R > 225 {
		t.Errorf("HDR: %v", got)
	}
	for _, alpha := range []int{0, 512, 1023} {
		want := 255 * alpha / 1023
		if got := int(shown(t, grayFrame(940, alpha), media.Tags{}).R); got < want-1 || got > want+1 {
			t.Errorf("alpha %d: %d, want %d", alpha, got, want)
		}
	}
}
