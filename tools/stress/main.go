// Command stress runs the tests several times on a busy machine and lists the tests that
// failed. Use it through the Makefile: make stress, or
//
//	make stress ROUNDS=20 PACKAGES="./internal/queue ./internal/server"
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/child"
)

// hogVariable makes this program keep every processor busy.
const hogVariable = "LIPSTREAM_STRESS_HOG"

// variants are the ways to run the tests. The rounds take turns.
var variants = []struct{ name, env, flags string }{
	{"plain", "", ""},
	{"GOMAXPROCS=1", "GOMAXPROCS=1", ""},
	{"-shuffle=on", "", "-shuffle=on"},
}

// round is the result of running all tests once.
type round struct {
	variant string
	took    time.Duration
	passed  int
	failed  []string // package and test
}

func main() {
	if os.Getenv(hogVariable) != "" {
		hog()
	}
	rounds := flag.Int("rounds", 5, "how many times to run the tests")
	out := flag.String("o", "out/stress.md", "the `file` for the tables; the output of failed tests goes to a .log file next to it")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: stress [flags] command...\n\ncommand must run the tests with the flags in TESTFLAGS and print the output of go test -json.\n\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 || *rounds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	failed, err := stress(ctx, *rounds, *out, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "stress:", err)
	}
	if err != nil || failed {
		os.Exit(1)
	}
}

// hog keeps every processor busy until the process is killed.
func hog() {
	for range runtime.NumCPU() {
		go func() {
			for i := uint64(0); ; i++ {
				_ = i
			}
		}()
	}
	select {}
}

// startHog starts a program that keeps every processor busy until ctx ends.
func startHog(ctx context.Context) (*child.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), hogVariable+"=1")
	return child.Start(ctx, cmd, 0)
}

// stress runs the command in all rounds, prints the tables and writes them to the file.
// failed reports whether any test failed.
func stress(ctx context.Context, rounds int, file string, command []string) (failed bool, err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return false, err
	}
	busy, err := startHog(ctx)
	if err != nil {
		return false, err
	}
	defer busy.Kill()
	log, err := os.Create(strings.TrimSuffix(file, filepath.Ext(file)) + ".log")
	if err != nil {
		return false, err
	}
	defer log.Close()
	var results []round
	for i := range rounds {
		v := variants[i%len(variants)]
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Env = append(os.Environ(), "TESTFLAGS="+strings.TrimSpace(os.Getenv("TESTFLAGS")+" -count=1 "+v.flags))
		if v.env != "" {
			cmd.Env = append(cmd.Env, v.env)
		}
		cmd.Stderr = os.Stderr
		r := round{variant: v.name}
		began := time.Now()
		text, runErr := cmd.Output()
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		r.took = time.Since(began)
		if err := r.read(bytes.NewReader(text), log); err != nil {
			return false, fmt.Errorf("%w (%v)", err, runErr)
		}
		if runErr != nil && len(r.failed) == 0 {
			return false, fmt.Errorf("run the tests: %w", runErr)
		}
		results = append(results, r)
		fmt.Printf("round %d of %d, %s: %d passed, %d failed, %v\n", i+1, rounds, v.name, r.passed, len(r.failed), r.took.Round(time.Second))
		for _, name := range r.failed {
			fmt.Println("  FAIL", name)
		}
		failed = failed || len(r.failed) > 0
	}
	text := tables(results)
	fmt.Print("\n", text)
	return failed, os.WriteFile(file, []byte(text), 0o644)
}

// read counts the tests of a round, and copies the output of failed tests to log.
func (r *round) read(events io.Reader, log io.Writer) error {
	output := map[string][]string{} // of tests that have not ended
	inTest := map[string]bool{}     // packages with a failed test
	for dec := json.NewDecoder(events); ; {
		var e struct{ Action, Package, Test, Output string } // see go doc test2json
		if err := dec.Decode(&e); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the results: %w", err)
		}
		name := strings.TrimSpace(e.Package + " " + e.Test)
		switch e.Action {
		case "output":
			output[name] = append(output[name], e.Output)
			continue
		case "pass":
			if e.Test != "" {
				r.passed++
			}
		case "fail":
			// A package that failed because of a test does not count again.
			if e.Test != "" || !inTest[e.Package] {
				inTest[e.Package] = true
				r.failed = append(r.failed, name)
				if _, err := fmt.Fprintf(log, "=== %s, %s\n%s\n", r.variant, name, strings.Join(output[name], "")); err != nil {
					return err
				}
			}
		case "skip":
		default:
			continue
		}
		delete(output, name)
	}
}

// tables returns the rounds and the failures as Markdown.
func tables(rounds []round) string {
	var b strings.Builder
	b.WriteString("| round | variant | passed | failed | time |\n|---|---|---|---|---|\n")
	times := map[string]map[string]int{} // test -> variant -> failures
	for i, r := range rounds {
		fmt.Fprintf(&b, "| %d | %s | %d | %d | %v |\n", i+1, r.variant, r.passed, len(r.failed), r.took.Round(time.Second))
		for _, name := range r.failed {
			if times[name] == nil {
				times[name] = map[string]int{}
			}
			times[name][r.variant]++
		}
	}
	if len(times) == 0 {
		return b.String()
	}
	b.WriteString("\n| failed | times |\n|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(times)) {
		var often []string
		for _, v := range slices.Sorted(maps.Keys(times[name])) {
			often = append(often, fmt.Sprintf("%d x %s", times[name][v], v))
		}
		fmt.Fprintf(&b, "| %s | %s |\n", name, strings.Join(often, ", "))
	}
	return b.String()
}
