package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/memory"
)

// reporter shows the events of a job. It is safe for concurrent use. Close must be
// called before anything else is written to the terminal, such as an error: it
// erases the progress bar. Events after Close are dropped.
type reporter interface {
	lipstream.Observer
	// Close returns the first error of writing JSON. Errors of writing text are
	// ignored. It may be called more than once.
	Close() error
}

// reporterKind is a kind of reporter.
type reporterKind int

const (
	quietReporter reporterKind = iota // nothing
	barReporter                       // one line, redrawn in place
	linesReporter                     // a line every few seconds, for logs
	jsonReporter                      // every event as a line of JSON
)

// chooseReporter returns the kind of reporter for a command's flags, and its writer:
// standard output for JSON, standard error otherwise. JSON takes precedence over
// quiet.
func chooseReporter(c *console, asJSON, quiet bool) (reporterKind, io.Writer) {
	switch {
	case asJSON:
		return jsonReporter, c.Out
	case quiet:
		return quietReporter, c.Err
	case isTerminal(c.Err):
		return barReporter, c.Err
	}
	return linesReporter, c.Err
}

// reporterOptions configures newReporter. Commands set only Lost; tests set the rest.
type reporterOptions struct {
	Width func() int       // returns the columns of the terminal; nil asks the terminal
	Color *bool            // nil asks the terminal and NO_COLOR
	Now   func() time.Time // nil is time.Now
	Lost  func()           // called if JSON events cannot be written; may be nil
}

// newReporter returns a reporter that writes to out.
func newReporter(kind reporterKind, out io.Writer, o reporterOptions) reporter {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Width == nil {
		o.Width = func() int { return terminalWidth(out) }
	}
	if o.Color == nil {
		o.Color = new(useColor(out))
	}
	switch kind {
	case barReporter:
		return &bar{out: out, width: o.Width, color: *o.Color, now: o.Now}
	case linesReporter:
		return &lines{out: out, now: o.Now}
	case jsonReporter:
		return &jsonLines{enc: newEncoder(out), lost: o.Lost}
	}
	return quiet{}
}

// quiet shows nothing.
type quiet struct{}

func (quiet) Observe(lipstream.Event) {}
func (quiet) Close() error            { return nil }

// jsonLines writes every event as one line of JSON.
type jsonLines struct {
	mu     sync.Mutex
	enc    *json.Encoder
	lost   func() // called once, after the first error; may be nil
	err    error
	closed bool
}

func newEncoder(w io.Writer) *json.Encoder {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // paths and messages stay readable
	return enc
}

// Observe writes e. After an error it writes nothing more, because half a line may
// have been written.
func (j *jsonLines) Observe(e lipstream.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil && !j.closed {
		j.err = j.enc.Encode(e)
		if j.err != nil && j.lost != nil {
			j.lost()
		}
	}
}

func (j *jsonLines) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	return j.err
}

// lineInterval is the time between progress lines within a phase.
const lineInterval = 5 * time.Second

// lines writes plain lines, for logs and pipes.
type lines struct {
	mu     sync.Mutex
	out    io.Writer
	now    func() time.Time
	phase  string
	last   time.Time // when a progress line was last written
	closed bool
}

func (l *lines) Observe(e lipstream.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if text := notice(e); text != "" {
		l.print(text)
		return
	}
	if e.Type == lipstream.EventError {
		return // printError prints it
	}
	now, changed := l.now(), e.Phase != "" && e.Phase != l.phase
	if !changed && (e.Type != lipstream.EventProgress || now.Sub(l.last) < lineInterval) {
		return
	}
	if e.Phase != "" {
		l.phase = e.Phase
	}
	l.last = now
	l.print(strings.Join(append([]string{phasePercent(l.phase, e)}, facts(e)...), ", "))
}

func (l *lines) print(text string) { _, _ = fmt.Fprintln(l.out, text) }

func (l *lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return nil
}

// notice returns the permanent line for an event, or "".
func notice(e lipstream.Event) string {
	switch e.Type {
	case lipstream.EventWarning:
		return "warning: " + oneLine(e.Message, maxErrorLine)
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
