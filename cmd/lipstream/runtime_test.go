package main

import (
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
)

// TestRuntimeNames: the hint for an unknown name lists all names.
func TestRuntimeNames(t *testing.T) {
	install, path := &runtimeInstallCmd{Name: "foo"}, &runtimePathCmd{Name: "foo"}
	for suffix, err := range map[string]error{
		", cuda, ffmpeg": install.Run(t.Context(), &console{}),
		", ffmpeg":       path.Run(t.Context(), &console{}),
	} {
		if hint := fault.HintOf(err); fault.KindOf(err) != fault.Usage || !strings.HasPrefix(hint, "choose one of openvino, ") || !strings.HasSuffix(hint, "tensorrt-rtx"+suffix) {
			t.Errorf("%v, hint %q", err, hint)
		}
	}
}
