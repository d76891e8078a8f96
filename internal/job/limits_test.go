package job

import (
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
)

func TestLimits(t *testing.T) {
	info := &media.Info{Path: "v.mp4", Duration: time.Hour, Video: &media.VideoInfo{Width: 1920, Height: 1080, Frames: 90000, FrameRate: media.Rational{Num: 25, Den: 1}}}
	for _, tt := range []struct {
		limits Limits
		want   string
	}{
		{Limits{}, ""},
		{Limits{Pixels: 1920 * 1080, Duration: time.Hour, Frames: 90000, Rate: 25}, ""},
		{Limits{Pixels: 1920*1080 - 1}, "1920x1080 pixels"},
		{Limits{Duration: time.Hour - 1}, "1h0m0s long"},
		{Limits{Frames: 89999}, "more than 89999 frames"},
		{Limits{Rate: 24}, "25.0 frames a second"},
	} {
		err := tt.limits.check(info)
		if tt.want == "" && err == nil {
			continue
		}
		if err == nil || tt.want == "" || !strings.Contains(err.Error(), tt.want) || fault.KindOf(err) != fault.Input || fault.HintOf(err) == "" {
			t.Errorf("%+v: %v, want %q", tt.limits, err, tt.want)
		}
	}
	// A header that says nothing: what is heard counts.
	hear := Limits{Duration: time.Second}.listener("v.wav")
	second := make([]float32, 16000)
	if err := hear(second); err != nil {
		t.Error(err)
	}
	if err := hear(second); err != nil { // a second of grace
		t.Error(err)
	}
	if err := hear(second); fault.KindOf(err) != fault.Input {
		t.Error(err)
	}
}
