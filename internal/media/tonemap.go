package media

import (
	"math"

	"github.com/lipstream/lipstream/internal/frame"
)

// ToneMap makes SDR of pictures with PQ or HLG, in colours of BT.2020, for display: a
// browser shows them dark and pale otherwise. Its zero value changes nothing.
type ToneMap struct {
	linear *[256]float32 // light of a value, where 1 is the white of paper (203 cd/m², BT.2408)
	hlg    bool
	narrow bool // the colours are those of BT.2020
}

// NewToneMap returns the tone mapping for a video with these tags; of SDR video, the
// zero value.
func NewToneMap(t Tags) ToneMap {
	m := ToneMap{linear: new([256]float32), narrow: t.Primaries == "bt2020"}
	switch t.Transfer {
	case "smpte2084":
		for i := range m.linear {
			m.linear[i] = float32(pq(float64(i)/255) / paper)
		}
	case "arib-std-b67":
		m.hlg = true
		for i := range m.linear {
			m.linear[i] = float32(hlg(float64(i) / 255))
		}
	default:
		return ToneMap{}
	}
	return m
}

const (
	paper = 203.0  // cd/m²
	peak  = 1000.0 // cd/m²; what is brighter becomes white
)

// pq returns the light of a value of PQ in cd/m² (SMPTE ST 2084).
func pq(v float64) float64 {
	const m1, m2, c1, c2, c3 = 2610.0 / 16384, 2523.0 / 4096 * 128, 3424.0 / 4096, 2413.0 / 4096 * 32, 2392.0 / 4096 * 32
	p := math.Pow(v, 1/m2)
	return 10000 * math.Pow(max(0, p-c1)/(c2-c3*p), 1/m1)
}

// hlg returns the light of the scene of a value of HLG, from 0 to 1 (BT.2100).
func hlg(v float64) float64 {
	const a, b, c = 0.17883277, 0.28466892, 0.55991073
	if v <= 0.5 {
		return v * v / 3
	}
	return (math.Exp((v-c)/a) + b) / 12
}

// Apply maps a picture.
func (m ToneMap) Apply(p *frame.RGB) {
	if m.linear == nil {
		return
	}
	for i := 0; i+2 < len(p.Pix); i += 3 {
		r, g, b := m.linear[p.Pix[i]], m.linear[p.Pix[i+1]], m.linear[p.Pix[i+2]]
		if m.hlg {
			// From the scene to a display of peak cd/m².
			y := 0.2627*r + 0.678*g + 0.0593*b
			s := float32(math.Pow(float64(y), 0.2) * peak / paper)
			r, g, b = r*s, g*s, b*s
		}
		if m.narrow { // from BT.2020 to BT.709 (BT.2087)
			r, g, b = 1.6605*r-0.5876*g-0.0728*b, -0.1246*r+1.1329*g-0.0083*b, -0.0182*r-0.1006*g+1.1187*b
		}
		// The brightest of the three sets the scale, so that hues stay.
		top := max(r, g, b, 1e-6)
		s := rollOff(top) / top
		p.Pix[i], p.Pix[i+1], p.Pix[i+2] = srgb(r*s), srgb(g*s), srgb(b*s)
	}
}

// rollOff maps light up to peak into 0..1: unchanged in the dark, then ever flatter
// (the curve "mobius" of ffmpeg's filter tonemap).
func rollOff(v float32) float32 {
	const (
		knee = 0.3
		most = peak / paper
		a    = -knee * knee * (most - 1) / (knee*knee - 2*knee + most)
		b    = (knee*knee - 2*knee*most + most) / (most - 1)
	)
	if v <= knee {
		return v
	}
	return (b*b + 2*b*knee + knee*knee) / (b - a) * (v + a) / (v + b)
}

// srgb encodes light as sRGB does.
func srgb(v float32) byte {
	switch {
	case !(v > 0):
		return 0
	case v <= 0.0031308:
		return byte(255*12.92*v + 0.5)
	}
	return byte(255*min(1, 1.055*math.Pow(float64(v), 1/2.4)-0.055) + 0.5)
}
