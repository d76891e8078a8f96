package memory

import (
	"strconv"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
)

func TestParseThreshold(t *testing.T) {
	for s, want := range map[string]Threshold{
		"75%": {Fraction: 0.75}, " 62.5 % ": {Fraction: 0.625}, "100%": {Fraction: 1}, "": {Bytes: 3},
		"18GB": {Bytes: 18e9}, "16.5 gib": {Bytes: 16.5 * gib}, "512MiB": {Bytes: 512 * mib}, "7b": {Bytes: 7}, "2tb": {Bytes: 2e12},
	} {
		got, err := Setting{"x", s}.threshold(Threshold{Bytes: 3})
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{" ", "75", "0%", "-5%", "101%", "NaN%", "GB", "x GB", "0GB", "-1GB", "NaNGB", "InfGB", "1e30GB", "%"} {
		got, err := Setting{"x", s}.threshold(Threshold{})
		if fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" || !strings.HasPrefix(err.Error(), "`x`: "+strconv.Quote(s)+" is not ") {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
}

func TestParseThresholds(t *testing.T) {
	for _, tt := range []struct {
		warning, critical string
		ok                bool
	}{
		{"", "", true},
		{"50%", "50%", true},
		{"90%", "", false}, // above the default for critical
		{"", "50%", true},
		{"2B", "1B", false},
		{"1B", "2B", true},
		{"100GiB", "10%", true},
		{"110%", "1B", false},
		{"NaN%", "1B", false},
		{"10%", "-1B", false},
	} {
		_, _, err := ParseThresholds(Setting{"low", tt.warning}, Setting{"high", tt.critical})
		if (err == nil) != tt.ok || err != nil && (fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "") {
			t.Errorf("%+v: %v", tt, err)
		}
	}
	if w, c, err := ParseThresholds(Setting{"low", ""}, Setting{"high", "50%"}); err != nil || w != c || c.Fraction != 0.5 {
		t.Errorf("only an alert: %v, %v, %v", w, c, err)
	}
	_, _, err := ParseThresholds(Setting{"low", "90%"}, Setting{"high", ""})
	if err == nil || err.Error() != "`low`: 90% is above the alert at 75%" || fault.HintOf(err) != "set it to less than `high`" {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
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
