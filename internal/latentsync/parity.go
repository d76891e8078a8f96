package latentsync

import (
	"slices"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
)

// Parity is a set of behaviours in which the original program differs from
// Lipstream. The zero value is none of them.
type Parity struct {
	Whisper bool // Whisper's windows of 30 s do not overlap, which leaves a seam between them
	Paste   bool // the whole crop is pasted back with a soft border, after the original's rounding of the alignment
	Noise   bool // the network hears the noise in silence
	Cuts    bool // windows run across cuts and from one face to another
	Faces   bool // a frame without a face is an error of kind fault.NoFace

	// The rest has no name of its own in the setting.

	Short  bool // a window at the end of a shot has as many frames as are left; otherwise it is filled up
	Sample bool // latents of pictures are drawn from the VAE's posterior instead of its mean
	Plan   bool // windows do not overlap, and reductions do not change the picture
}

// parityAll names all behaviours.
const parityAll = "all"

// ParseParity reads the setting `parity`: names separated by commas, or "".
func ParseParity(list string) (Parity, error) {
	var p Parity
	if list == "" {
		return p, nil
	}
	names := []string{parityAll, "whisper", "paste", "noise", "cuts", "faces"}
	set := []*bool{nil, &p.Whisper, &p.Paste, &p.Noise, &p.Cuts, &p.Faces}
	all := false
	for name := range strings.SplitSeq(list, ",") {
		i := slices.Index(names, strings.TrimSpace(name))
		switch {
		case i < 0:
			return Parity{}, fault.Field("parity", strconv.Quote(list), strconv.Quote(name)+" is not known",
				"set `parity` to all, or to a list of "+strings.Join(names[1:], ", ")+", separated by commas")
		case i == 0:
			all = true
		default:
			*set[i] = true
		}
	}
	if all {
		p = Parity{Whisper: true, Paste: true, Noise: true, Cuts: true, Faces: true, Short: true, Sample: true, Plan: true}
	}
	return p, nil
}

// All reports whether p holds every behaviour.
func (p Parity) All() bool { return p.Plan }

// WithParity returns o with the behaviours of p.
func (o Options) WithParity(p Parity) Options {
	o.Parity = p
	if p.Plan {
		o.Overlap = 0
		o.Allowed.Frames, o.Allowed.Tile, o.Allowed.Precision = false, 0, ""
	}
	return o
}
