package queue

import (
	"time"

	"github.com/lipstream/lipstream"
)

// Source names an input of a job in a request: an upload's id, or a path under
// a folder that the server allows.
type Source struct {
	Upload string `json:"upload,omitempty"`
	Path   string `json:"path,omitempty"`
}

// Spec is what to make: the body of a request for a job. Names, units and
// defaults are those of lipstream run; zero values and what is left out are the
// defaults.
type Spec struct {
	Video    Source   `json:"video"`
	Audio    Source   `json:"audio"`
	Name     string   `json:"name,omitempty"` // of the result's file; its extension chooses the container
	Priority Priority `json:"priority,omitempty"`
	// Split is how long the parts are into which a long video is split, in
	// seconds; 0 leaves it to the worker, -1 does not split.
	Split float64 `json:"split,omitempty"`

	Engine string  `json:"engine,omitempty"`
	FPS    string  `json:"fps,omitempty"`
	Length string  `json:"length,omitempty"`
	Face   string  `json:"face,omitempty"`
	Start  float64 `json:"start,omitempty"` // seconds
	End    float64 `json:"end,omitempty"`   // seconds
	Codec  string  `json:"codec,omitempty"`
	CRF    *int    `json:"crf,omitempty"`
	Preset string  `json:"preset,omitempty"`
	Seed   *int64  `json:"seed,omitempty"` // default 1247

	Profile    string  `json:"profile,omitempty"`
	Resolution int     `json:"resolution,omitempty"`
	Precision  string  `json:"precision,omitempty"`
	Sampler    string  `json:"sampler,omitempty"`
	Steps      int     `json:"steps,omitempty"`
	Guidance   float64 `json:"guidance,omitempty"`
	DeepCache  int     `json:"deepcache,omitempty"`
	Silence    string  `json:"silence,omitempty"`
	Overlap    *int    `json:"overlap,omitempty"`
	Device     string  `json:"device,omitempty"`

	MemoryLimit int64 `json:"memory_limit,omitempty"` // bytes
}

// DefaultSeed is that of lipstream run.
const DefaultSeed = 1247

// Job gives the job of the specification; inputs and output are the caller's to
// fill in.
func (s Spec) Job() lipstream.Job {
	j := lipstream.Job{
		Engine: s.Engine, FPS: s.FPS, Length: s.Length, Face: s.Face,
		Start: seconds(s.Start), End: seconds(s.End),
		Codec: s.Codec, CRF: s.CRF, Preset: s.Preset, Seed: DefaultSeed,
		MemoryLimit: s.MemoryLimit,
		LatentSync: lipstream.LatentSync{
			Profile: s.Profile, Resolution: s.Resolution, Precision: s.Precision, Sampler: s.Sampler,
			Steps: s.Steps, Guidance: s.Guidance, DeepCache: s.DeepCache, Silence: s.Silence,
			Overlap: s.Overlap, Device: s.Device,
		},
	}
	if s.Seed != nil {
		j.Seed = *s.Seed
	}
	return j
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
