package ladder

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
)

// settings are the settings that a row can change. The job gets all of them, so that it
// does not depend on profiles and defaults.
type settings struct {
	precision, sampler string
	weights            string // how they are kept; "" is f32
	steps, deepcache   int
	guidance           float64
	guidanceTo         float64 // share of the steps; 0 is 1
	guidanceEnough     float64 // threshold at which guidance ends
	guidanceEvery      int     // steps between predictions without the voice; 0 is 1
	deepcacheChange    float64 // threshold at which a step is full
	overlap            int
	windows, frames    int // in flight; denoised together
	slices             int
	vae                string
	vaeFrames, vaeTile int
	offload            memory.Offload
	silence            string
}

// flags returns the flags for lipstream run.
func (s settings) flags() []string {
	n, f := strconv.Itoa, func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	return []string{
		"--precision", s.precision, "--weights", cmp.Or(s.weights, "f32"), "--sampler", s.sampler, "--steps", n(s.steps), "--deepcache", n(s.deepcache),
		"--guidance", f(s.guidance), "--guidance-to", f(cmp.Or(s.guidanceTo, 1)), "--guidance-threshold", f(s.guidanceEnough),
		"--guidance-every", n(cmp.Or(s.guidanceEvery, 1)),
		"--deepcache-threshold", f(s.deepcacheChange), "--overlap", n(s.overlap),
		"--windows", n(s.windows), "--frames-per-window", n(s.frames), "--attention-slices", n(s.slices),
		"--vae", s.vae, "--vae-frames", n(s.vaeFrames), "--vae-tile", n(s.vaeTile), "--offload", string(s.offload), "--silence", s.silence,
	}
}

// exact returns the settings of the base, which computes what the original computes. All
// rows are compared with it.
func exact(steps, frames int) settings {
	return settings{precision: "f32", sampler: "ddim", steps: steps, deepcache: 1, guidance: 1.5, overlap: 0,
		windows: 1, frames: frames, slices: 1, vae: "full", vaeFrames: 1, vaeTile: 0, offload: memory.OffloadNone, silence: "speak"}
}

// variant describes how one row of the ladder differs from the base.
type variant struct {
	key, name string
	set       func(*settings)
	windows   int  // length of the clip in windows of the base; 0 is 1
	resteps   bool // the row changes the steps, so it always runs all of them
	// pauses selects a voice that falls silent after the first window. Then no mouth
	// is generated, and there is no PSNR.
	pauses bool
	pixels int // the lowest resolution at which the row makes sense
}

// The keys of rows with a special role.
const (
	rowBase = "base"
	rowAll  = "all"
)

// dpmSteps returns how many steps of DPM-Solver++ replace the given number of DDIM steps.
func dpmSteps(steps int) int { return max(1, steps/2) }

// balanced sets what the profile of this name does.
func balanced(s *settings) {
	s.precision, s.sampler, s.steps, s.deepcache, s.overlap = "bf16", "dpm++", dpmSteps(s.steps), 3, min(4, s.frames/2)
}

// together sets the optimisations that the goals are defined for: also guidance in the first
// step alone, deep layers when the input has changed by 120 %, and weights in int8.
func together(s *settings) {
	balanced(s)
	s.guidanceTo, s.weights = 1/float64(s.steps), "int8"
	s.deepcache, s.deepcacheChange = 100, 1.2
}

