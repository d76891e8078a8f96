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
	barInterval = 100 * time.Millisecond // redrawing more often only flickers
	barMax      = 40                     // columns of the bar itself
	barMin      = 10                     // with less, figures are dropped instead
	// barExtra is what progressbar puts around bar and figures:
	// "  42% |", "|  " and a final blank.
	barExtra = 11
)

// bar redraws one line of a terminal. The line is formatted by progressbar and
// written here, in one Write for each redraw: progressbar itself clears the
// line and writes it again, which flickers, and cannot change its width when
// the terminal's does.
type bar struct {
	out   io.Writer
	width func() int
	color bool
	now   func() time.Time

	mu     sync.Mutex
	latest lipstream.Event
	shown  int // columns on the terminal now
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
		b.draw(true) // the line was taken away; the event brings no new figures
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

// draw shows the latest event; without force not more often than barInterval.
func (b *bar) draw(force bool) {
	now := b.now()
	if b.latest.Phase == "" || !force && now.Sub(b.last) < barInterval {
		return
	}
	b.last = now
	b.redraw(b.line(b.latest))
}

// redraw puts a line of so many columns in the place of the one before.
func (b *bar) redraw(line string, columns int) {
	// Blanks over what a longer line before has left, instead of an escape
	// sequence: every terminal knows them.
	pad := strings.Repeat(" ", max(0, b.shown-columns))
	b.shown = columns
	b.write("\r" + line + pad)
}

// line formats e for the terminal's width now, and gives its columns.
func (b *bar) line(e lipstream.Event) (string, int) {
	figures := facts(e)
	if line, columns, ok := b.gauge(stageCount(e.Phase, e), figures, e.Frame, e.Frames); ok {
		return line, columns
	}
	text := fit(stagePercent(e.Phase, e), figures, b.room())
	return text, utf8.RuneCountInString(text)
}

// room is how many columns a line may have. The last one of the terminal stays
// free: writing into it wraps on some terminals.
func (b *bar) room() int { return b.width() - 1 }

// gauge formats a line with a bar, the text and as many figures as there is
// room for, and gives its columns. It reports false where there is nothing to
// measure against, and on a terminal too narrow for any bar.
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
	// Both only format, into p.String(); io.Discard takes no errors.
	_ = p.Set64(min(max(done, 0), total))
	p.Describe(text)
	return strings.TrimLeft(p.String(), "\r"), w + barExtra + utf8.RuneCountInString(text), true
}

// theme of the bar; progressbar's own markup for colours.
func (b *bar) theme() progressbar.Theme {
	t := progressbar.Theme{Saucer: "█", SaucerPadding: "░", BarStart: "|", BarEnd: "|"}
	if b.color {
		t.BarStart, t.BarEnd = "|[green]", "[reset]|"
	}
	return t
}

// fit joins head and as many figures as there is room for.
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

// erase is what takes the line off the terminal and leaves the cursor at its start.
func (b *bar) erase() string {
	if b.shown == 0 {
		return ""
	}
	s := "\r" + strings.Repeat(" ", b.shown) + "\r"
	b.shown = 0
	return s
}

// write sends s at once. Output for people is not worth failing a job for.
func (b *bar) write(s string) {
	if s != "" {
		_, _ = io.WriteString(b.out, s)
	}
}
