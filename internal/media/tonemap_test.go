package media

import (
	"testing"

	"github.com/lipstream/lipstream/internal/frame"
)

func mapped(m ToneMap, r, g, b byte) [3]byte {
	p := &frame.RGB{W: 1, H: 1, Pix: []byte{r, g, b}}
	m.Apply(p)
	return [3]byte(p.Pix)
}

func TestToneMap(t *testing.T) {
	pq := NewToneMap(Tags{Transfer: "smpte2084", Primaries: "bt2020"})
	hlg := NewToneMap(Tags{Transfer: "arib-std-b67", Primaries: "bt2020"})
	if got := mapped(NewToneMap(Tags{Transfer: "bt709"}), 10, 128, 250); got != [3]byte{10, 128, 250} {
		t.Errorf("SDR became %v", got)
	}
	for name, m := range map[string]ToneMap{"PQ": pq, "HLG": hlg} {
		last := byte(0)
		for v := range 256 {
			got := mapped(m, byte(v), byte(v), byte(v))
			if got[0] < last {
				t.Errorf("%s: %d is darker than what is below it", name, v)
			}
			last = got[0]
			if spread := max(got[0], got[1], got[2]) - min(got[0], got[1], got[2]); spread > 1 {
				t.Errorf("%s: gray %d becomes %v", name, v, got)
			}
		}
		if got := mapped(m, 0, 0, 0); got != [3]byte{} {
			t.Errorf("%s: black becomes %v", name, got)
		}
		if last != 255 {
			t.Errorf("%s: the brightest becomes %d", name, last)
		}
	}
	// BT.2408: the white of paper is 58 % of PQ and 75 % of HLG, and 18 % gray 38 % of
	// both. In SDR gray is near 46 %, and white leaves room for highlights.
	for name, c := range map[string]struct {
		m           ToneMap
		white, gray byte
	}{"PQ": {pq, 148, 97}, "HLG": {hlg, 191, 97}} {
		if got := mapped(c.m, c.white, c.white, c.white)[0]; got < 200 || got > 225 {
			t.Errorf("%s: white becomes %d", name, got)
		}
		if got := mapped(c.m, c.gray, c.gray, c.gray)[0]; got < 100 || got > 135 {
			t.Errorf("%s: gray becomes %d", name, got)
		}
	}
	// Skin: BT.2020 has larger primaries, so the mapped colour is more saturated.
	if got := mapped(pq, 130, 115, 105); !(got[0] > got[1] && got[1] > got[2]) || int(got[0])-int(got[2]) < 60 {
		t.Errorf("skin becomes %v", got)
	}
}
