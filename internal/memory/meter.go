package memory

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// meterInterval is how often a Meter reads. A chunk of frames takes
	// longer than that, so that plans can follow what is seen.
	meterInterval = 250 * time.Millisecond
	// historySize bounds the history: at 64 bytes some 80 KiB, 5 minutes at
	// full resolution.
	historySize = 1200
)

// Sample is a reading at a time.
type Sample struct {
	Time  time.Time
	Usage Usage
}

// Meter watches what a process tree holds, and keeps its peak. It reads every
// 250 ms in a goroutine of its own between Start and Stop. Its methods may be
// called from any goroutine.
//
// What comes and goes between two readings is not missed where the kernel
// keeps each process's highest resident set (Linux): the peak is then at most
// 250 ms of coincidence too high, never too low, for processes that live long
// enough to be read once.
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
	err     error
	history []Sample
	stride  int // readings per sample of the history
	count   int // readings since the start
}

// NewMeter makes a meter of the probe's process. It reads nothing before Start.
func NewMeter(p Probe) *Meter {
	r := p.newReader()
	return &Meter{read: r.read, stride: 1}
}

// Start takes a first reading, so that Now and Peak answer at once, and begins
// to watch until Stop or the end of ctx. On a running meter it does nothing; on
// a stopped one it goes on, with the peak and the history so far.
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
// figures stay. On a meter that does not run it does nothing.
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

// Now is the latest reading, at most 250 ms old while the meter runs.
func (m *Meter) Now() Usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Peak is the most bytes that the tree has held since Start.
func (m *Meter) Peak() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.peak
}

// PeakAnonymous is the most anonymous bytes that a reading has seen in the tree
// since Start. The kernel keeps no highest count of them: what came and went
// between two readings, 250 ms apart, is missed.
func (m *Meter) PeakAnonymous() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.anon
}

// Lap takes a reading and gives it, with the most bytes that the tree has held
// since the Lap before, or since Start. When it cannot be read, the figures are
// those of the latest reading; see Err.
func (m *Meter) Lap() (now Usage, peak int64) {
	m.sample(true)
	m.mu.Lock()
	defer m.mu.Unlock()
	now, peak = m.now, m.lap
	m.lap = now.Total()
	return now, peak
}

// Err is the error of the latest reading, nil when it succeeded. After a
// failure Now keeps what was read before.
func (m *Meter) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// History gives readings from Start until now, oldest first, evenly spaced:
// the longer the meter runs, the farther apart they are, so that at most 1200
// are kept however long the job is.
func (m *Meter) History() []Sample {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.history)
}

// sample takes a reading. Those in between, from Lap, are not for the history,
// whose samples are evenly spaced.
func (m *Meter) sample(between bool) {
	m.one.Lock()
	defer m.one.Unlock()
	u, high, err := m.read()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
	if err != nil {
		return
	}
	high = max(high, u.Total())
	m.now, m.peak, m.lap, m.anon = u, max(m.peak, high), max(m.lap, high), max(m.anon, u.Anonymous)
	if between {
		return
	}
	if m.count%m.stride == 0 {
		if len(m.history) == historySize {
			m.history = everySecond(m.history)
			m.stride *= 2
		}
		m.history = append(m.history, Sample{time.Now(), u})
	}
	m.count++
}

// everySecond keeps the samples at even places, in place.
func everySecond(h []Sample) []Sample {
	for i := range len(h) / 2 {
		h[i] = h[2*i]
	}
	return h[:len(h)/2]
}
