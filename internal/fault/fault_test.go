package fault

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestKindsAndHints(t *testing.T) {
	inner := New(Input, "read video", "a.mp4", "it is empty", "name another file")
	outer := Wrap(Output, "write video", "b.mp4", fmt.Errorf("while copying: %w", inner), "")
	cancelled := Wrap(Input, "read video", "a.mp4", fmt.Errorf("pipe: %w", context.Canceled), "check the file")
	for _, c := range []struct {
		name    string
		err     error
		kind    Kind
		hint    string
		message string
	}{
		{"plain", errors.New("boom"), Internal, "", "boom"},
		{"one", inner, Input, "name another file", "read video a.mp4: it is empty"},
		{"wrapped", outer, Output, "name another file", "write video b.mp4: while copying: read video a.mp4: it is empty"},
		{"wrapped at once", Wrap(Output, "write video", "b.mp4", inner, ""), Output, "name another file", "write video b.mp4: read video a.mp4: it is empty"},
		{"cancelled", cancelled, Cancelled, "", "interrupted"},
		{"bare cancel", context.Canceled, Cancelled, "", "interrupted"},
		{"no subject", New(Missing, "run ffmpeg", "", "not found", "install it"), Missing, "install it", "run ffmpeg: not found"},
	} {
		if got := KindOf(c.err); got != c.kind {
			t.Errorf("%s: kind %d, want %d", c.name, got, c.kind)
		}
		if got := HintOf(c.err); got != c.hint {
			t.Errorf("%s: hint %q, want %q", c.name, got, c.hint)
		}
		if got := Message(c.err); got != c.message {
			t.Errorf("%s: message %q, want %q", c.name, got, c.message)
		}
	}
	if Wrap(Input, "read", "x", nil, "") != nil {
		t.Error("nil was wrapped")
	}
	if !errors.Is(outer, inner) {
		t.Error("the cause is lost")
	}
}
