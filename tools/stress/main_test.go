package main

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const events = `{"Action":"start","Package":"a"}
{"Action":"run","Package":"a","Test":"TestGood"}
{"Action":"output","Package":"a","Test":"TestGood","Output":"fine\n"}
{"Action":"pass","Package":"a","Test":"TestGood"}
{"Action":"output","Package":"a","Test":"TestBad","Output":"a_test.go:1: "}
{"Action":"output","Package":"a","Test":"TestBad","Output":"wrong\n"}
{"Action":"fail","Package":"a","Test":"TestBad"}
{"Action":"skip","Package":"a","Test":"TestSkipped"}
{"Action":"fail","Package":"a"}
{"Action":"build-output","ImportPath":"b"}
{"Action":"output","Package":"b","Output":"panic before any test\n"}
{"Action":"fail","Package":"b"}
`

func TestRead(t *testing.T) {
	r := round{variant: "GOMAXPROCS=1", took: time.Minute}
	var log strings.Builder
	if err := r.read(strings.NewReader(events), &log); err != nil {
		t.Fatal(err)
	}
	if r.passed != 1 || !slices.Equal(r.failed, []string{"a TestBad", "b"}) {
		t.Errorf("%+v", r)
	}
	if s := log.String(); strings.Contains(s, "fine") || !strings.Contains(s, "a_test.go:1: wrong\n") || !strings.Contains(s, "panic before") {
		t.Error(s)
	}
	if err := r.read(strings.NewReader("FAIL a\n"), &log); err == nil {
		t.Error("no error")
	}
	want := `| round | variant | passed | failed | time |
|---|---|---|---|---|
| 1 | GOMAXPROCS=1 | 1 | 2 | 1m0s |
| 2 | -shuffle=on | 1 | 1 | 1s |

| failed | times |
|---|---|
| a TestBad | 1 x -shuffle=on, 1 x GOMAXPROCS=1 |
| b | 1 x GOMAXPROCS=1 |
`
	if got := tables([]round{r, {variant: "-shuffle=on", took: time.Second, passed: 1, failed: []string{"a TestBad"}}}); got != want {
		t.Errorf("got\n%s", got)
	}
}

// TestStress runs rounds of a command that prints events, beside a hog.
func TestStress(t *testing.T) {
	dir := t.TempDir()
	list := filepath.Join(dir, "events")
	if err := os.WriteFile(list, []byte(events), 0o600); err != nil {
		t.Fatal(err)
	}
	show, fail := []string{"cat", list}, []string{"false"}
	if runtime.GOOS == "windows" {
		show, fail = []string{"cmd", "/c", "type", list}, []string{"cmd", "/c", "exit 1"}
	}
	file := filepath.Join(dir, "stress.md")
	failed, err := stress(t.Context(), 3, file, show)
	if err != nil || !failed {
		t.Errorf("%v, %v", failed, err)
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), "| a TestBad | 1 x -shuffle=on, 1 x GOMAXPROCS=1, 1 x plain |") {
		t.Errorf("%v\n%s", err, text)
	}
	if _, err := stress(t.Context(), 1, file, fail); err == nil {
		t.Error("a command that fails without a word was accepted")
	}
}

// TestMain lets the test binary keep the processors busy.
func TestMain(m *testing.M) {
	if os.Getenv(hogVariable) != "" {
		hog()
	}
	os.Exit(m.Run())
}
