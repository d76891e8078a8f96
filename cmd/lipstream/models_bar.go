package main

import (
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"

	"github.com/lipstream/lipstream/internal/memory"
)

// byteBar shows how far bytes have come, on standard error: on a terminal one
// line that is redrawn, else a line every few seconds.
type byteBar struct {
	bar
	terminal bool

	mu    sync.Mutex
	what  string
	began time.Time // of what
	start int64     // done then: a resumed download does not count as speed
}

func newByteBar(c *console) *byteBar {
	b := &byteBar{terminal: isTerminal(c.Err)}
	b.bar = bar{out: c.Err, width: func() int { return terminalWidth(c.Err) }, color: useColor(c.Err), now: time.Now}
	return b
}

// show takes the count of what is under way.
func (b *byteBar) show(what string, done, total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if what != b.what {
		b.what, b.began, b.start, b.last = what, now, done, now
	}
	interval := lineInterval
	if b.terminal {
		interval = barInterval
	}
	if now.Sub(b.last) < interval {
		return
	}
	b.last = now
	text, figures := b.text(done, total, now.Sub(b.began))
	if !b.terminal {
		b.write(fmt.Sprintf("%s (%d%%)%s\n", text, done*100/max(total, 1), strings.Join(append([]string{""}, figures...), ", ")))
		return
	}
	b.redraw(text, figures, done, total)
}

// text is the name and the count, with the figures beside them.
func (b *byteBar) text(done, total int64, elapsed time.Duration) (text string, figures []string) {
	text = fmt.Sprintf("%s %s/%s", oneLine(b.what, 40), memory.Size(done), memory.Size(total))
	if speed := float64(done-b.start) / elapsed.Seconds(); speed >= 1 {
		left := time.Duration(float64(total-done)/speed*float64(time.Second)) + time.Second - 1
		figures = []string{memory.Size(int64(speed)) + "/s", "ETA " + clock(left)}
	}
	return text, figures
}

// redraw draws the line for the terminal's width now, as bar.line does for
// frames.
func (b *byteBar) redraw(text string, figures []string, done, total int64) {
	room := b.width() - 1
	line := fit(text, figures, room-barExtra-barMin)
	columns := utf8.RuneCountInString(line)
	if w := min(barMax, room-barExtra-columns); w >= barMin && total > 0 {
		p := progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(nowhere{}), progressbar.OptionSetWidth(w),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false),
			progressbar.OptionShowDescriptionAtLineEnd(), progressbar.OptionSetTheme(b.theme()),
			progressbar.OptionEnableColorCodes(b.color))
		_ = p.Set64(min(max(done, 0), total)) // only formats
		p.Describe(line)
		line, columns = strings.TrimLeft(p.String(), "\r"), w+barExtra+columns
	}
	pad := strings.Repeat(" ", max(0, b.shown-columns))
	b.shown = columns
	b.write("\r" + line + pad)
}

// nowhere takes what progressbar would print itself.
type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

// say writes a line that stays.
func (b *byteBar) say(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.write(b.erase() + oneLine(text, maxErrorLine) + "\n")
}

// clear takes the line away.
func (b *byteBar) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.write(b.erase())
	b.what = ""
}

func (b *byteBar) close() { b.clear() }
