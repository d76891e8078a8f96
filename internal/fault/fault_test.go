package fault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestKindsAndHints(t *testing.T) {
	inner := Input.New("read video a.mp4", "it is empty", "name another file")
	outer := Output.Wrap("write video b.mp4", fmt.Errorf("while copying: %w", inner))
	cancelled := Input.Wrap("read video a.mp4", fmt.Errorf("pipe: %w", context.Canceled), "check the file")
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
		{"wrapped at once", Output.Wrap("write video b.mp4", inner), Output, "name another file", "write video b.mp4: read video a.mp4: it is empty"},
		{"cancelled", cancelled, Cancelled, "", "interrupted"},
		{"bare cancel", context.Canceled, Cancelled, "", "interrupted"},
		{"no subject", Missing.New("run ffmpeg", "not found", "install it"), Missing, "install it", "run ffmpeg: not found"},
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
	if Input.Wrap("read x", nil) != nil {
		t.Error("nil was wrapped")
	}
	if !errors.Is(outer, inner) {
		t.Error("the cause is lost")
	}
}

func TestKinds(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range []Kind{Internal, Usage, Input, NoFace, Missing, Output, Memory, Cancelled, 99} {
		if seen[k.String()] {
			t.Errorf("the name %q is used twice", k)
		}
		seen[k.String()] = true
		if k.HTTPStatus() < 400 {
			t.Errorf("%s: status %d", k, k.HTTPStatus())
		}
	}
	if want := "0 done, 1 internal error, 2 wrong option, "; !strings.HasPrefix(ExitCodes(), want) {
		t.Errorf("exit codes %q", ExitCodes())
	}
}

func TestField(t *testing.T) {
	err := Field("vae_tile", "100", "is not a multiple of 64", "set `vae_tile` to 0 for whole pictures")
	if got, want := Flags(err.Error()), "--vae-tile: 100 is not a multiple of 64"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := Flags(HintOf(err)), "set --vae-tile to 0 for whole pictures"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := Flags(Field("speakers", "7", "is too many", "").Error()), "--speaker: 7 is too many"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := Usage.Wrap("run the job", err).Error(), "run the job: `vae_tile`: 100 is not a multiple of 64"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
