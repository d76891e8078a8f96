package memory

import (
	"math"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
)

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "200000000": 2e8, "7b": 7, "3GB": 3e9, "3gb": 3e9, "1.5GB": 1.5e9, ".5 MB": 5e5, "2.kB": 2000, "1TB": 1e12,
		"3GiB": 3 * gib, "3G": 3 * gib, "3g": 3 * gib, "512M": 512 * mib, "512 MiB": 512 * mib, "4k": 4096, "1t": 1 << 40, " 1KiB\n": 1024,
		"0.3KiB": 307, "9007199254740993": 1<<53 + 1,
	} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", s, got, err, want)
		}
	}
	for s, cause := range map[string]string{
		"": "digit", "GB": "digit", "-3GB": "digit", "+3GB": "digit", "NaN": "digit", "inf": "digit", "lots": "digit",
		"75%": "percentage", "75 %": "percentage",
		"3XB": `"xb"`, "3 G B": `"g b"`, "1e3GB": `"e3gb"`, "0x1p4": `"x1p4"`, "1,5GB": `",5gb"`, "3GB/s": "unit", "3 4": "unit",
		".": "number", "1.2.3GB": `"1.2.3"`,
		"99999999999999999999": "more than", "5000000TB": "more than", "4611686018427387904": "more than", strings.Repeat("9", 400) + "GB": "more than",
	} {
		got, err := ParseSize(s)
		if fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" || got != 0 {
			t.Errorf("%q: %d, %v", s, got, err)
		} else if !strings.Contains(err.Error(), cause) {
			t.Errorf("%q: %v does not say %q", s, err, cause)
		}
	}
}

// FuzzParseSize checks that every result is a possible amount of memory, that
// every error is the user's, and that ParseSize inverts Size up to rounding.
func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"3GB", "1.5 GiB", "75%", "-1", "1e9", "0x1p4", "K", "9007199254740993", "\xff", ".", "1.b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseSize(s)
		if err != nil {
			if n != 0 || fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
				t.Fatalf("%q: %d, %v", s, n, err)
			}
			return
		}
		if n < 0 || n >= 1<<62 {
			t.Fatalf("%q: %d", s, n)
		}
		// One decimal of a figure that is at least 1.
		again, err := ParseSize(Size(n))
		if err != nil || math.Abs(float64(again-n)) > 0.051*float64(n) {
			t.Fatalf("%q: %d is written as %q and read as %d, %v", s, n, Size(n), again, err)
		}
	})
}
