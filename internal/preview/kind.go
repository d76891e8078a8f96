package preview

import (
	"context"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/settings"
)

// Kind implements lip.Kind. The preview can always run.
type Kind struct{}

// Name returns the value of the setting `engine`.
func (Kind) Name() string { return settings.EnginePreview }

// Describe returns one sentence for people.
func (Kind) Describe() string { return "Fast, on any machine; moves the mouth that is there" }

// Check returns nil: the preview has no settings of its own.
func (Kind) Check(settings.Settings) error { return nil }

// Ready reports that the preview can run.
func (Kind) Ready(settings.Settings) (string, bool) { return "", true }

// Find returns the model.
func (Kind) Find(context.Context, settings.Settings) (lip.Model, error) {
	return lip.Model{
		Name:  settings.EnginePreview,
		Needs: audio.Needs{Mouths: true},
		Open: func(_ context.Context, h lip.Host) (lip.Engine, error) {
			return New(h.Rate.Float(), func(frame int64) audio.Mouth {
				return h.Voice.Mouth(audio.FrameTime(frame, int(h.Rate.Num), int(h.Rate.Den)))
			}), nil
		},
	}, nil
}
