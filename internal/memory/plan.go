package memory

import (
	"fmt"
	"strings"
)

// Offload says which of an engine's networks stay in memory.
type Offload string

// The ways to offload, from the most memory to the least.
const (
	OffloadNone       Offload = "none"       // all networks stay loaded
	OffloadModel      Offload = "model"      // one network at a time
	OffloadSequential Offload = "sequential" // and of the denoising network one part at a time
)

// Plan is how a job uses memory.
type Plan struct {
	Windows   int     `json:"windows"`             // in flight together: 4, 2 or 1
	Frames    int     `json:"frames_per_window"`   // denoised together: 16 or 8
	VAEFrames int     `json:"vae_frames"`          // pictures a call of the VAE: 1 is what others call VAE slicing
	Tile      int     `json:"vae_tile,omitempty"`  // side of the VAE's tiles in pixels; 0: whole pictures
	Slices    int     `json:"attention_slices"`    // parts that the queries of an attention are computed in; 1: all at once
	Offload   Offload `json:"offload"`             //
	Precision string  `json:"precision,omitempty"` // of UNet and VAE: f32, bf16, f16
}

// String is a line for people: "1 window of 16 frames, whole pictures,
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

// Differences says for people what q has that p does not: "1 window of 8
// frames, offload model".
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

// Concessions are what may be given up of a plan for less memory. What the user
// has set is not among them.
type Concessions struct {
	Windows   bool   // fewer in flight, down to 1
	VAEFrames bool   // one picture a call
	Frames    bool   // 8 frames a window
	Tile      int    // side of tiles to go over to; 0: none
	Slices    int    // to compute attention in; 0: none
	Offload   bool   // down to sequential
	Precision string // to go down to from f32; "": none
}

const (
	smallWindow = 8     // frames, what windows are made smaller to
	exact       = "f32" // the precision that can be lowered
)

// concessions are what a plan can be made cheaper by, from the one that costs
// least to the one that costs most: each takes one from a plan, and tells
// whether there was one.
var concessions = []func(p *Plan, may Concessions) bool{
	func(p *Plan, may Concessions) bool {
		ok := may.Windows && p.Windows > 1
		if ok {
			p.Windows = max(1, p.Windows/2)
		}
		return ok
	},
	func(p *Plan, may Concessions) bool { return may.VAEFrames && set(&p.VAEFrames, 1) },
	func(p *Plan, may Concessions) bool {
		return may.Frames && p.Frames > smallWindow && set(&p.Frames, smallWindow)
	},
	func(p *Plan, may Concessions) bool {
		return may.Tile > 0 && (p.Tile == 0 || p.Tile > may.Tile) && set(&p.Tile, may.Tile)
	},
	func(p *Plan, may Concessions) bool { return may.Slices > p.Slices && set(&p.Slices, may.Slices) },
	func(p *Plan, may Concessions) bool {
		switch {
		case may.Offload && p.Offload == OffloadNone:
			return set(&p.Offload, OffloadModel)
		case may.Offload && p.Offload == OffloadModel:
			return set(&p.Offload, OffloadSequential)
		}
		return false
	},
	func(p *Plan, may Concessions) bool {
		return may.Precision != "" && p.Precision == exact && set(&p.Precision, may.Precision)
	},
}

func set[T comparable](to *T, v T) bool {
	changed := *to != v
	*to = v
	return changed
}

// Cheaper gives the plan that takes less memory than p by one concession, the
// one that costs least; false where there is none left.
func Cheaper(p Plan, may Concessions) (Plan, bool) {
	for _, step := range concessions {
		if step(&p, may) {
			return p, true
		}
	}
	return p, false
}

// Ladder gives the plans from the best down to the cheapest, each one
// concession cheaper than the one before.
func Ladder(best Plan, may Concessions) []Plan {
	list := []Plan{best}
	for {
		p, ok := Cheaper(list[len(list)-1], may)
		if !ok {
			return list
		}
		list = append(list, p)
	}
}

// Choose gives the best plan of a ladder for which fits is true: the first one
// on the way down, with every earlier concession taken back that it can do
// without, so that a job whose networks have to be offloaded does not have
// smaller windows for nothing. Where nothing fits it gives the cheapest, and
// false. The ladder has at least one plan.
func Choose(ladder []Plan, fits func(Plan) bool) (Plan, bool) {
	best := ladder[0]
	for _, p := range ladder {
		if !fits(p) {
			continue
		}
		// What costs most is taken back first.
		for _, back := range []func(*Plan){
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
			if back(&q); q != p && fits(q) {
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
