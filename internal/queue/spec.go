package queue

import (
	"github.com/lipstream/lipstream"
)

// Source names an input of a job in a request: an upload's id, or a path under
// a folder that the server allows.
type Source struct {
	Upload string `json:"upload,omitempty"`
	Path   string `json:"path,omitempty"`
}

// Spec is what to make: the body of a request for a job. The settings stand beside
// the other fields in its JSON; those that were not given have their defaults.
type Spec struct {
	Video    Source   `json:"video"`
	Audio    Source   `json:"audio"`
	Name     string   `json:"name,omitempty"` // of the file of the result; its extension chooses the container
	Priority Priority `json:"priority,omitempty"`
	// Split is the length of the parts into which a long video is split, in
	// seconds; 0 leaves it to the worker, -1 does not split.
	Split float64 `json:"split,omitempty"`

	lipstream.Settings
}

// Job returns the job to do. Its inputs and output are up to the caller.
func (s Spec) Job() lipstream.Job { return lipstream.Job{Settings: s.Settings} }
