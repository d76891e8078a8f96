package neural

import (
	"slices"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/settings"
)

// parity is a behaviour of the original that the setting `parity` can select.
type parity struct {
	name string
	set  func(o *Options)
}

// latentSyncParity lists the behaviours of LatentSync.
var latentSyncParity = []parity{
	{"whisper", func(o *Options) { o.WhisperOverlap = false }},
	{"paste", func(o *Options) { o.Whole = true }},
	{"noise", func(o *Options) { o.Speech, o.Quiet = nil, nil }},
	{"cuts", func(o *Options) { o.IgnoreCuts = true }},
	{"faces", func(o *Options) { o.NeedFace = true }},
	// Only settings.ParityAll selects the rest: windows that do not overlap and are
	// short at the end, samples of the posterior, and no reduction of memory that
	// changes images.
	{settings.ParityAll, func(o *Options) {
		o.Overlap, o.Short, o.Sample = 0, true, true
		o.Allowed.Frames, o.Allowed.Tile, o.Allowed.Precision = false, 0, ""
	}},
}

// museTalkParity lists the behaviours of MuseTalk.
var museTalkParity = []parity{
	{"whisper", func(o *Options) { o.WhisperOverlap = false }},
	{"paste", func(o *Options) { o.Whole = true }},
	{"noise", func(o *Options) { o.Speech, o.Quiet = nil, nil }},
	{"cuts", func(o *Options) { o.IgnoreCuts = true }},
	{"faces", func(o *Options) { o.NeedFace = true }},
	// Only settings.ParityAll selects the rest: short windows at the end, samples of the
	// posterior, and no reduction of memory that changes images.
	{settings.ParityAll, func(o *Options) {
		o.Short, o.Sample = true, true
		o.Allowed.Tile, o.Allowed.Precision = 0, ""
	}},
}

// parseParity returns the names in the value of the setting, or an error of kind
// Usage. settings.ParityAll stands for all names.
func parseParity(value string, list []parity) ([]string, error) {
	if value == "" {
		return nil, nil
	}
	var all []string
	for _, p := range list {
		all = append(all, p.name)
	}
	names := strings.Split(value, ",")
	for _, name := range names {
		if !slices.Contains(all, name) {
			return nil, fault.Field("parity", strconv.Quote(name), "is not a behaviour of the original", "choose all, or a list of "+strings.Join(all[:len(all)-1], ", "))
		}
	}
	if slices.Contains(names, settings.ParityAll) {
		return all, nil
	}
	return names, nil
}

// withParity returns the options with the named behaviours of the original.
func (o Options) withParity(names []string) Options {
	for _, p := range o.recipe.parity() {
		if slices.Contains(names, p.name) {
			p.set(&o)
		}
	}
	return o
}
