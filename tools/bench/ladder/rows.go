package ladder

import (
	"slices"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
)

// settings are all switches that a row can set. The job gets every one of them,
// so that no profile and no default decides anything.
type settings struct {
	precision, sampler string
	steps, deepcache   int
	guidance           float64
	overlap            int
	windows, frames    int // in flight; denoised together
	slices             int
	vaeFrames, vaeTile int
	offload            memory.Offload
	silence            string
}

// flags returns the options for lipstream run.
func (s settings) flags() []string {
	n := strconv.Itoa
	return []string{
		"--precision", s.precision, "--sampler", s.sampler, "--steps", n(s.steps), "--deepcache", n(s.deepcache),
		"--guidance", strconv.FormatFloat(s.guidance, 'g', -1, 64), "--overlap", n(s.overlap),
		"--windows", n(s.windows), "--frames-per-window", n(s.frames), "--attention-slices", n(s.slices),
		"--vae-frames", n(s.vaeFrames), "--vae-tile", n(s.vaeTile), "--offload", string(s.offload), "--silence", s.silence,
	}
}

// exact returns the settings of the base, the exact job that all rows are
// compared with: what the original computes.
func exact(steps, frames int) settings {
	return settings{precision: "f32", sampler: "ddim", steps: steps, deepcache: 1, guidance: 1.5, overlap: 0,
		windows: 1, frames: frames, slices: 1, vaeFrames: 1, vaeTile: 0, offload: memory.OffloadNone, silence: "speak"}
}

// variant is what one row of the ladder changes in the base.
type variant struct {
	key, name string
	set       func(*settings)
	// windows of the base's length that the clip has; 0 is 1.
	windows int
	// resteps is true if the row changes the steps. It is always run in full.
	resteps bool
	// pauses selects a voice that falls silent after the first window. Then the
	// mouth is not generated, and there is no PSNR.
	pauses bool
	// pixels is the least resolution at which the row makes sense.
	pixels int
}

// The keys of rows that goals or texts name.
const (
	rowBase = "base"
	rowAll  = "all"
)

// dpmSteps returns how many steps DPM-Solver++ takes for so many of DDIM's.
func dpmSteps(steps int) int { return max(1, steps/2) }

// together sets what the goal is defined for: the profile "balanced".
func together(s *settings) {
	s.precision, s.sampler, s.steps, s.deepcache, s.overlap = "bf16", "dpm++", dpmSteps(s.steps), 3, min(4, s.frames/2)
}

// variants are all rows, in the order of the table.
var variants = []variant{
	{key: rowBase, name: "exact", set: func(*settings) {}},
	{key: "bf16", name: "bf16", set: func(s *settings) { s.precision = "bf16" }},
	{key: "dpm", name: "DPM-Solver++", resteps: true, set: func(s *settings) { s.sampler, s.steps = "dpm++", dpmSteps(s.steps) }},
	{key: "deepcache", name: "DeepCache 3", resteps: true, set: func(s *settings) { s.deepcache = 3 }},
	{key: "guidance", name: "guidance 1", set: func(s *settings) { s.guidance = 1 }},
	{key: "frames", name: "half the frames a window", set: func(s *settings) { s.frames = max(1, s.frames/2) }},
	{key: "windows2", name: "2 windows in flight", windows: 2, set: func(s *settings) { s.windows = 2 }},
	{key: "windows4", name: "4 windows in flight", windows: 4, set: func(s *settings) { s.windows = 4 }},
	{key: "slices", name: "attention in 4 slices", set: func(s *settings) { s.slices = 4 }},
	{key: "vae-frames", name: "VAE, 4 frames a call", set: func(s *settings) { s.vaeFrames = 4 }},
	{key: "vae-tile", name: "VAE in tiles of 256", pixels: 512, set: func(s *settings) { s.vaeTile = 256 }},
	{key: "model", name: "offload model", set: func(s *settings) { s.offload = memory.OffloadModel }},
	{key: "sequential", name: "offload sequential", set: func(s *settings) { s.offload = memory.OffloadSequential }},
	{key: "silence", name: "silence held", windows: 4, pauses: true, set: func(s *settings) { s.silence = "hold" }},
	{key: rowAll, name: "all together", resteps: true, set: together},
	{key: "lowmem", name: "all together, least memory", resteps: true, set: func(s *settings) {
		together(s)
		s.frames, s.offload, s.slices = max(1, s.frames/2), memory.OffloadSequential, 4
		s.overlap = min(s.overlap, s.frames/2)
	}},
}

// chooseRows returns the rows with these keys, or all for none, in the order of
// the table. The base is always among them.
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

// job is a run of lipstream: a row with the number of steps it is run with.
type job struct {
	id       string // also of its files
	settings settings
	frames   int // of the clip
	pauses   bool
}

// job returns the run of the row. Where the row has the steps of the base, Quick
// above 0 replaces their number.
func (v variant) job(o Options) job {
	s := exact(o.Steps, o.Frames)
	v.set(&s)
	if o.Quick > 0 && o.Quick < s.steps && !v.resteps {
		s.steps = o.Quick
	}
	return job{id: v.key, settings: s, frames: o.Frames * max(1, v.windows), pauses: v.pauses}
}
