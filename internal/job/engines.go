package job

import (
	"context"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/neural"
	"github.com/lipstream/lipstream/internal/preview"
	"github.com/lipstream/lipstream/internal/settings"
)

// kinds lists the engines, the best first. To add an engine, add its line here
// and its name to the choices of settings.Settings.Engine.
var kinds = []lip.Kind{
	neural.LatentSync(),
	neural.MuseTalk(),
	preview.Kind{},
}

// EngineInfo describes an engine for people who choose one. Install is the command that
// installs what it needs, or "".
type EngineInfo struct{ Name, Description, Install string }

// Engines lists the engines that a job can name: auto, then the others, the best last.
func Engines() []EngineInfo {
	list := []EngineInfo{{settings.EngineAuto, "LatentSync or MuseTalk if a checkpoint is installed, else the preview", ""}}
	for _, k := range slices.Backward(kinds) {
		list = append(list, EngineInfo{k.Name(), k.Describe(), k.Install()})
	}
	return list
}

// ReadyEngines returns the names of the engines that can run on this machine with the
// settings, the best last.
func ReadyEngines(s settings.Settings) (names []string) {
	for _, k := range slices.Backward(kinds) {
		if _, ready := k.Ready(s); ready {
			names = append(names, k.Name())
		}
	}
	return names
}

// choose returns the engine of a job, its kind, and why it was chosen.
func choose(ctx context.Context, s settings.Settings) (m lip.Model, kind, why string, err error) {
	var reasons []string // why better ones are not used, then why this one is
	for _, k := range kinds {
		switch reason, ready := k.Ready(s); {
		case s.Engine == k.Name():
			reasons = []string{"as requested"}
		case s.Engine != settings.EngineAuto:
			continue
		default:
			if reason != "" {
				reasons = append(reasons, reason)
			}
			if !ready {
				continue
			}
		}
		m, err = k.Find(ctx, s)
		return m, k.Name(), strings.Join(reasons, "; "), err
	}
	return m, "", "", fault.Internal.New("choose the engine", "no engine has the name "+s.Engine)
}
