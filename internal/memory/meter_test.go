package memory

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// scripted makes meters whose readings a test decides.
type scripted struct {
	mu   sync.Mutex
	n    int
	read func(n int) (Usage, int64, error)
}

func (s *scripted) meter() *Meter {
	return &Meter{read: func() (Usage, int64, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.n++
		return s.read(s.n)
	}}
}

func (s *scripted) reads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := errors.New("no /proc")
		s := &scripted{read: func(n int) (Usage, int64, error) {
			if n == 4 {
				return Usage{}, 0, bad
			}
			u := Usage{Self: int64(n), Children: 10, Processes: 2}
			if n == 3 {
				return u, 500, nil // a spike before this reading
			}
			return u, u.Total(), nil
		}}
		m := s.meter()
		m.Start(context.Background())
		if m.Now().Total() != 11 || m.Peak() != 11 || s.reads() != 1 {
			t.Errorf("after Start: %+v, peak %d, %d readings", m.Now(), m.Peak(), s.reads())
		}
		time.Sleep(2*meterInterval + time.Millisecond)
		if m.Now().Self != 3 || m.Peak() != 500 {
			t.Errorf("after the spike: %+v, peak %d", m.Now(), m.Peak())
		}
		time.Sleep(meterInterval)
		if m.Now().Self != 3 || s.reads() != 4 {
			t.Errorf("after the failure: %+v, %d readings", m.Now(), s.reads())
		}
		m.Stop()
		if m.Now().Self != 5 || m.Peak() != 500 {
			t.Errorf("after Stop: %+v, peak %d", m.Now(), m.Peak())
		}
		time.Sleep(time.Minute)
		if s.reads() != 5 {
			t.Errorf("%d readings, the last after Stop", s.reads())
		}
		if h := m.History(); len(h) != 4 || h[1].Time.Sub(h[0].Time) != meterInterval {
			t.Errorf("history %+v", h)
		}
	})
}

// TestMeterLaps has a spike in the first lap and none in the second.
func TestMeterLaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{read: func(n int) (Usage, int64, error) {
			switch u := (Usage{Self: int64(100 + n), Anonymous: int64(n)}); n {
			case 2:
				u.Anonymous = 70
				return u, 900, nil
			case 6:
				return Usage{}, 0, errors.New("not now")
			default:
				return u, u.Total(), nil
			}
		}}
		m := s.meter()
		m.Start(t.Context())
		time.Sleep(meterInterval + 1)
		if now, peak := m.Lap(); now.Self != 103 || peak != 900 {
			t.Errorf("first lap: %+v, %d", now, peak)
		}
		time.Sleep(meterInterval)
		if now, peak := m.Lap(); now.Self != 105 || peak != 105 {
			t.Errorf("second lap: %+v, %d", now, peak)
		}
		if now, peak := m.Lap(); now.Self != 105 || peak != 105 || s.reads() != 6 {
			t.Errorf("lap that cannot be read: %+v, %d", now, peak)
		}
		m.Stop()
		if m.Peak() != 900 || m.PeakAnonymous() != 70 {
			t.Errorf("peak %d, anonymous %d", m.Peak(), m.PeakAnonymous())
		}
		if h := m.History(); len(h) != 4 || h[1].Usage.Anonymous != 70 || h[2].Usage.Self != 104 {
			t.Errorf("history %+v", h)
		}
	})
}

func TestMeterEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{read: func(n int) (Usage, int64, error) { return Usage{Self: int64(n)}, int64(n), nil }}
		m := s.meter()
		ctx, cancel := context.WithCancel(context.Background())
		m.Start(ctx)
		cancel()
		time.Sleep(time.Hour)
		if s.reads() != 1 {
			t.Errorf("%d readings", s.reads())
		}
		m.Stop()
		if m.Peak() != 2 {
			t.Errorf("peak %d", m.Peak())
		}
	})
}

func TestMeterHistoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{read: func(n int) (Usage, int64, error) { return Usage{Self: int64(n)}, 0, nil }}
		m := s.meter()
		begin := time.Now()
		m.Start(context.Background())
		time.Sleep(time.Hour)
		m.Stop()
		h := m.History()
		if len(h) > historySize || len(h) < historySize/2-1 {
			t.Errorf("%d samples", len(h))
		}
		if !h[0].Time.Equal(begin) || time.Since(h[len(h)-1].Time) > 10*time.Second {
			t.Errorf("from %v to %v", h[0].Time.Sub(begin), time.Since(h[len(h)-1].Time))
		}
		for i := 2; i < len(h); i++ {
			if d, e := h[i].Time.Sub(h[i-1].Time), h[1].Time.Sub(h[0].Time); d != e {
				t.Fatalf("samples %v apart, then %v", e, d)
			}
		}
	})
}

// TestMeterHere measures this process.
func TestMeterHere(t *testing.T) {
	m := NewMeter(Probe{})
	m.Start(t.Context())
	var wg sync.WaitGroup
	for range 4 { // the methods are safe for concurrent use
		wg.Go(func() {
			for range 100 {
				_, _, _ = m.Now(), m.Peak(), m.History()
				_ = m.PeakAnonymous()
				_, _ = m.Lap()
			}
		})
	}
	b := make([]byte, 96*mib)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	wg.Wait()
	m.Stop()
	if b[0] != 1 || m.Peak() < 96*mib { // b counts in the last reading
		t.Errorf("peak %s", Size(m.Peak()))
	}
	if runtime.GOOS == "linux" && (m.PeakAnonymous() < 96*mib || m.PeakAnonymous() > m.Peak()) {
		t.Errorf("anonymous peak %s of %s", Size(m.PeakAnonymous()), Size(m.Peak()))
	}
}
