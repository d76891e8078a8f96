package memory

import (
	"fmt"
	"slices"
	"strings"
)

// Offload says which of an engine's networks stay loaded.
type Offload string

// The values of Offload, from the most memory to the least.
const (
	OffloadNone       Offload = "none"       // all networks stay loaded
	OffloadModel      Offload = "model"      // one network at a time
	OffloadSequential Offload = "sequential" // one network at a time, the denoising network one section at a time
)

// Plan says how a job uses memory.
type Plan struct {
	Windows   int     `json:"windows"`             // in flight together: 4, 2 or 1
	Frames    int     `json:"frames_per_window"`   // denoised together: 16 or 8
	VAEFrames int     `json:"vae_frames"`          // frames in one call of the VAE; 1 is known elsewhere as VAE slicing
	Tile      int     `json:"vae_tile,omitempty"`  // side of the VAE's tiles in pixels; 0: no tiles
	Slices    int     `json:"attention_slices"`    // parts that the queries of an attention are computed in; 1: all at once
	Offload   Offload `json:"offload"`             //
	Precision string  `json:"precision,omitempty"` // of UNet and VAE: f32, bf16, f16
	Weights   string  `json:"weights,omitempty"`   // how those of UNet and VAE are stored: f16, int8; "": as the runtime compiles them
}

// String returns a line such as "1 window of 16 frames, whole pictures,
// attention whole, bf16, offload none".
func (p Plan) String() string {
	return strings.Join(slices.DeleteFunc(p.words(), func(s string) bool { return s == "" }), ", ")
}

// Differences describes what q has and p does not, as in "1 window of 8 frames,
// offload model".
func (p Plan) Differences(q Plan) string {
	var list []string
	was := p.words()
	for i, now := range q.words() {
		if now != was[i] {
			list = append(list, now)
		}
	}
	return strings.Join(list, ", ")
}

// words describes the windows, the VAE, the attention, the precision and the
// offloading.
func (p Plan) words() []string {
	vae, attention := "whole pictures", "attention whole"
	if p.Tile > 0 {
		vae = fmt.Sprintf("tiles of %d pixels", p.Tile)
	}
	if p.VAEFrames > 1 {
		vae += fmt.Sprintf(", %d a call", p.VAEFrames)
	}
	if p.Slices > 1 {
		attention = fmt.Sprintf("attention in %d slices", p.Slices)
	}
	weights := ""
	if p.Weights != "" {
		weights = "weights in " + p.Weights
	}
	windows := plural(p.Windows, "window") + " of " + plural(p.Frames, "frame")
	return []string{windows, vae, attention, p.Precision, weights, "offload " + string(p.Offload)}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Reductions lists what may be reduced of a plan to save memory. Settings that
// the user has made are not among them.
type Reductions struct {
	Windows   bool   // fewer in flight, down to 1
	VAEFrames bool   // one picture a call
	Frames    bool   // 8 frames a window
	Tile      int    // side of the tiles to use instead of whole pictures; 0: none
	Slices    int    // to compute attention in; 0: none
	Offload   bool   // down to sequential
	Precision string // to use instead of f32; "": none
}

const (
	smallWindow = 8     // frames of a reduced window
	exact       = "f32" // the precision that can be reduced
)

// Cheaper returns p with the next reduction applied, and false when none is left. They
// are ordered from the one that costs the least time and quality to the one that costs
// the most.
func Cheaper(p Plan, allowed Reductions) (Plan, bool) {
	switch {
	case allowed.Windows && p.Windows > 1:
		p.Windows /= 2
	case allowed.VAEFrames && p.VAEFrames > 1:
		p.VAEFrames = 1
	case allowed.Frames && p.Frames > smallWindow:
		p.Frames = smallWindow
	case allowed.Tile > 0 && (p.Tile == 0 || p.Tile > allowed.Tile):
		p.Tile = allowed.Tile
	case allowed.Slices > p.Slices:
		p.Slices = allowed.Slices
	case allowed.Offload && p.Offload == OffloadNone:
		p.Offload = OffloadModel
	case allowed.Offload && p.Offload == OffloadModel:
		p.Offload = OffloadSequential
	case allowed.Precision != "" && p.Precision == exact && allowed.Precision != exact:
		p.Precision = allowed.Precision
	default:
		return p, false
	}
	return p, true
}

// Ladder returns the plans from the best down to the cheapest, each one
// reduction cheaper than the one before.
func Ladder(best Plan, allowed Reductions) []Plan {
	list := []Plan{best}
	for {
		p, ok := Cheaper(list[len(list)-1], allowed)
		if !ok {
			return list
		}
		list = append(list, p)
	}
}

// Choose returns the best plan that fits: the first one on the way down the
// ladder, with every reduction undone that turns out not to be needed, so that a
// job whose networks are offloaded does not have smaller windows for nothing.
// When no plan fits, it returns the cheapest and false. The ladder has at least
// one plan.
func Choose(ladder []Plan, fits func(Plan) bool) (Plan, bool) {
	best := ladder[0]
	for _, p := range ladder {
		if !fits(p) {
			continue
		}
		// The reductions that cost the most are undone first.
		for _, undo := range []func(*Plan){
			func(q *Plan) { q.Precision = best.Precision },
			func(q *Plan) { q.Offload = best.Offload },
			func(q *Plan) {
				if q.Offload == OffloadSequential && best.Offload == OffloadNone {
					q.Offload = OffloadModel
				}
			},
			func(q *Plan) { q.Slices = best.Slices },
			func(q *Plan) { q.Tile = best.Tile },
			func(q *Plan) { q.Frames = best.Frames },
		} {
			q := p
			if undo(&q); q != p && fits(q) {
				p = q
			}
		}
		for n := best.VAEFrames; n > p.VAEFrames; n /= 2 {
			q := p
			if q.VAEFrames = n; fits(q) {
				p = q
			}
		}
		for q := p; q.Windows < best.Windows; {
			if q.Windows = min(2*q.Windows, best.Windows); !fits(q) {
				break
			}
			p = q
		}
		return p, true
	}
	return ladder[len(ladder)-1], false
}
