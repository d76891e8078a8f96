package native

import (
	"bytes"
	"os"
	"strconv"
)

// procStatus reads VmRSS and VmHWM.
func procStatus() (now, high int64, ok bool) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0, false
	}
	for line := range bytes.Lines(text) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		fields := bytes.Fields(value)
		if len(fields) == 0 {
			continue
		}
		switch string(key) {
		case "VmRSS":
			now = kib(fields[0])
		case "VmHWM":
			high = kib(fields[0])
		}
	}
	return now, max(high, now), now > 0
}

func kib(text []byte) int64 {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}
