package main

import (
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/lipstream/lipstream/internal/memory"
)

// byteBar shows the progress of a transfer on standard error: on a terminal as one
// line that is redrawn, otherwise as a line every few seconds.
type byteBar struct {
	bar
	terminal bool

	mu    sync.Mutex
	what  string
	began time.Time // when what began
	start int64     // bytes done by then, which do not count for the speed
}

func newByteBar(c *console) *byteBar {
	b := &byteBar{terminal: isTerminal(c.Err)}
	b.bar = bar{out: c.Err, width: func() int { return terminalWidth(c.Err) }, color: useColor(c.Err), now: time.Now}
	return b
}

// show updates the count of bytes of what.
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
	line, columns, ok := b.gauge(text, figures, done, total)
	if !ok {
		line = fit(text, figures, b.room()-barExtra-barMin)
		columns = utf8.RuneCountInString(line)
	}
	b.redraw(line, columns)
}

// text returns the name with the count, and speed and ETA.
func (b *byteBar) text(done, total int64, elapsed time.Duration) (text string, figures []string) {
	text = fmt.Sprintf("%s %s/%s", oneLine(b.what, 40), memory.Size(done), memory.Size(total))
	if speed := float64(done-b.start) / elapsed.Seconds(); speed >= 1 {
		left := time.Duration(float64(total-done)/speed*float64(time.Second)) + time.Second - 1
		figures = []string{memory.Size(int64(speed)) + "/s", "ETA " + clock(left)}
	}
	return text, figures
}

// say writes a permanent line.
func (b *byteBar) say(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.write(b.erase() + oneLine(text, maxErrorLine) + "\n")
}

// clear erases the line.
func (b *byteBar) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.write(b.erase())
	b.what = ""
}
