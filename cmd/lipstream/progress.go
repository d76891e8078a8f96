package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
)

// reporter shows the events of a job. It is safe for concurrent use. Close must be
// called before anything else is written to the terminal, such as an error: it
// erases the progress bar. Events after Close, and after an error, are dropped.
type reporter struct {
	show  func(lipstream.Event) error // called by one goroutine at a time
	clear func()                      // erases what is not permanent; may be nil
	lost  func()                      // called after the first error of show; may be nil

	mu     sync.Mutex
	err    error
	closed bool
}

// newReporter returns the reporter for a command's flags: every event as a line of
// JSON on standard output, or nothing, or on standard error one line that is redrawn
// (on a terminal) or a line every few seconds. JSON takes precedence over quiet. lost
// is called if JSON cannot be written; errors of writing text are ignored.
func newReporter(c *console, asJSON, quiet bool, lost func()) *reporter {
	switch {
	case asJSON:
		enc := newEncoder(c.Out)
		return &reporter{lost: lost, show: func(e lipstream.Event) error {
			return fault.Output.Wrap("print events", enc.Encode(e))
		}}
	case quiet:
		return &reporter{show: func(lipstream.Event) error { return nil }}
	case isTerminal(c.Err):
		b := newBar(c.Err)
		return &reporter{show: b.show, clear: b.clear}
	}
	l := &lines{out: c.Err, now: time.Now}
	return &reporter{show: l.show}
}

// Observe implements lipstream.Observer.
func (r *reporter) Observe(e lipstream.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.err != nil {
		return
	}
	if r.err = r.show(e); r.err != nil && r.lost != nil {
		r.lost()
	}
}

// Close returns the first error of showing an event. It may be called more than once.
func (r *reporter) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed && r.clear != nil {
		r.clear()
	}
	r.closed = true
	return r.err
}

// lineInterval is the time between progress lines within a phase.
const lineInterval = 5 * time.Second

// lines writes plain lines, for logs and pipes.
type lines struct {
	out   io.Writer
	now   func() time.Time
	phase string
	last  time.Time // when a progress line was last written
}

func (l *lines) show(e lipstream.Event) error {
	if text := notice(e); text != "" {
		l.print(text)
		return nil
	}
	if e.Type == lipstream.EventError {
		return nil // printError prints it
	}
	now, changed := l.now(), e.Phase != "" && e.Phase != l.phase
	if !changed && (e.Type != lipstream.EventProgress || now.Sub(l.last) < lineInterval) {
		return nil
	}
	if e.Phase != "" {
		l.phase = e.Phase
	}
	l.last = now
	l.print(strings.Join(append([]string{phasePercent(l.phase, e)}, facts(e)...), ", "))
	return nil
}

func (l *lines) print(text string) { _, _ = fmt.Fprintln(l.out, text) }

// notice returns the permanent line for an event, or "".
func notice(e lipstream.Event) string {
	switch e.Type {
	case lipstream.EventWarning:
		return "warning: " + oneLine(fault.Flags(e.Message), maxErrorLine)
	case lipstream.EventAlert:
		return "alert: " + oneLine(e.Message, maxErrorLine)
	case lipstream.EventPlan:
		return "plan: " + oneLine(e.Message, maxErrorLine)
	case lipstream.EventStart:
		if e.Engine == "" {
			return ""
		}
		s := "engine " + oneLine(e.Engine, maxErrorLine)
		if e.Message != "" { // why this engine
			s += " (" + oneLine(e.Message, maxErrorLine) + ")"
		}
		return s + ", writing " + oneLine(e.Output, maxErrorLine)
	case lipstream.EventDone:
		return summary(e)
	}
	return ""
}

// summary returns the last line of a successful job.
func summary(e lipstream.Event) string {
	parts := []string{"done: " + oneLine(e.Output, maxErrorLine)}
	if e.Frame > 0 {
		s := fmt.Sprintf("%d frames in %s", e.Frame, clock(e.Elapsed))
		if e.Elapsed > 0 {
			// Over the whole job, unlike the moving average in e.FPS.
			s += fmt.Sprintf(" (%.1f fps)", float64(e.Frame)/e.Elapsed.Seconds())
		}
		parts = append(parts, s)
	}
	if e.MemoryPeak > 0 {
		parts = append(parts, "peak memory "+memory.Size(e.MemoryPeak))
	}
	if e.NoFace > 0 {
		parts = append(parts, fmt.Sprintf("%d without a face", e.NoFace))
	}
	if e.Engine != "" {
		parts = append(parts, "engine "+oneLine(e.Engine, maxErrorLine))
	}
	return strings.Join(parts, ", ")
}

// phaseCount returns the phase and its count, such as "frames 105/250", or the phase
// alone if nothing is counted.
func phaseCount(phase string, e lipstream.Event) string {
	phase = oneLine(phase, 20)
	switch {
	case e.Frames > 0:
		return fmt.Sprintf("%s %d/%d", phase, e.Frame, e.Frames)
	case e.Frame > 0:
		return fmt.Sprintf("%s %d", phase, e.Frame)
	}
	return phase
}

// phasePercent returns phaseCount with the percentage, for lines without a bar.
func phasePercent(phase string, e lipstream.Event) string {
	s := phaseCount(phase, e)
	if e.Frames > 0 {
		s += fmt.Sprintf(" (%d%%)", e.Frame*100/e.Frames)
	}
	return s
}

// facts returns the figures beside the count, the most important first: on a narrow
// terminal the last ones are dropped.
func facts(e lipstream.Event) []string {
	var f []string
	if e.Steps > 0 && e.Phase == lipstream.PhaseFrames {
		f = append(f, fmt.Sprintf("step %d/%d", e.Step, e.Steps))
	}
	if e.FPS > 0 {
		f = append(f, fmt.Sprintf("%.1f fps", e.FPS))
	}
	switch {
	case e.ETA > 0:
		// Round up, so that the last second does not show as 0:00.
		f = append(f, "ETA "+clock(e.ETA+time.Second-1))
	case e.Elapsed > 0:
		f = append(f, clock(e.Elapsed))
	}
	if e.MemoryNow > 0 {
		f = append(f, memory.Size(e.MemoryNow))
	}
	if e.MemoryPeak > 0 {
		f = append(f, "peak "+memory.Size(e.MemoryPeak))
	}
	if e.NoFace > 0 {
		f = append(f, fmt.Sprintf("%d without a face", e.NoFace))
	}
	return f
}

// clock formats a duration in whole seconds as 0:07, 12:34 or 1:02:03.
func clock(d time.Duration) string {
	s := int64(max(d, 0) / time.Second)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}
