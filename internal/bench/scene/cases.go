package scene

import (
	"fmt"
	"math/rand/v2"

	"github.com/lipstream/lipstream/internal/frame"
)

func h264(crf string) []string {
	return []string{"-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-crf", crf}
}

// Cases returns all clips of the benchmark.
func Cases() []Case {
	list := []Case{{Group: "plain", Name: "plain", Limit: 0.03}}
	add := func(group string, cases ...Case) {
		for _, c := range cases {
			c.Group = group
			if c.Limit == 0 {
				c.Limit = 0.05
			}
			list = append(list, c)
		}
	}
	for a := 30.0; a < 360; a += 30 {
		add("rotated", Case{Name: fmt.Sprintf("by %.0f degrees", a), angle: a})
	}
	add("rotated",
		Case{Name: "by 180 degrees, 64 pixels wide", angle: 180, width: 64},
		Case{Name: "by 90 degrees, turned by 30", angle: 90, yaw: 30},
		Case{Name: "by 180 degrees, turned by 30", angle: 180, yaw: 30},
		Case{Name: "by 180 degrees, dark", angle: 180, degrade: light(0.15, 0)},
		Case{Name: "by 180 degrees, with a beard", angle: 180, draw: (*canvas).beard})
	for _, w := range []float64{300, 100, 64, 50, 40} {
		add("small", Case{Name: fmt.Sprintf("%.0f pixels wide", w), width: w})
	}
	add("small", Case{Name: "24 pixels wide", width: 24, Want: May})
	const left, top = -1.41, -1.41 // where the middle of the face lies on the edge
	add("cut", Case{Name: "left quarter", dx: left + 0.25}, Case{Name: "right quarter", dx: -left - 0.25},
		Case{Name: "top quarter", dy: top + 0.3}, Case{Name: "chin", dy: -top - 0.45},
		Case{Name: "left half", dx: left, Want: May}, Case{Name: "lower half", dy: -top, Want: May},
		Case{Name: "lower half, upside down", angle: 180, dy: top, Want: May},
		Case{Name: "all below the eyes", dy: -top + 0.2, Want: May}, Case{Name: "upper half", dy: top, Want: May},
		Case{Name: "upper half, upside down", angle: 180, dy: -top, Want: May})
	for _, a := range []float64{-60, -45, -30, 30, 45, 60} {
		c := Case{Name: fmt.Sprintf("by %+.0f degrees to the side", a), yaw: a}
		if a < -45 || a > 45 {
			c.Want, c.Limit = May, 0.12
		}
		add("turned", c)
	}
	add("turned", Case{Name: "25 degrees up", pitch: -25}, Case{Name: "25 degrees down", pitch: 25})
	add("dark", Case{Name: "half the light", degrade: light(0.5, 0)}, Case{Name: "a quarter", degrade: light(0.25, 0)},
		Case{Name: "an eighth", degrade: light(0.125, 0)}, Case{Name: "a sixteenth", degrade: light(0.0625, 0)},
		Case{Name: "a 50th", degrade: light(0.02, 0), Want: May},
		Case{Name: "an eighth, noisy", degrade: both(light(0.125, 0), noise(2))},
		Case{Name: "an eighth, compressed", degrade: light(0.125, 0), codec: h264("28")},
		Case{Name: "faded to white, an eighth", degrade: light(0.125, 223)},
		Case{Name: "against the light", draw: (*canvas).backlight})
	add("noisy", Case{Name: "deviation 10", degrade: noise(10)}, Case{Name: "deviation 25", degrade: noise(25)},
		Case{Name: "deviation 50", degrade: noise(50), Want: May})
	add("blurred", Case{Name: "2 pixels", degrade: blur(2, 2)}, Case{Name: "5 pixels", degrade: blur(5, 5)},
		Case{Name: "8 pixels", degrade: blur(8, 8), Limit: 0.08}, Case{Name: "motion, 8 pixels", degrade: blur(8, 0)})
	add("compressed", Case{Name: "JPEG, quality 20", degrade: jpegQuality(20)}, Case{Name: "JPEG, quality 5", degrade: jpegQuality(5)},
		Case{Name: "H.264, crf 35", codec: h264("35")}, Case{Name: "H.264, crf 45", codec: h264("45")})
	add("covered", Case{Name: "beard", draw: (*canvas).beard}, Case{Name: "glasses", draw: (*canvas).glasses},
		Case{Name: "sunglasses", draw: (*canvas).sunglasses}, Case{Name: "surgical mask", draw: (*canvas).mask},
		Case{Name: "hand", draw: (*canvas).hand}, Case{Name: "microphone", draw: (*canvas).microphone})
	empty := func(fill func(*frame.RGB, *rand.Rand)) Case { return Case{Want: Refuse, degrade: fill} }
	none := func(name string, c Case) Case { c.Name, c.Want = name, Refuse; return c }
	add("no face",
		none("head from behind", Case{draw: (*canvas).hair}), none("head from behind, upside down", Case{draw: (*canvas).hair, angle: 180}),
		none("face hidden", Case{draw: (*canvas).board}), none("face hidden, upside down", Case{draw: (*canvas).board, angle: 180}),
		none("noise", empty(both(light(0, 128), noise(60)))), none("blocks", empty(blocks)), none("waves", empty(waves)))
	return list
}
