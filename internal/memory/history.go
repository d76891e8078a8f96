package memory

import "slices"

// historySize bounds a history: 5 minutes of a Meter at full resolution.
const historySize = 1200

// history keeps values from the first to the latest, evenly spaced. When it is
// full, it drops every second value, and from then on keeps half as many.
type history[T any] struct {
	list     []T
	count    int // values added
	halvings int
}

func (h *history[T]) add(v T) {
	if h.count%(1<<h.halvings) == 0 {
		if len(h.list) == historySize {
			for i := range historySize / 2 {
				h.list[i] = h.list[2*i]
			}
			h.list = slices.Delete(h.list, historySize/2, historySize)
			h.halvings++
		}
		h.list = append(h.list, v)
	}
	h.count++
}
