package memory

import "fmt"

// Size writes a number of bytes for people, in binary units: "512 B",
// "3.4 MiB", "12.0 GiB".
func Size(n int64) string {
	if n < 0 {
		// The two's complement minimum has no positive counterpart.
		return "-" + Size(-max(n, -1<<62))
	}
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, units := float64(n)/1024, []string{"KiB", "MiB", "GiB", "TiB"}
	for len(units) > 1 && v >= 1023.95 { // 1023.95 would be rounded to "1024.0"
		v, units = v/1024, units[1:]
	}
	return fmt.Sprintf("%.1f %s", v, units[0])
}
