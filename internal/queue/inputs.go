package queue

import "github.com/lipstream/lipstream"

// Speaker is a face with a voice of its own, in a request.
type Speaker struct {
	Face  string `json:"face"`
	Audio Source `json:"audio"`
}

// Input is an input of a request, and what messages call it.
type Input struct {
	What string
	*Source
}

// Inputs returns all inputs: the video, the voices, then the soundtrack and the mask if
// there are any. Job.Inputs has the same order.
func (s *Spec) Inputs() []Input {
	list := []Input{{"video", &s.Video}}
	if len(s.Speakers) == 0 {
		list = append(list, Input{"audio", &s.Audio})
	}
	for i := range s.Speakers {
		list = append(list, Input{"the speaker " + s.Speakers[i].Face, &s.Speakers[i].Audio})
	}
	if s.Soundtrack != nil {
		list = append(list, Input{"soundtrack", s.Soundtrack})
	}
	if s.Mask != nil {
		list = append(list, Input{"mask", s.Mask})
	}
	return list
}

// Job returns the job to do. paths has the file of each input, or is nil if only the
// settings matter. The output is up to the caller.
func (s Spec) Job(paths []string) lipstream.Job {
	j := lipstream.Job{Settings: s.Settings}
	for i, in := range s.Inputs() {
		path := in.What
		if paths != nil {
			path = paths[i]
		}
		switch speaker := i - 1; {
		case i == 0:
			j.Video = path
		case in.Source == s.Soundtrack:
			j.Soundtrack = path
		case in.Source == s.Mask:
			j.Mask = path
		case len(s.Speakers) > 0:
			j.Speakers = append(j.Speakers, lipstream.Speaker{Face: s.Speakers[speaker].Face, Audio: path})
		default:
			j.Audio = path
		}
	}
	if len(s.Speakers) > 0 && s.Audio != (Source{}) {
		j.Audio = "the voice" // which is refused
	}
	return j
}

// Inputs returns all inputs of the job, in the order of Spec.Inputs.
func (j *Job) Inputs() []Media {
	list := []Media{j.Video}
	if len(j.Voices) == 0 {
		list = append(list, j.Audio)
	}
	list = append(list, j.Voices...)
	if j.Soundtrack != nil {
		list = append(list, *j.Soundtrack)
	}
	if j.Mask != nil {
		list = append(list, *j.Mask)
	}
	return list
}

// SetInputs sets all inputs of the job, in the order of Spec.Inputs.
func (j *Job) SetInputs(list []Media) {
	j.Video, list = list[0], list[1:]
	if n := len(j.Spec.Speakers); n > 0 {
		j.Voices, list = list[:n:n], list[n:]
	} else {
		j.Audio, list = list[0], list[1:]
	}
	if j.Spec.Soundtrack != nil {
		j.Soundtrack, list = &list[0], list[1:]
	}
	if len(list) > 0 {
		j.Mask = &list[0]
	}
}

// Heard returns the sound of the job for listeners: the soundtrack, or else the first
// voice.
func (j *Job) Heard() Media {
	if j.Soundtrack != nil {
		return *j.Soundtrack
	}
	return j.Inputs()[1]
}
