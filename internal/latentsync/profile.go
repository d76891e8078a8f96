package latentsync

import (
	"slices"

	"github.com/lipstream/lipstream/internal/memory"
)

// The profiles. A setting that the user gives overrides the profile.
const (
	ProfileAuto     = "auto"     // the original's steps
	ProfileQuality  = "quality"  // nothing is left out
	ProfileBalanced = "balanced" // fewer steps of a better sampler, half precision
	ProfileSpeed    = "speed"    // and no guidance, and silence costs nothing
	ProfileLowMem   = "lowmem"   // the least memory
)

// profile is a named set of settings.
type profile struct {
	name      string
	sampler   string
	steps     int
	guidance  float64
	deepCache int
	half      bool // the half precision of the device, if it has one
	silence   string
	// plan is the memory plan to begin with; zero values leave it to the memory.
	plan memory.Plan
}

// profiles is the table in docs/memory.md.
var profiles = []profile{
	{name: ProfileAuto, sampler: DDIM, steps: 20, guidance: 1.5, deepCache: 3, silence: SilenceSpeak},
	{name: ProfileQuality, sampler: DDIM, steps: 20, guidance: 1.5, deepCache: 1, silence: SilenceSpeak},
	{name: ProfileBalanced, sampler: DPM, steps: 10, guidance: 1.5, deepCache: 3, half: true, silence: SilenceSpeak},
	{name: ProfileSpeed, sampler: DPM, steps: 10, guidance: 1, deepCache: 3, half: true, silence: SilenceHold},
	{name: ProfileLowMem, sampler: DPM, steps: 10, guidance: 1.5, deepCache: 3, half: true, silence: SilenceSpeak,
		plan: memory.Plan{Windows: 1, Frames: 8, VAEFrames: 1, Tile: 256, Offload: memory.OffloadSequential}},
}

func findProfile(name string) profile {
	i := slices.IndexFunc(profiles, func(p profile) bool { return p.name == name })
	return profiles[max(i, 0)] // package settings knows the names; auto comes first
}
