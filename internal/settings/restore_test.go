package settings

import (
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
)

// TestRestorer checks that a client of a server can name a network, but no file.
func TestRestorer(t *testing.T) {
	for text, plain := range map[string]bool{
		"GFPGANv1.4": true, "a_b-c": true, "1": true,
		"": false, ".": false, "..": false, ".hidden": false, "a/b": false, "../a": false, "/a": false, `a\b`: false, `\\host\a`: false, "c:a": false,
		"a.onnx": false, "A.ONNX": false, "a b": false, "a\x00": false, "a\n": false, strings.Repeat("a", 101): false,
	} {
		s := Settings{Networks: Networks{Restore: text}}
		if name, got := s.Restorer(); name != text || got != plain {
			t.Errorf("%q: %q, plain %v", text, name, got)
		}
		err := s.CheckRemote()
		if refused := text != "" && !plain; (err != nil) != refused {
			t.Errorf("%q for a job on a server: %v", text, err)
		} else if refused && (fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "is a path")) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
