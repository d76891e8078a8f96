package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
)

// TestReadToken reads token files as editors and shells write them, also on Windows.
func TestReadToken(t *testing.T) {
	const token = "0123456789abcdef"
	wide := func(mark string, s string, big bool) string {
		for _, c := range []byte(s) {
			if big {
				mark += "\x00" + string(c)
			} else {
				mark += string(c) + "\x00"
			}
		}
		return mark
	}
	path := filepath.Join(t.TempDir(), "token")
	for content, ok := range map[string]bool{
		token:                                     true,
		token + "\n":                              true,
		token + "\r\n":                            true,
		"\xef\xbb\xbf" + token + "\r\n":           true, // Notepad
		wide("\xff\xfe", token+"\r\n", false):     true, // PowerShell 5
		wide("\xfe\xff", token+"\n", true):        true,
		token[1:]:                                 false,
		token + " " + token:                       false,
		token + "\r\n" + token:                    false,
		wide("\xff\xfe", token[1:]+"\r\n", false): false,
		"": false,
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readToken(path)
		if ok && (err != nil || got != token) || !ok && (fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "") {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
	if got, err := readToken(""); got != "" || err != nil {
		t.Errorf("without a file: %q, %v", got, err)
	}
	if _, err := readToken(filepath.Join(path, "missing")); fault.KindOf(err) != fault.Usage {
		t.Error(err)
	}
}
