package memory

import (
	"fmt"
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
}

// String returns a line such as "1 window of 16 frames, whole pictures,
// attention whole, bf16, offload none".
func (p Plan) String() string {
	list := []string{p.windows(), p.vae(), p.slices()}
	if p.Precision != "" {
		list = append(list, p.Precision)
	}
	return strings.Join(append(list, p.offload()), ", ")
}

func (p Plan) windows() string {
	return plural(p.Windows, "window") + " of " + plural(p.Frames, "frame")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (p Plan) offload() string { return "offload " + string(p.Offload) }

func (p Plan) vae() string {
	text := "whole pictures"
	if p.Tile > 0 {
		text = fmt.Sprintf("tiles of %d pixels", p.Tile)
	}
	if p.VAEFrames > 1 {
		text += fmt.Sprintf(", %d a call", p.VAEFrames)
	}
	return text
}

func (p Plan) slices() string {
	if p.Slices > 1 {
		return fmt.Sprintf("attention in %d slices", p.Slices)
	}
	return "attention whole"
}

// Differences describes what q has and p does not, as in "1 window of 8 frames,
// offload model".
func (p Plan) Differences(q Plan) string {
	var list []string
	for _, d := range [][2]string{
		{p.windows(), q.windows()}, {p.vae(), q.vae()}, {p.slices(), q.slices()},
		{p.Precision, q.Precision}, {p.offload(), q.offload()},
	} {
		if d[0] != d[1] {
			list = append(list, d[1])
		}
	}
	return strings.Join(list, ", ")
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

// reductions are the ways to reduce a plan, from the one that costs the least time and quality
// to the one that costs the most. Each applies itself to a plan once, and
// reports whether it could.
var reductions = []func(p *Plan, allowed Reductions) bool{
	func(p *Plan, allowed Reductions) bool {
		return allowed.Windows && p.Windows > 1 && set(&p.Windows, p.Windows/2)
	},
	func(p *Plan, allowed Reductions) bool { return allowed.VAEFrames && set(&p.VAEFrames, 1) },
	func(p *Plan, allowed Reductions) bool {
		return allowed.Frames && p.Frames > smallWindow && set(&p.Frames, smallWindow)
	},
	func(p *Plan, allowed Reductions) bool {
		return allowed.Tile > 0 && (p.Tile == 0 || p.Tile > allowed.Tile) && set(&p.Tile, allowed.Tile)
	},
	func(p *Plan, allowed Reductions) bool {
		return allowed.Slices > p.Slices && set(&p.Slices, allowed.Slices)
	},
	func(p *Plan, allowed Reductions) bool {
		switch {
		case allowed.Offload && p.Offload == OffloadNone:
			return set(&p.Offload, OffloadModel)
		case allowed.Offload && p.Offload == OffloadModel:
			return set(&p.Offload, OffloadSequential)
		}
		return false
	},
	func(p *Plan, allowed Reductions) bool {
		return allowed.Precision != "" && p.Precision == exact && set(&p.Precision, allowed.Precision)
	},
}

func set[T comparable](to *T, v T) bool {
	changed := *to != v
	*to = v
	return changed
}

// Cheaper returns p with the next reduction applied, the one that costs the
// least, and false when no reduction is left.
func Cheaper(p Plan, allowed Reductions) (Plan, bool) {
	for _, reduce := range reductions {
		if reduce(&p, allowed) {
			return p, true
		}
	}
	return p, false
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
			func(q *Plan) { q.VAEFrames = best.VAEFrames },
		} {
			q := p
			if undo(&q); q != p && fits(q) {
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
