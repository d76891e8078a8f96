package cpu

import (
	"bytes"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// The parts of Lipstream's own work on a frame, in the order of the table.
const (
	pipes       = "pipes"       // reading frames from ffmpeg and writing them to it
	conversions = "conversions" // cutting the inputs of the face networks out of frames
	networks    = "networks"    // the face networks, in native code
	faces       = "faces"       // following the face
	engine      = "engine"      // computing the mouth
	composite   = "composite"   // writing it into the frame
	other       = "other"       // the scheduler, the collector, the report, the memory's meter
)

var allParts = []string{pipes, conversions, networks, faces, engine, composite, other}

// rules assign a sample to a part by a function on its stack. The first rule that matches
// any function decides.
var rules = []struct{ function, part string }{
	{"internal/media.(*VideoSource).Read", pipes},
	{"internal/media.(*Sequence).", pipes},
	{"internal/media.(*Sink).Write", pipes},
	{"internal/frame.(*Frame).Warp", conversions},
	{"internal/face.(*network).fill", conversions},
	{"internal/face.(*Tracker).", faces},
	{"internal/preview.(*Engine).compose", composite},
	{"internal/lip.(*Item).Composite", composite},
	{"internal/preview.(*Engine).", engine},
}

// parts divides own, the CPU time of the process in seconds, by the samples of its
// profile. What the profile does not see, such as threads that are not Go's, is other.
func parts(data []byte, own float64) (map[string]float64, error) {
	p, err := profile.Parse(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	seconds, rest := map[string]float64{}, own
	for _, s := range p.Sample {
		t := float64(s.Value[1]) / 1e9 // samples, nanoseconds
		if part := partOf(s); part != other {
			seconds[part] += t
			rest -= t
		}
	}
	seconds[other] = max(0, rest)
	return seconds, nil
}

func partOf(s *profile.Sample) string {
	for _, r := range rules {
		for _, l := range s.Location {
			for _, line := range l.Line {
				if line.Function != nil && strings.Contains(line.Function.Name, r.function) {
					return r.part
				}
			}
		}
	}
	if slices.ContainsFunc(s.Location, func(l *profile.Location) bool {
		return slices.ContainsFunc(l.Line, func(line profile.Line) bool {
			return line.Function != nil && line.Function.Name == "runtime._ExternalCode"
		})
	}) {
		return networks // the preview runs no others
	}
	return other
}
