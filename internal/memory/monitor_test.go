package memory

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// machine is the files of a host of 1000 kB with 400 kB in use, in a group of
// 2048 of 4096 B of which 512 are caches.
func machine() map[string]string {
	return map[string]string{
		"proc/meminfo":             "MemTotal: 1000 kB\nMemAvailable: 600 kB\n",
		"proc/stat":                "cpu 100 0 100 700 100 0 0 0 50 0\ncpu0 1 2 3\n",
		"proc/self/cgroup":         "0::/\n",
		"sys/fs/cgroup/memory.max": "4096", "sys/fs/cgroup/memory.current": "2048",
		"sys/fs/cgroup/memory.stat": "inactive_file 512\n",
	}
}

// steps starts a monitor that takes a reading at every call of step: its last source waits
// for it.
func steps(t *testing.T, p Probe, o MonitorOptions) (m *Monitor, step func() Reading) {
	t.Helper()
	o.Interval = MinInterval
	next, readings := make(chan struct{}), make(chan Reading)
	ctx, cancel := context.WithCancel(t.Context())
	o.Sources = append(o.Sources, Source{"gate", func() (int64, int64, error) {
		select {
		case <-next:
		case <-ctx.Done():
		}
		return 0, 0, nil
	}})
	o.OnReading = func(r Reading) {
		select {
		case readings <- r:
		case <-ctx.Done():
		}
	}
	m = NewMonitor(p, o)
	m.Start(ctx)
	t.Cleanup(func() { cancel(); m.Stop(); <-m.done })
	return m, func() Reading {
		next <- struct{}{}
		return <-readings
	}
}

func TestMonitorReads(t *testing.T) {
	linuxOnly(t)
	files := join(machine(), map[string]string{
		"sys/class/drm/card0/device/vendor":              "0x1002\n",
		"sys/class/drm/card0/device/mem_info_vram_total": "1000\n",
		"sys/class/drm/card0/device/mem_info_vram_used":  "700\n",
		"sys/class/drm/card1/device/vendor":              "0x8086\n", // uses the host's memory
	})
	root := fakeRoot(t, files)
	var alerts []Alert
	m, step := steps(t, Probe{Root: root, NVML: buildStub(t)}, MonitorOptions{
		Sources: []Source{
			{"budget", func() (int64, int64, error) { return 80, 100, nil }},
			{"broken", func() (int64, int64, error) { return 0, 0, errors.New("no such luck") }},
		},
		OnAlert: func(a Alert) { alerts = append(alerts, a) },
	})
	r := step()
	if r.CPU != -1 {
		t.Errorf("CPU %g at the first reading", r.CPU)
	}
	writeFile(t, filepath.Join(root, "proc/stat"), "cpu 130 0 100 760 110 0 0 0 50 0\n")
	r = step()
	if math.Abs(r.CPU-0.3) > 1e-9 {
		t.Errorf("CPU %g", r.CPU)
	}
	want := []Watched{
		{"host", 400 << 10, 1000 << 10, Normal},
		{"cgroup", 2048 - 512, 4096, Normal},
		{"nvidia:0", 4190917632, 34190917632, Normal},
		{"nvidia:2", 4190917632, 34190917632, Normal},
		{"amd:0", 700, 1000, Warning},
		{"budget", 80, 100, Critical},
		{"gate", 0, 0, Normal},
	}
	if d := cmp.Diff(want, r.Watched); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for _, text := range []string{"GPUs: ", "GPU is lost", "broken: no such luck"} {
		if r.Err == nil || !strings.Contains(r.Err.Error(), text) {
			t.Errorf("no %q in %v", text, r.Err)
		}
	}
	if len(r.GPUs) != 5 || r.GPUs[0].Temperature != 71 {
		t.Errorf("%+v", r.GPUs)
	}
	if d := cmp.Diff(r.Watched, m.Now().Watched); d != "" || len(m.History()) != 2 {
		t.Errorf("now %s, history %d", d, len(m.History()))
	}
	if len(alerts) != 2 || alerts[0].Source != "amd:0" || alerts[1].Source != "budget" || alerts[1].Limit != 75 {
		t.Errorf("alerts %+v", alerts)
	}
	if m.Level("budget") != Critical || m.Level("amd:0") != Warning || m.Level("nobody") != Normal {
		t.Errorf("levels %v", m.levels)
	}
}

func TestMonitorAlerts(t *testing.T) {
	synctest.Test(t, testMonitorAlerts)
}

