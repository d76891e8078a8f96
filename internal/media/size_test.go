package media

import (
	"testing"

	"github.com/lipstream/lipstream/internal/frame"
)

func TestFrameSize(t *testing.T) {
	f := frame.Format{Width: 1920, Height: 1080, ShiftX: 1, ShiftY: 1, Depth: 8}
	raw := int64(f.Bytes())
	size := func(codec string, crf int) int64 {
		if crf < 0 {
			return FrameSize(codec, f, nil)
		}
		return FrameSize(codec, f, &crf)
	}
	if got := size("h264", -1); got != size("h264", 18) || got*25*8 < 5e6 || got*25*8 > 8e6 {
		t.Errorf("h264: %d bits a second", got*25*8)
	}
	if a, b := size("h264", 12), size("h264", 18); a < 2*b-2 || a > 2*b+2 {
		t.Errorf("crf 12: %d bytes, 18: %d", a, b)
	}
	for _, c := range []string{"h264", "hevc", "vp9", "av1", "prores", "ffv1"} {
		for _, crf := range []int{-1, 0, 1, 18, 51} {
			if got := size(c, crf); got <= 0 || got > raw {
				t.Errorf("%s, crf %d: %d bytes of %d", c, crf, got, raw)
			}
		}
		if c != "prores" && size(c, 0) != raw/2 {
			t.Errorf("%s without loss: %d bytes", c, size(c, 0))
		}
	}
}
