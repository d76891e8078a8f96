package memory

import (
	"math"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
)

func TestParseThreshold(t *testing.T) {
	for s, want := range map[string]Threshold{
		"75%": {Fraction: 0.75}, " 62.5 % ": {Fraction: 0.625}, "100%": {Fraction: 1},
		"18GB": {Bytes: 18e9}, "16.5 gib": {Bytes: 16.5 * gib}, "512MiB": {Bytes: 512 * mib}, "7b": {Bytes: 7}, "2tb": {Bytes: 2e12},
	} {
		got, err := ParseThreshold(s)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "75", "0%", "-5%", "101%", "NaN%", "GB", "x GB", "0GB", "-1GB", "NaNGB", "InfGB", "1e30GB", "%"} {
		if got, err := ParseThreshold(s); fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
}

func TestCheckThresholds(t *testing.T) {
	share, size := func(f float64) Threshold { return Threshold{Fraction: f} }, func(n int64) Threshold { return Threshold{Bytes: n} }
	for _, tt := range []struct {
		warning, critical Threshold
		ok                bool
	}{
		{Threshold{}, Threshold{}, true},
		{share(0.5), share(0.5), true},
		{share(0.9), Threshold{}, false}, // above the default for critical
		{Threshold{}, share(0.5), false},
		{size(2), size(1), false},
		{size(1), size(2), true},
		{size(100 * gib), share(0.1), true},
		{share(1.1), size(1), false},
		{share(math.NaN()), size(1), false},
		{share(0.1), size(-1), false},
	} {
		err := CheckThresholds(tt.warning, tt.critical)
		if (err == nil) != tt.ok || err != nil && fault.KindOf(err) != fault.Usage {
			t.Errorf("%+v, %+v: %v", tt.warning, tt.critical, err)
		}
	}
}

// TestNextLevel follows uses of a 24 GiB card; 2 % of it are 0.48 GiB.
func TestNextLevel(t *testing.T) {
	for _, tt := range []struct {
		name              string
		warning, critical Threshold
		total             float64 // GiB
		used              []float64
		want              []Level
	}{
		{
			"up and down", DefaultWarning, DefaultCritical, 24,
			[]float64{14.9, 15, 14.6, 15.1, 17.9, 18, 17.6, 17.5, 18.1, 14.6, 14.5, 14.9, 24, 0},
			[]Level{Normal, Warning, Warning, Warning, Warning, Critical, Critical, Warning, Critical, Warning, Normal, Normal, Critical, Normal},
		},
		{
			"sizes", Threshold{Bytes: 2 * gib}, Threshold{Bytes: 3 * gib}, 24,
			[]float64{1.9, 2, 1.6, 3, 2.6, 2.5, 1.5},
			[]Level{Normal, Warning, Warning, Critical, Critical, Warning, Normal},
		},
		{
			"unknown total, shares", DefaultWarning, DefaultCritical, 0,
			[]float64{0, 1000}, []Level{Normal, Normal},
		},
		{
			"unknown total, sizes", Threshold{Bytes: 2 * gib}, Threshold{Bytes: 3 * gib}, 0,
			[]float64{2, 1.97, 1.95, 3}, []Level{Warning, Warning, Normal, Critical},
		},
		{
			"threshold beyond the memory", Threshold{Bytes: 30 * gib}, Threshold{Bytes: 40 * gib}, 24,
			[]float64{24}, []Level{Normal},
		},
	} {
		level := Normal
		for i, used := range tt.used {
			level = nextLevel(level, int64(used*gib), int64(tt.total*gib), tt.warning, tt.critical)
			if level != tt.want[i] {
				t.Errorf("%s: reading %d, %g GiB: %v, want %v", tt.name, i, used, level, tt.want[i])
			}
		}
	}
}

func TestAlertString(t *testing.T) {
	a := Alert{Source: "nvidia:0", Was: Warning, Level: Critical, Used: 19 * gib, Total: 24 * gib, Limit: 18 * gib}
	if got := a.String(); got != "nvidia:0 memory is critical: 19.0 GiB of 24.0 GiB in use, threshold 18.0 GiB" {
		t.Error(got)
	}
	a = Alert{Source: "budget", Was: Warning, Level: Normal, Used: 1 * gib, Limit: 2 * gib}
	if got := a.String(); got != "budget memory is back to normal: 1.0 GiB in use, threshold 2.0 GiB" {
		t.Error(got)
	}
}