func testMonitorAlerts(t *testing.T) {
	type use struct {
		used int64
		err  error
	}
	uses, readings := make(chan use), make(chan struct{})
	var got string
	ctx, cancel := context.WithCancel(t.Context())
	m := NewMonitor(Probe{Root: t.TempDir()}, MonitorOptions{
		Interval: MinInterval,
		Warning:  Threshold{Fraction: 0.5}, Critical: Threshold{Bytes: 900},
		Sources: []Source{{"job", func() (int64, int64, error) {
			select {
			case u := <-uses:
				return u.used, 1000, u.err
			case <-ctx.Done():
				return 0, 0, ctx.Err()
			}
		}}},
		OnAlert: func(a Alert) {
			if a.Source == "job" { // the thresholds are below any host's memory
				got += a.Was.String() + "-" + a.Level.String() + "@" + Size(a.Limit)
			}
		},
		OnReading: func(Reading) { readings <- struct{}{} },
	})
	m.Start(ctx)
	lost := errors.New("lost")
	for i, s := range []struct {
		use
		alert string
		level Level
	}{
		{use{499, nil}, "", Normal},
		{use{500, nil}, "normal-warning@500 B", Warning},
		{use{481, nil}, "", Warning}, // above 500 less 2 % of 1000
		{use{900, nil}, "warning-critical@900 B", Critical},
		{use{0, lost}, "", Critical},
		{use{881, nil}, "", Critical},
		{use{880, nil}, "critical-warning@900 B", Warning},
		{use{480, nil}, "warning-normal@500 B", Normal},
		{use{950, nil}, "normal-critical@900 B", Critical},
		{use{10, nil}, "critical-normal@900 B", Normal},
	} {
		got = "" // the monitor waits for the use
		uses <- s.use
		<-readings
		if got != s.alert || m.Level("job") != s.level {
			t.Errorf("step %d, %d used: alert %q, level %v; want %q, %v", i, s.used, got, m.Level("job"), s.alert, s.level)
		}
	}
	cancel()
	m.Stop()
	<-m.done
}

func TestMonitorStopsWhileReadHangs(t *testing.T) {
	hang, in := make(chan struct{}), make(chan struct{})
	var published atomic.Int32
	m := NewMonitor(Probe{Root: t.TempDir()}, MonitorOptions{
		Sources: []Source{{"driver", func() (int64, int64, error) {
			close(in)
			<-hang
			return 100, 100, nil
		}}},
		OnAlert:   func(Alert) { published.Add(1) },
		OnReading: func(Reading) { published.Add(1) },
	})
	m.Start(t.Context())
	<-in
	m.Stop() // would never return if it waited for the read
	m.Stop()
	close(hang)
	<-m.done // the goroutine ends after the one reading
	if published.Load() != 0 || m.Level("driver") != Normal || !m.Now().Time.IsZero() {
		t.Errorf("a reading that came after Stop was published: %d, %+v", published.Load(), m.Now())
	}
}

func TestMonitorEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan struct{}, 1)
	m := NewMonitor(Probe{Root: t.TempDir()}, MonitorOptions{Interval: time.Hour, OnReading: func(Reading) { first <- struct{}{} }})
	m.Start(ctx)
	<-first
	cancel()
	<-m.done
	m.Stop()
}

func TestMonitorHistoryIsBounded(t *testing.T) {
	m := NewMonitor(Probe{}, MonitorOptions{})
	begin := time.Unix(0, 0)
	const n = 10*historySize + 7
	for i := range n {
		m.keep(Reading{Time: begin.Add(time.Duration(i) * time.Second)})
		if len(m.history.list) > historySize {
			t.Fatalf("%d kept", len(m.history.list))
		}
	}
	h := m.History()
	if len(h) < historySize/2 || !h[0].Time.Equal(begin) {
		t.Fatalf("%d kept, from %v", len(h), h[0].Time)
	}
	gap := h[1].Time.Sub(h[0].Time)
	for i := 1; i < len(h); i++ {
		if h[i].Time.Sub(h[i-1].Time) != gap {
			t.Fatalf("uneven at %d", i)
		}
	}
	if last := h[len(h)-1].Time; m.Now().Time.Sub(last) >= gap {
		t.Errorf("the history ends at %v, now is %v", last, m.Now().Time)
	}
}

func TestMonitorInterval(t *testing.T) {
	for given, want := range map[time.Duration]time.Duration{0: DefaultInterval, 1: MinInterval, time.Hour: time.Hour} {
		if m := NewMonitor(Probe{}, MonitorOptions{Interval: given}); m.options.Interval != want {
			t.Errorf("%v: %v, want %v", given, m.options.Interval, want)
		}
	}
}

func TestCPUTimes(t *testing.T) {
	linuxOnly(t)
	for text, want := range map[string]float64{
		"cpu 100 0 0 300 0 0 0\n": 1, "cpu 100 10 10 300 50 10 10 10 9 9\n": 1.5, "cpu x 0 0 0 0 0 0\n": -1, "cpu 1 1 1 1\n": -1, "": -1,
	} {
		busy, _, ok := Probe{Root: fakeRoot(t, map[string]string{"proc/stat": text})}.cpuTimes()
		if ok != (want >= 0) || ok && math.Abs(busy-want) > 1e-9 {
			t.Errorf("%q: %g, %v", text, busy, ok)
		}
	}
	for _, p := range []Probe{{}, {portable: true}} {
		if busy, idle, ok := p.cpuTimes(); !ok || busy <= 0 || idle <= 0 {
			t.Errorf("here, portable %v: %g, %g, %v", p.portable, busy, idle, ok)
		}
	}
}
