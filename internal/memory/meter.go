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

	life   sync.Mutex // held by Start and Stop, so that they do not overlap
	one    sync.Mutex // held while reading: there is one reader
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	now     Usage
	peak    int64
	lap     int64 // the peak since the last Lap
	anon    int64 // the peak of the anonymous part
	history history[Sample]
}

// NewMeter returns a meter of the probe's process. It reads nothing before Start.
func NewMeter(p Probe) *Meter {
	r := p.newReader()
	return &Meter{read: r.read}
}

// Start takes a first reading and keeps reading until Stop or the end of ctx. On
// a running meter it does nothing. A stopped meter continues with its peak and
// its history.
func (m *Meter) Start(ctx context.Context) {
	m.life.Lock()
	defer m.life.Unlock()
	if m.done != nil {
		select {
		case <-m.done: // ended with its ctx
		default:
			return
		}
	}
	if m.cancel != nil {
		m.cancel()
	}
	ctx, m.cancel = context.WithCancel(ctx)
	done := make(chan struct{})
	m.done = done
	m.sample(false)
	go func() {
		defer close(done)
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
	}()
}

// Stop takes a last reading and returns when the goroutine has ended. The
// figures stay available. On a meter that is not running it does nothing.
func (m *Meter) Stop() {
	m.life.Lock()
	defer m.life.Unlock()
	if m.done == nil {
		return
	}
	m.cancel()
	<-m.done
	m.done = nil
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
	m.one.Lock()
	defer m.one.Unlock()
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
