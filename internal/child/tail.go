package child

import (
	"bytes"
	"slices"
	"strings"
	"sync"
)

const (
	tailLines = 20
	tailWidth = 500 // bytes of a line
)

// tail is an io.Writer that keeps the last lines written to it, in bounded
// memory.
type tail struct {
	mu   sync.Mutex
	ring []string
	part []byte // of the line that has no end yet
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		// Lines of progress end with \r.
		i := bytes.IndexAny(p, "\r\n")
		line := p
		if i >= 0 {
			line = p[:i]
		}
		t.part = append(t.part, line[:min(len(line), max(0, tailWidth-len(t.part)))]...)
		if i < 0 {
			break
		}
		t.flush()
		p = p[i+1:]
	}
	return n, nil
}

func (t *tail) flush() {
	line := strings.TrimSpace(strings.ToValidUTF8(string(t.part), "?"))
	t.part = t.part[:0]
	// A program can print the same line a thousand times.
	if n := len(t.ring); line == "" || n > 0 && t.ring[n-1] == line {
		return
	}
	if len(t.ring) == tailLines {
		t.ring = slices.Delete(t.ring, 0, 1)
	}
	t.ring = append(t.ring, line)
}

func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flush()
	return slices.Clone(t.ring)
}
