// Package lipstream gives a video, or a picture, of a person the mouth that
// speaks a given voice.
//
//	result, err := lipstream.Run(ctx, lipstream.Job{
//		Video: "face.mp4", Audio: "voice.wav", Output: "out.mp4",
//	}, lipstream.ObserverFunc(func(e lipstream.Event) { log.Println(e.Stage, e.Frame) }))
//
// Two engines make mouths: the preview moves the speaker's own, LatentSync
// draws it anew with a published checkpoint (see [LatentSync] and [ModelsDir]).
// Which one a job takes, EngineAuto settles.
//
// Memory does not grow with the length of the video. Cancelling ctx ends the
// job within a second, or when the network that is being compiled is done, and
// leaves nothing behind. Errors are *[Error].
package lipstream

import "github.com/lipstream/lipstream/internal/fault"

// Error is what every failure of this package is or wraps: operation, subject,
// cause and hint.
type Error = fault.Error
