package cpu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"sync"

	"github.com/shirou/gopsutil/v4/process"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
)

// Step is a hidden command that runs one job in a process of its own and prints a
// measured as JSON.
type Step struct {
	Video   string
	Audio   string
	Out     string
	Profile string // file for the profile of the frames; optional
}

// measured is what the process of a job used, without its children.
type measured struct {
	Frames int64   `json:"frames"`
	NoFace int64   `json:"no_face"`
	Own    float64 `json:"own_seconds"`   // CPU time of the frames phase
	Start  float64 `json:"start_seconds"` // CPU time before it, such as loading
	// Children is the CPU time of ffmpeg for the frames, in seconds, and of an ffprobe at
	// the end.
	Children float64            `json:"children_seconds"`
	Parts    map[string]float64 `json:"part_seconds"` // Own by part
	Peak     int64              `json:"peak_rss_bytes"`
}

// Run implements a command of kong.
func (s *Step) Run(ctx context.Context) error {
	self, err := process.NewProcess(int32(os.Getpid()))
	if err != nil {
		return fault.Internal.Wrap("read the CPU time", err)
	}
	debug.SetGCPercent(25) // like the program
	var readErr error
	used := func() float64 {
		t, err := self.Times() // of this process only
		if err != nil {
			readErr = errors.Join(readErr, err)
			return 0
		}
		return t.User + t.System
	}
	var m measured
	var profile bytes.Buffer
	var before, childrenBefore float64
	begin := sync.OnceFunc(func() {
		before, childrenBefore = used(), children()
		readErr = errors.Join(readErr, pprof.StartCPUProfile(&profile))
	})
	end := sync.OnceFunc(func() {
		pprof.StopCPUProfile()
		m.Own, m.Start = used()-before, before
	})
	result, err := lipstream.Run(ctx, lipstream.Job{Video: s.Video, Audio: s.Audio, Output: s.Out, Overwrite: true,
		Settings: lipstream.Settings{Engine: lipstream.EnginePreview}}, lipstream.ObserverFunc(func(e lipstream.Event) {
		switch {
		case e.Type != lipstream.EventPhase:
		case e.Phase == lipstream.PhaseFrames:
			begin()
		case e.Phase == lipstream.PhaseFinish:
			end()
		}
	}))
	if err != nil {
		return err
	}
	m.Peak = memory.SelfStatus()["VmHWM"]
	m.Frames, m.NoFace = result.Frames, result.NoFace
	if readErr == nil {
		m.Parts, readErr = parts(profile.Bytes(), m.Own)
	}
	m.Children = children() - childrenBefore
	if readErr == nil && s.Profile != "" {
		readErr = os.WriteFile(s.Profile, profile.Bytes(), 0o644)
	}
	if readErr != nil {
		return fault.Internal.Wrap("profile the job", readErr)
	}
	return json.NewEncoder(os.Stdout).Encode(m)
}