// variants are all rows, in the order of the table.
var variants = []variant{
	{key: rowBase, name: "exact", set: func(*settings) {}},
	{key: "bf16", name: "bf16", set: func(s *settings) { s.precision = "bf16" }},
	{key: "f16-weights", name: "weights in f16", set: func(s *settings) { s.weights = "f16" }},
	{key: "int8-weights", name: "weights in int8", set: func(s *settings) { s.weights = "int8" }},
	{key: "bf16-int8", name: "bf16, weights in int8", set: func(s *settings) { s.precision, s.weights = "bf16", "int8" }},
	{key: "dpm", name: "DPM-Solver++", resteps: true, set: func(s *settings) { s.sampler, s.steps = "dpm++", dpmSteps(s.steps) }},
	{key: "deepcache", name: "DeepCache 3", resteps: true, set: func(s *settings) { s.deepcache = 3 }},
	{key: "deepcache-change", name: "DeepCache, changed by 10 %", resteps: true, set: func(s *settings) { s.deepcache, s.deepcacheChange = 100, 0.1 }},
	{key: "guidance", name: "guidance 1", set: func(s *settings) { s.guidance = 1 }},
	{key: "guidance-part", name: "guidance in the first half", resteps: true, set: func(s *settings) { s.guidanceTo = 0.5 }},
	{key: "guidance-agree", name: "guidance until 10 % apart", resteps: true, set: func(s *settings) { s.guidanceEnough = 0.1 }},
	{key: "guidance-every", name: "guidance every 6th step", resteps: true, set: func(s *settings) { s.guidanceEvery = 6 }},
	{key: "frames", name: "half the frames per window", set: func(s *settings) { s.frames = max(1, s.frames/2) }},
	{key: "windows2", name: "2 windows in flight", windows: 2, set: func(s *settings) { s.windows = 2 }},
	{key: "windows4", name: "4 windows in flight", windows: 4, set: func(s *settings) { s.windows = 4 }},
	{key: "slices", name: "attention in 4 slices", set: func(s *settings) { s.slices = 4 }},
	{key: "vae-frames", name: "VAE, 4 frames per call", set: func(s *settings) { s.vaeFrames = 4 }},
	{key: "vae-tile", name: "VAE in tiles of 256", pixels: 512, set: func(s *settings) { s.vaeTile = 256 }},
	{key: "tiny-decoder", name: "TAESD's decoder", set: func(s *settings) { s.vae = "tiny-decoder" }},
	{key: "tiny", name: "TAESD", set: func(s *settings) { s.vae = "tiny" }},
	{key: "model", name: "offload model", set: func(s *settings) { s.offload = memory.OffloadModel }},
	{key: "sequential", name: "offload sequential", set: func(s *settings) { s.offload = memory.OffloadSequential }},
	{key: "sequential2", name: "sequential, 2 windows in flight", windows: 2, set: func(s *settings) { s.offload, s.windows = memory.OffloadSequential, 2 }},
	{key: "sequential4", name: "sequential, 4 windows in flight", windows: 4, set: func(s *settings) { s.offload, s.windows = memory.OffloadSequential, 4 }},
	{key: "silence", name: "silence held", windows: 4, pauses: true, set: func(s *settings) { s.silence = "hold" }},
	{key: "balanced", name: "profile balanced", resteps: true, set: balanced},
	{key: rowAll, name: "all together", resteps: true, set: together},
	{key: "lowmem", name: "all together, least memory", resteps: true, set: func(s *settings) {
		together(s)
		s.frames, s.offload, s.slices = max(1, s.frames/2), memory.OffloadSequential, 4
		s.overlap = min(s.overlap, s.frames/2)
	}},
}

// chooseRows returns the base and the rows with these keys, or all rows if there are no
// keys, in the order of the table.
func chooseRows(keys []string) ([]variant, error) {
	known := make([]string, len(variants))
	for i, v := range variants {
		known[i] = v.key
	}
	for _, k := range keys {
		if !slices.Contains(known, k) {
			return nil, fault.Field("rows", strconv.Quote(k), "does not exist", "choose from "+strings.Join(known, ","))
		}
	}
	return slices.DeleteFunc(slices.Clone(variants), func(v variant) bool {
		return len(keys) > 0 && v.key != rowBase && !slices.Contains(keys, v.key)
	}), nil
}

// job is a run of lipstream.
type job struct {
	id       string // also the name of its files
	settings settings
	frames   int // of the clip
	pauses   bool
}

// job returns the run of the row. If Quick is set, it replaces the number of steps of
// rows that do not change the steps.
func (v variant) job(o Options) job {
	s := exact(o.Steps, o.Frames)
	v.set(&s)
	if o.Quick > 0 && o.Quick < s.steps && !v.resteps {
		s.steps = o.Quick
	}
	return job{id: v.key, settings: s, frames: o.Frames * max(1, v.windows), pauses: v.pauses}
}
