package main

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/memory"
)

const (
	barInterval = 100 * time.Millisecond // redrawing more often flickers
	barMax      = 40                     // columns of the bar itself
	barMin      = 10                     // with fewer, figures are dropped instead
	// barExtra counts the columns around the bar and the text: "  42% |", "|  " and
	// a final space.
	barExtra = 11
)

// bar redraws one line of a terminal. It does not use a library, because those
// clear the line before each redraw, which flickers, or do not follow the width of
// the terminal.
type bar struct {
	out   io.Writer
	width func() int
	color bool
	now   func() time.Time

	latest lipstream.Event
	shown  int // columns drawn on the terminal
	last   time.Time
}

func newBar(out io.Writer) *bar {
	return &bar{out: out, width: func() int { return terminalWidth(out) }, color: useColor(out), now: time.Now}
}

// show shows an event of a job. It never fails: the output is informational.
func (b *bar) show(e lipstream.Event) error {
	if text := notice(e); text != "" {
		if b.color && (e.Type == lipstream.EventWarning || e.Type == lipstream.EventAlert) {
			text = "\x1b[33m" + text + "\x1b[0m"
		}
		b.say(text)
	}
	switch e.Type {
	case lipstream.EventDone, lipstream.EventError:
		b.clear()
		b.latest = lipstream.Event{}
	case lipstream.EventWarning, lipstream.EventAlert, lipstream.EventPlan:
		b.draw(true) // the line was erased; the event has no new figures
	default:
		changed := e.Phase != b.latest.Phase && e.Phase != ""
		if e.Phase == "" {
			e.Phase = b.latest.Phase
		}
		b.latest = e
		b.draw(changed || e.Frames > 0 && e.Frame >= e.Frames)
	}
	return nil
}

// draw shows the latest event, at most once every barInterval unless force is set.
func (b *bar) draw(force bool) {
	e := b.latest
	if e.Phase == "" || !b.due(barInterval) && !force {
		return
	}
	b.last = b.now()
	figures := facts(e)
	gauge := b.gauge(phaseCount(e.Phase, e), figures, e.Frame, e.Frames)
	b.redraw(cmp.Or(gauge, fit(phasePercent(e.Phase, e), figures, b.room())))
}

// due reports whether this time has passed since the last redraw.
func (b *bar) due(interval time.Duration) bool { return b.now().Sub(b.last) >= interval }

// room returns the columns that a line may have. The last column stays free, because
// some terminals wrap after it.
func (b *bar) room() int { return b.width() - 1 }

// gauge formats a line with a bar, the text and as many figures as fit. It returns ""
// if total is unknown or the terminal is too narrow for a bar.
func (b *bar) gauge(text string, figures []string, done, total int64) string {
	room := b.room() - barExtra
	text = fit(text, figures, room-barMin)
	width := min(barMax, room-utf8.RuneCountInString(text))
	if total <= 0 || width < barMin {
		return ""
	}
	percent := int(100 * min(max(done, 0), total) / total)
	full := width * percent / 100
	return fmt.Sprintf("%4d%% |%s%s|  %s ", percent, strings.Repeat("█", full), strings.Repeat("░", width-full), text)
}

// fit joins head and as many figures as fit into room columns.
func fit(head string, figures []string, room int) string {
	for _, f := range figures {
		longer := head + "  " + f
		if utf8.RuneCountInString(longer) > room {
			break
		}
		head = longer
	}
	if r := []rune(head); len(r) > room {
		head = string(r[:max(0, room)])
	}
	return head
}

var blocks = regexp.MustCompile("[█░]+")

// redraw replaces the line.
func (b *bar) redraw(line string) {
	columns := utf8.RuneCountInString(line)
	// Overwrite the rest of a longer line with spaces, which work on every
	// terminal, unlike an escape sequence.
	pad := strings.Repeat(" ", max(0, b.shown-columns))
	b.shown = columns
	if b.color {
		line = blocks.ReplaceAllString(line, "\x1b[32m$0\x1b[0m")
	}
	b.write("\r" + line + pad)
}

// say writes a permanent line.
func (b *bar) say(text string) { b.write(b.erase() + text + "\n") }

// clear erases the line.
func (b *bar) clear() { b.write(b.erase()) }

// erase returns the text that erases the line and moves the cursor to its start.
func (b *bar) erase() string {
	if b.shown == 0 {
		return ""
	}
	s := "\r" + strings.Repeat(" ", b.shown) + "\r"
	b.shown = 0
	return s
}

// write writes s in one call. An error does not matter: the output is informational.
func (b *bar) write(s string) {
	if s != "" {
		_, _ = io.WriteString(b.out, s)
	}
}

// byteBar shows the progress of a transfer on standard error: on a terminal as one
// line that is redrawn, otherwise as a line every few seconds. It is safe for
// concurrent use.
type byteBar struct {
	*bar
	interval time.Duration
	redraws  bool

	mu    sync.Mutex
	what  string
	began time.Time // when what began
	start int64     // bytes done by then, which do not count for the speed
}

func newByteBar(c *console) *byteBar {
	if isTerminal(c.Err) {
		return &byteBar{bar: newBar(c.Err), interval: barInterval, redraws: true}
	}
	return &byteBar{bar: newBar(c.Err), interval: lineInterval}
}

// show updates the count of bytes of what.
func (b *byteBar) show(what string, done, total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if what != b.what {
		b.what, b.began, b.start, b.last = what, now, done, now
	}
	if !b.due(b.interval) {
		return
	}
	b.last = now
	text := fmt.Sprintf("%s %s/%s", oneLine(b.what, 40), memory.Size(done), memory.Size(total))
	var figures []string
	if speed := float64(done-b.start) / now.Sub(b.began).Seconds(); speed >= 1 {
		left := time.Duration(float64(total-done)/speed*float64(time.Second)) + time.Second - 1
		figures = []string{memory.Size(int64(speed)) + "/s", "ETA " + clock(left)}
	}
	if b.redraws {
		b.redraw(cmp.Or(b.gauge(text, figures, done, total), fit(text, figures, b.room())))
		return
	}
	text = fmt.Sprintf("%s (%d%%)", text, done*100/max(total, 1))
	b.bar.say(strings.Join(append([]string{text}, figures...), ", "))
}

// say writes a permanent line.
func (b *byteBar) say(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bar.say(oneLine(text, maxErrorLine))
}

// clear erases the line.
func (b *byteBar) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bar.clear()
	b.what = ""
}
