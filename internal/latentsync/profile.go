package lipstream

import (
	"fmt"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/latentsync"
	"github.com/lipstream/lipstream/internal/memory"
)

// The profiles. What a job sets itself counts more than its profile.
const (
	ProfileAuto     = "auto"     // the original's steps
	ProfileQuality  = "quality"  // nothing is left out
	ProfileBalanced = "balanced" // fewer steps of a better sampler, half precision
	ProfileSpeed    = "speed"    // and no guidance, and silence costs nothing
	ProfileLowMem   = "lowmem"   // the least memory
)

// profile is a named set of switches.
type profile struct {
	name      string
	sampler   string
	steps     int
	guidance  float64
	deepCache int
	half      bool // the device's half precision, where it has one
	silence   string
	// plan is what the job begins with; the zero values leave it to the memory.
	plan memory.Plan
}

// profiles is the table of docs/memory.md.
var profiles = []profile{
	{name: ProfileAuto, sampler: latentsync.DDIM, steps: 20, guidance: 1.5, deepCache: 3, silence: latentsync.SilenceSpeak},
	{name: ProfileQuality, sampler: latentsync.DDIM, steps: 20, guidance: 1.5, deepCache: 1, silence: latentsync.SilenceSpeak},
	{name: ProfileBalanced, sampler: latentsync.DPM, steps: 10, guidance: 1.5, deepCache: 3, half: true, silence: latentsync.SilenceSpeak},
	{name: ProfileSpeed, sampler: latentsync.DPM, steps: 10, guidance: 1, deepCache: 3, half: true, silence: latentsync.SilenceHold},
	{name: ProfileLowMem, sampler: latentsync.DPM, steps: 10, guidance: 1.5, deepCache: 3, half: true, silence: latentsync.SilenceSpeak,
		plan: memory.Plan{Windows: 1, Frames: 8, VAEFrames: 1, Tile: 256, Offload: memory.OffloadSequential}},
}

func findProfile(name string) (profile, error) {
	var names []string
	for _, p := range profiles {
		if p.name == name || name == "" && p.name == ProfileAuto {
			return p, nil
		}
		names = append(names, p.name)
	}
	return profile{}, fault.Usage.New("option "+fmt.Sprintf("--profile %q", name), "is not known", "choose one of "+strings.Join(names, ", "))
}
