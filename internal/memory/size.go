package memory

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
)

// Size formats a number of bytes in binary units, such as "512 B", "3.4 MiB" or
// "12.0 GiB".
func Size(n int64) string {
	if n < 0 {
		// The two's complement minimum has no positive counterpart.
		return "-" + Size(-max(n, -1<<62))
	}
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, units := float64(n)/1024, []string{"KiB", "MiB", "GiB", "TiB"}
	for len(units) > 1 && v >= 1023.95 { // it would be rounded to "1024.0"
		v, units = v/1024, units[1:]
	}
	return fmt.Sprintf("%.1f %s", v, units[0])
}

// units are those of ParseSize, in lower case. Single letters are binary, as in
// docker and systemd.
var units = map[string]float64{
	"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
	"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}

// ParseSize parses a number of bytes: "3GB" is 3·10⁹, "3GiB" and "3G" are 3·2³⁰;
// "1.5GB" and "200000000" are valid too. Case and spaces before the unit do not
// matter, and fractions of a byte are dropped. Errors are of kind Usage.
func ParseSize(s string) (int64, error) {
	bad := func(cause string) (int64, error) {
		return 0, fault.Usage.New("read size "+strconv.Quote(s), cause, "write 3GB, 3GiB or 512M")
	}
	text := strings.ToLower(strings.TrimSpace(s))
	digits := text[:len(text)-len(strings.TrimLeft(text, "0123456789."))]
	name := strings.TrimSpace(text[len(digits):])
	if digits == "" {
		return bad("it does not begin with a digit")
	}
	if strings.HasPrefix(name, "%") {
		return bad("a percentage is not a size")
	}
	unit, ok := units[name]
	if !ok {
		return bad(strconv.Quote(name) + " is not a unit of memory")
	}
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil && unit == 1 && n < 1<<62 {
		return n, nil // a float64 cannot hold all of them
	}
	n, err := strconv.ParseFloat(digits, 64)
	if errors.Is(err, strconv.ErrSyntax) {
		return bad(strconv.Quote(digits) + " is not a number")
	}
	if err != nil || n*unit >= 1<<62 {
		return bad("it is more than any memory")
	}
	return int64(n * unit), nil
}
