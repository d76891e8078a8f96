package settings

import (
	"regexp"
	"strings"
)

// DefaultStrength is the value of Settings.RestoreStrength that was not given: a fifth of what the
// engine has made stays, which calms what the network changes from frame to frame.
const DefaultStrength = 0.8

var nameForm = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$`)

// plainName reports whether text is the name of a file without a folder and extension,
// rather than a path.
func plainName(text string) bool {
	return nameForm.MatchString(text) && !strings.HasSuffix(strings.ToLower(text), ".onnx")
}

// Restorer returns the setting Restore; plain is false if it is the path of a file.
func (s Settings) Restorer() (name string, plain bool) { return s.Restore, plainName(s.Restore) }
