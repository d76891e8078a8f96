package audio

// vadGate is the level gate with hysteresis of modules/vadgate.mjs of
// @met4citizen/headaudio (MIT). The original's thresholds are absolute (-40
// and -50 dB), which a quiet speaker never reaches; the analyzer sets them
// from the recording's own levels.
type vadGate struct {
	on, off             float64 // dB: opens above on, closes below off
	onFrames, offFrames int     // consecutive-ish blocks needed to switch, at least 1
	active              bool
	pending             int // blocks that argued for switching, minus those against
}

// process takes the level of the next block and says whether the gate is open.
func (g *vadGate) process(db float64) bool {
	argues := db > g.on
	need := g.onFrames
	if g.active {
		argues = db < g.off
		need = g.offFrames
	}
	switch {
	case argues:
		g.pending++
		if g.pending >= need {
			g.active = !g.active
			g.pending = 0
		}
	case g.pending > 0:
		g.pending--
	}
	return g.active
}
