package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/lipstream/lipstream"
)

// voiceFlags are the flags for the sound of a job.
type voiceFlags struct {
	Audio      string    `placeholder:"VOICE" help:"Audio file with the voice, or a video with sound. Required without --speaker."`
	Speaker    []speaker `sep:"none" placeholder:"WHO=VOICE" help:"Give a face a voice of its own, such as left=anna.wav; repeat it for each speaker, in place of --audio. WHO is a value of --face."`
	Soundtrack string    `placeholder:"FILE" help:"Sound of the result, such as the voice with music, which the mouth would follow less well. Default: the voice, or the mix of the voices."`
}

// speakers returns the values of --speaker.
func (v *voiceFlags) speakers() (list []lipstream.Speaker) {
	for _, s := range v.Speaker {
		list = append(list, lipstream.Speaker(s))
	}
	return list
}

// files returns the paths of all sounds, in the order of queue.Spec.Inputs.
func (v *voiceFlags) files() []string {
	files := []string{v.Audio}
	for _, s := range v.Speaker {
		files = append(files, s.Audio)
	}
	files = append(files, v.Soundtrack)
	return slices.DeleteFunc(files, func(f string) bool { return f == "" })
}

// speaker is a value of --speaker.
type speaker lipstream.Speaker

// UnmarshalText parses WHO=VOICE.
func (s *speaker) UnmarshalText(text []byte) error {
	who, voice, ok := strings.Cut(string(text), "=")
	if !ok || who == "" || voice == "" {
		return errors.New("write a face and a voice, such as left=anna.wav")
	}
	s.Face, s.Audio = who, voice
	return nil
}
