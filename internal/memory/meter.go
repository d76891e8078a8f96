package memory

import (
	"context"
	"slices"
	"sync"
	"time"
)

// meterInterval is how often a Meter reads. A chunk of frames takes longer, so
// that plans can follow the readings.
const meterInterval = 250 * time.Millisecond

// Sample is a reading and its time.
type Sample struct {
	Time  time.Time
	Usage Usage
}

// Meter measures the memory of a process tree and keeps its peak. Between Start
// and Stop it reads every 250 ms in its own goroutine. Its methods are safe for
// concurrent use.
//
// On Linux the kernel keeps the highest resident set of each process, so that
// peaks between two readings count too. The peak is then never too low for
// processes that live long enough to be read once. It can be too high if several
// processes had their peaks at different times within 250 ms.
type Meter struct {
	read func() (Usage, int64, error)

	reading sync.Mutex // held while reading: there is one reader
	stop    context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	now     Usage
	peak    int64
	lap     int64 // the peak since the last Lap
	anon    int64 // the peak of the anonymous part
	history history[Sample]
}

// NewMeter returns a meter of the probe's process. It reads nothing before Start.
func NewMeter(p Probe) *Meter { return &Meter{read: p.newReader().read} }

// Start takes a first reading and keeps reading until Stop or the end of ctx. A
// meter starts once.
func (m *Meter) Start(ctx context.Context) {
	ctx, m.stop = context.WithCancel(ctx)
	m.sample(false)
	m.running.Go(func() {
		t := time.NewTicker(meterInterval)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				m.sample(false)
			}
		}
	})
}

// Stop takes a last reading and returns when the goroutine of Start has ended. The
// figures stay available.
func (m *Meter) Stop() {
	m.stop()
	m.running.Wait()
	m.sample(false)
}

// Now returns the latest reading, at most 250 ms old while the meter runs.
func (m *Meter) Now() Usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Peak returns the most bytes that the tree has held since Start.
func (m *Meter) Peak() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.peak
}

// PeakAnonymous returns the most anonymous bytes of any reading since Start. The
// kernel keeps no peak of them, so peaks between two readings are missed.
func (m *Meter) PeakAnonymous() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.anon
}

// Lap takes a reading and returns it with the most bytes that the tree has held
// since the previous Lap, or since Start. If the reading fails, Lap returns the
// figures of the one before.
func (m *Meter) Lap() (now Usage, peak int64) {
	m.sample(true)
	m.mu.Lock()
	defer m.mu.Unlock()
	now, peak = m.now, m.lap
	m.lap = now.Total()
	return now, peak
}

// History returns readings from Start until now, oldest first and evenly spaced.
// The longer the meter runs, the farther apart they are: at most 1200 are kept.
func (m *Meter) History() []Sample {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.history.list)
}

// sample takes a reading. Readings in between, from Lap, stay out of the history,
// whose samples are evenly spaced.
func (m *Meter) sample(between bool) {
	m.reading.Lock()
	defer m.reading.Unlock()
	u, high, err := m.read()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil { // keep the reading before
		return
	}
	high = max(high, u.Total())
	m.now, m.peak, m.lap, m.anon = u, max(m.peak, high), max(m.lap, high), max(m.anon, u.Anonymous)
	if !between {
		m.history.add(Sample{time.Now(), u})
	}
}

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
