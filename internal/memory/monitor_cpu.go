package memory

import (
	"context"

	"github.com/shirou/gopsutil/v4/common"
	"github.com/shirou/gopsutil/v4/cpu"
)

// cpuMeter measures how much of the processors' time was used between readings.
type cpuMeter struct {
	probe      Probe
	busy, idle float64 // at the last reading, in any unit
	any        bool
}

// read returns 0 to 1, or -1 at the first reading and if the time is unknown.
func (c *cpuMeter) read() float64 {
	busy, idle, ok := c.probe.cpuTimes()
	if !ok {
		c.any = false
		return -1
	}
	db, di, first := busy-c.busy, idle-c.idle, !c.any
	c.busy, c.idle, c.any = busy, idle, true
	// Counters can go back a little, especially that of waiting for disks.
	db, di = max(0, db), max(0, di)
	if first || db+di == 0 {
		return -1
	}
	return db / (db + di)
}

// cpuTimes returns the seconds of all processors since the system started.
func (p Probe) cpuTimes() (busy, idle float64, ok bool) {
	ctx := context.Background()
	if p.Root != "" {
		ctx = context.WithValue(ctx, common.EnvKey, common.EnvMap{common.HostProcEnvKey: p.path("/proc")})
	}
	times, err := cpu.TimesWithContext(ctx, false)
	if err != nil || len(times) == 0 {
		return 0, 0, false
	}
	// Guests are in User already.
	t := times[0]
	return t.User + t.System + t.Nice + t.Irq + t.Softirq + t.Steal, t.Idle + t.Iowait, true
}
