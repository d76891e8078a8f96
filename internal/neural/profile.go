package neural

import (
	"slices"

	"github.com/lipstream/lipstream/internal/memory"
)

// profile is a named set of settings.
type profile struct {
	name      string
	sampler   string
	steps     int
	guidance  float64
	deepCache int
	half      bool   // use the half precision of the device, if it has one
	weights   string // how weights are stored on a CPU; "" is as the runtime compiles them
	silence   string
	// plan is the memory plan to begin with. Zero values stand for the usual plan.
	plan memory.Plan
}

// profiles is the table in docs/memory.md. A setting that the user gives overrides the
// profile.
var profiles = []profile{
	{name: "auto", sampler: DDIM, steps: 20, guidance: 1.5, deepCache: 3, silence: SilenceSpeak},
	{name: "quality", sampler: DDIM, steps: 20, guidance: 1.5, deepCache: 1, silence: SilenceSpeak},
	{name: "balanced", sampler: DPM, steps: 10, guidance: 1.5, deepCache: 3, half: true, silence: SilenceSpeak},
	{name: "speed", sampler: DPM, steps: 10, guidance: 1, deepCache: 3, half: true, silence: SilenceHold},
	{name: "lowmem", sampler: DPM, steps: 10, guidance: 1.5, deepCache: 3, half: true, weights: weightsInt8, silence: SilenceSpeak,
		plan: memory.Plan{Windows: 1, Frames: 8, VAEFrames: 1, Tile: 256, Offload: memory.OffloadSequential}},
}

func findProfile(name string) profile {
	i := slices.IndexFunc(profiles, func(p profile) bool { return p.name == name })
	return profiles[max(i, 0)] // package settings checks the name; auto is the default
}
