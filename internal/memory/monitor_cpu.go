package memory

import (
	"bytes"
	"os"
	"strconv"

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

// cpuTimes returns the time of all processors since the system started.
func (p Probe) cpuTimes() (busy, idle float64, ok bool) {
	if !p.procfs() {
		t, err := cpu.Times(false)
		if err != nil || len(t) == 0 {
			return 0, 0, false
		}
		return t[0].User + t[0].System + t[0].Nice + t[0].Irq + t[0].Softirq + t[0].Steal, t[0].Idle + t[0].Iowait, true
	}
	data, err := os.ReadFile(p.path("/proc/stat"))
	if err != nil {
		return 0, 0, false
	}
	// "cpu user nice system idle iowait irq softirq steal guest guest_nice";
	// guests are in user already.
	line, _, _ := bytes.Cut(data, []byte{'\n'})
	f := bytes.Fields(line)
	if len(f) < 5 || string(f[0]) != "cpu" {
		return 0, 0, false
	}
	for i, field := range f[1:min(len(f), 9)] {
		n, err := strconv.ParseFloat(string(field), 64)
		if err != nil {
			return 0, 0, false
		}
		if i == 3 || i == 4 {
			idle += n
		} else {
			busy += n
		}
	}
	return busy, idle, true
}
