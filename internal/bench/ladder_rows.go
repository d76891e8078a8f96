package bench

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
)

// ladderSettings are all switches that a row of the ladder can set. Every one
// is given to the job, so that no profile and no default decides anything.
type ladderSettings struct {
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

// flags are the options of lipstream run.
func (s ladderSettings) flags() []string {
	n := strconv.Itoa
	return []string{
		"--precision", s.precision, "--sampler", s.sampler, "--steps", n(s.steps), "--deepcache", n(s.deepcache),
		"--guidance", strconv.FormatFloat(s.guidance, 'g', -1, 64), "--overlap", n(s.overlap),
		"--windows", n(s.windows), "--frames-per-window", n(s.frames), "--attention-slices", n(s.slices),
		"--vae-frames", n(s.vaeFrames), "--vae-tile", n(s.vaeTile), "--offload", string(s.offload), "--silence", s.silence,
	}
}

// ladderBase is the exact job that all rows are compared with: what the
// original computes.
func ladderBase(steps, frames int) ladderSettings {
	return ladderSettings{precision: "f32", sampler: "ddim", steps: steps, deepcache: 1, guidance: 1.5, overlap: 0,
		windows: 1, frames: frames, slices: 1, vaeFrames: 1, vaeTile: 0, offload: memory.OffloadNone, silence: "speak"}
}

// ladderSwitch is one row of the ladder: what it sets, beside the base.
type ladderSwitch struct {
	key, name string
	set       func(*ladderSettings)
	// windows of the base's length that the clip has; 0 is 1.
	windows int
	// resteps tells that the row has other steps than the base: it is always
	// run in full.
	resteps bool
	// pauses wants a voice that falls silent after the first window. Then the
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

// dpmSteps is how many steps DPM-Solver++ takes for so many of DDIM's.
func dpmSteps(steps int) int { return max(1, steps/2) }

// together is what the ladder's goal is set for: the profile "balanced".
func together(s *ladderSettings) {
	s.precision, s.sampler, s.steps, s.deepcache, s.overlap = "bf16", "dpm++", dpmSteps(s.steps), 3, min(4, s.frames/2)
}

// ladderRows are all rows in the table's order.
var ladderRows = []ladderSwitch{
	{key: rowBase, name: "exact", set: func(*ladderSettings) {}},
	{key: "bf16", name: "bf16", set: func(s *ladderSettings) { s.precision = "bf16" }},
	{key: "dpm", name: "DPM-Solver++", resteps: true, set: func(s *ladderSettings) { s.sampler, s.steps = "dpm++", dpmSteps(s.steps) }},
	{key: "deepcache", name: "DeepCache 3", resteps: true, set: func(s *ladderSettings) { s.deepcache = 3 }},
	{key: "guidance", name: "guidance 1", set: func(s *ladderSettings) { s.guidance = 1 }},
	{key: "frames", name: "half the frames a window", set: func(s *ladderSettings) { s.frames = max(1, s.frames/2) }},
	{key: "windows2", name: "2 windows in flight", windows: 2, set: func(s *ladderSettings) { s.windows = 2 }},
	{key: "windows4", name: "4 windows in flight", windows: 4, set: func(s *ladderSettings) { s.windows = 4 }},
	{key: "slices", name: "attention in 4 slices", set: func(s *ladderSettings) { s.slices = 4 }},
	{key: "vae-frames", name: "VAE, 4 frames a call", set: func(s *ladderSettings) { s.vaeFrames = 4 }},
	{key: "vae-tile", name: "VAE in tiles of 256", pixels: 512, set: func(s *ladderSettings) { s.vaeTile = 256 }},
	{key: "model", name: "offload model", set: func(s *ladderSettings) { s.offload = memory.OffloadModel }},
	{key: "sequential", name: "offload sequential", set: func(s *ladderSettings) { s.offload = memory.OffloadSequential }},
	{key: "silence", name: "silence held", windows: 4, pauses: true, set: func(s *ladderSettings) { s.silence = "hold" }},
	{key: rowAll, name: "all together", resteps: true, set: together},
	{key: "lowmem", name: "all together, least memory", resteps: true, set: func(s *ladderSettings) {
		together(s)
		s.frames, s.offload, s.slices = max(1, s.frames/2), memory.OffloadSequential, 4
		s.overlap = min(s.overlap, s.frames/2)
	}},
}

// LadderRows are the keys of all rows.
func LadderRows() []string {
	keys := make([]string, len(ladderRows))
	for i, r := range ladderRows {
		keys[i] = r.key
	}
	return keys
}

// chooseRows gives the rows of these keys in the table's order, all for none.
// The base is always among them.
func chooseRows(keys []string) ([]ladderSwitch, error) {
	for _, k := range keys {
		if !slices.Contains(LadderRows(), k) {
			return nil, fault.Usage.New("option --rows "+strconv.Quote(k), "there is no such row", "choose from "+strings.Join(LadderRows(), ","))
		}
	}
	if len(keys) == 0 {
		return ladderRows, nil
	}
	var out []ladderSwitch
	for _, r := range ladderRows {
		if r.key == rowBase || slices.Contains(keys, r.key) {
			out = append(out, r)
		}
	}
	return out, nil
}

// ladderJob is a run of lipstream: a row with the number of steps it is run with.
type ladderJob struct {
	id       string // also of its files
	settings ladderSettings
	frames   int // of the clip
	pauses   bool
}

// job is the row's run. Where the row's steps are the base's, quick above 0
// replaces their number.
func (r ladderSwitch) job(o LadderOptions, resolution int) (j ladderJob, note string) {
	s := ladderBase(o.Steps, o.Frames)
	r.set(&s)
	j = ladderJob{id: r.key, frames: o.Frames * max(1, r.windows), pauses: r.pauses}
	if o.Quick > 0 && o.Quick < s.steps && !r.resteps {
		s.steps = o.Quick
	}
	j.settings = s
	if r.pixels > resolution {
		note = fmt.Sprintf("not run: for %d pixels and more", r.pixels)
	}
	return j, note
}
