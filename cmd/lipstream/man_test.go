package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// TestMan checks that the page has every command and flag, and that the formatters
// that are installed accept it.
func TestMan(t *testing.T) {
	var out, errs bytes.Buffer
	if code := execute(t.Context(), []string{"man"}, &console{Out: &out, Err: &errs}); code != 0 {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	page := out.String()
	for _, want := range []string{".SS lipstream run\n", ".SS lipstream runtime install\n", ".I [<name>]\n", ".B \\-\\-memory\\-limit=SIZE\n",
		".B \\-o, \\-\\-output=OUT\n", ".I LatentSync:\n", ".B 130\ninterrupted\n", ".B LIPSTREAM_TOKEN_FILE\n"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	for _, hidden := range []string{"lipstream task", "lipstream complete\n"} {
		if strings.Contains(page, hidden) {
			t.Errorf("the page has the hidden command %q", hidden)
		}
	}
	for _, formatter := range [][]string{{"groff", "-man", "-Tutf8", "-ww", "-z"}, {"mandoc", "-Tlint", "-Werror"}} {
		t.Run(formatter[0], func(t *testing.T) {
			path, err := exec.LookPath(formatter[0])
			if err != nil {
				t.Skip(formatter[0] + " is not installed")
			}
			cmd := exec.CommandContext(t.Context(), path, formatter[1:]...)
			cmd.Stdin = strings.NewReader(page)
			said, err := cmd.CombinedOutput()
			if err != nil || strings.TrimSpace(string(said)) != "" {
				t.Errorf("%v\n%s", err, said)
			}
		})
	}
}
