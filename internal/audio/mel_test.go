package audio

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The windows of golden/audio/meta.json, whose list is 2i−4..2i+5 clamped.
func TestFeatureIndices(t *testing.T) {
	for _, tt := range []struct {
		frame, num, den, features int64
		want                      [10]int64
	}{
		{0, 25, 1, 150, [10]int64{0, 0, 0, 0, 0, 1, 2, 3, 4, 5}},
		{1, 25, 1, 150, [10]int64{0, 0, 0, 1, 2, 3, 4, 5, 6, 7}},
		{2, 25, 1, 150, [10]int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
		{75, 25, 1, 150, [10]int64{146, 147, 148, 149, 149, 149, 149, 149, 149, 149}},
		{76, 25, 1, 150, [10]int64{148, 149, 149, 149, 149, 149, 149, 149, 149, 149}},
		{23, 25, 1, 44, [10]int64{42, 43, 43, 43, 43, 43, 43, 43, 43, 43}},
		{249, 25, 1, 500, [10]int64{494, 495, 496, 497, 498, 499, 499, 499, 499, 499}},
		{7, 25, 1, 1, [10]int64{}},
		{7, 25, 1, 0, [10]int64{}},
		// 30 fps: frame 31 is at 1.033 s, feature 51; 29.97 fps: frame 30 is at
		// 1.001 s, feature 50.
		{31, 30, 1, 500, [10]int64{47, 48, 49, 50, 51, 52, 53, 54, 55, 56}},
		{30, 30000, 1001, 500, [10]int64{46, 47, 48, 49, 50, 51, 52, 53, 54, 55}},
		// Ten hours at 59.94 fps.
		{2157840, 60000, 1001, 1 << 40, [10]int64{1799994, 1799995, 1799996, 1799997, 1799998, 1799999, 1800000, 1800001, 1800002, 1800003}},
	} {
		if got := FeatureIndices(tt.frame, tt.num, tt.den, tt.features); got != tt.want {
			t.Errorf("frame %d at %d/%d of %d: %v, want %v", tt.frame, tt.num, tt.den, tt.features, got, tt.want)
		}
	}
	for i := range int64(1 << 20) {
		if got := FeatureIndices(i, 25, 1, 1<<40)[9]; got != 2*i+5 {
			t.Fatalf("frame %d ends at %d", i, got)
		}
	}
}

func TestWindows(t *testing.T) {
	got := map[int64]int64{}
	want := map[int64]int64{44: 24, 50: 27, 150: 77, 250: 127, 480: 242, 500: 252, 1500: 752, 1658: 831, 3000: 1502}
	for features := range want {
		got[features] = Windows(features)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Spec 2.1: 391 values, row 0 has one.
func TestSlaneyFilters(t *testing.T) {
	n := 0
	for _, f := range slaneyFilters() {
		n += len(f.weight)
	}
	f := slaneyFilters()[0]
	if n != 391 || f.start != 1 || len(f.weight) != 1 || f.weight[0] < 0.024862585 || f.weight[0] > 0.024862595 {
		t.Errorf("%d values, row 0 is %+v", n, f)
	}
}
