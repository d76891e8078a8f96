package main

import (
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"

	"github.com/lipstream/lipstream"
)

const (
	barInterval = 100 * time.Millisecond // redrawing more often flickers
	barMax      = 40                     // columns of the bar itself
	barMin      = 10                     // with fewer, figures are dropped instead
	// barExtra counts the columns that progressbar adds around bar and figures:
	// "  42% |", "|  " and a final space.
	barExtra = 11
)

// bar redraws one line of a terminal. It uses progressbar only to format the line:
// progressbar would clear the line before each redraw, which flickers, and cannot
// follow the width of the terminal.
type bar struct {
	out   io.Writer
	width func() int
	color bool
	now   func() time.Time

	mu     sync.Mutex
	latest lipstream.Event
	shown  int // columns drawn on the terminal
	last   time.Time
	closed bool
}

func (b *bar) Observe(e lipstream.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	if text := notice(e); text != "" {
		if b.color && (e.Type == lipstream.EventWarning || e.Type == lipstream.EventAlert) {
			text = "\x1b[33m" + text + "\x1b[0m"
		}
		b.write(b.erase() + text + "\n")
	}
	switch e.Type {
	case lipstream.EventDone, lipstream.EventError:
		b.write(b.erase())
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
}

// Close erases the line.
func (b *bar) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		b.write(b.erase())
	}
	return nil
}

// draw shows the latest event, at most once every barInterval unless force is set.
func (b *bar) draw(force bool) {
	now := b.now()
	if b.latest.Phase == "" || !force && now.Sub(b.last) < barInterval {
		return
	}
	b.last = now
	b.redraw(b.line(b.latest))
}

// redraw replaces the line by one with this many columns.
func (b *bar) redraw(line string, columns int) {
	// Overwrite the rest of a longer line with spaces, which work on every
	// terminal, unlike an escape sequence.
	pad := strings.Repeat(" ", max(0, b.shown-columns))
	b.shown = columns
	b.write("\r" + line + pad)
}

// line formats e for the current width of the terminal, and returns its columns.
func (b *bar) line(e lipstream.Event) (string, int) {
	figures := facts(e)
	if line, columns, ok := b.gauge(phaseCount(e.Phase, e), figures, e.Frame, e.Frames); ok {
		return line, columns
	}
	text := fit(phasePercent(e.Phase, e), figures, b.room())
	return text, utf8.RuneCountInString(text)
}

// room returns the columns that a line may have. The last column stays free, because
// some terminals wrap after it.
func (b *bar) room() int { return b.width() - 1 }

// gauge formats a line with a bar, the text and as many figures as fit, and returns
// its columns. It returns false if total is unknown or the terminal is too narrow for
// a bar.
func (b *bar) gauge(text string, figures []string, done, total int64) (line string, columns int, ok bool) {
	room, w := b.room(), 0
	text = fit(text, figures, room-barExtra-barMin)
	if total > 0 {
		w = min(barMax, room-barExtra-utf8.RuneCountInString(text))
	}
	if w < barMin {
		return "", 0, false
	}
	p := progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(io.Discard),
		progressbar.OptionSetWidth(w),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionShowDescriptionAtLineEnd(),
		progressbar.OptionSetTheme(b.theme()),
		progressbar.OptionEnableColorCodes(b.color),
	)
	// The error would be that of io.Discard.
	_ = p.Set64(min(max(done, 0), total))
	p.Describe(text)
	return strings.TrimLeft(p.String(), "\r"), w + barExtra + utf8.RuneCountInString(text), true
}

// theme returns the theme of the bar, with progressbar's markup for colours.
func (b *bar) theme() progressbar.Theme {
	t := progressbar.Theme{Saucer: "█", SaucerPadding: "░", BarStart: "|", BarEnd: "|"}
	if b.color {
		t.BarStart, t.BarEnd = "|[green]", "[reset]|"
	}
	return t
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
