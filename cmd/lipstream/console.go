package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/lipstream/lipstream/internal/fault"
)

// console holds the outputs of a command. Results and JSON events go to Out;
// progress, warnings and errors go to Err, so that Out can be piped.
type console struct{ Out, Err io.Writer }

// The maximum length of a printed error, in runes. ffmpeg and the runtimes can put
// pages of text into a cause.
const (
	maxErrorLine = 480
	maxDebugLine = 4000
)

// printError writes err as one line, "lipstream: ...", and its hint, if any, as a
// second line. With debug, every layer of the error follows on its own line.
func printError(w io.Writer, err error, debug bool) {
	if err == nil {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "lipstream: %s\n", oneLine(fault.Flags(fault.Message(err)), maxErrorLine))
	if hint := fault.HintOf(err); hint != "" {
		fmt.Fprintf(&b, "hint: %s\n", oneLine(fault.Flags(hint), maxErrorLine))
	}
	if debug {
		writeChain(&b, err, 0)
	}
	// A single Write, so that other goroutines cannot write in between. There is
	// nowhere to report its error.
	_, _ = io.WriteString(w, b.String())
}

// writeChain writes one line for each layer of err, from the outside in. The errors
// of a joined error are indented below it.
func writeChain(b *strings.Builder, err error, depth int) {
	for err != nil {
		fmt.Fprintf(b, "debug: %s", strings.Repeat("  ", depth))
		// Not errors.As, which would look into the next layers as well.
		if e, ok := err.(*fault.Error); ok {
			fmt.Fprintf(b, "kind=%s", e.Kind)
			for _, f := range [][2]string{{"op", e.Op}, {"field", e.Field}, {"hint", e.Hint}} {
				if f[1] != "" {
					fmt.Fprintf(b, " %s=%q", f[0], oneLine(f[1], maxDebugLine))
				}
			}
			if e.Err != nil {
				fmt.Fprintf(b, " cause=%s", oneLine(e.Err.Error(), maxDebugLine))
			}
		} else {
			fmt.Fprintf(b, "%T: %s", err, oneLine(err.Error(), maxDebugLine))
		}
		b.WriteByte('\n')
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range joined.Unwrap() {
				writeChain(b, e, depth+1)
			}
			return
		}
		err = errors.Unwrap(err)
	}
}

// exitCode returns the exit code of the process for err.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	return fault.KindOf(err).ExitCode()
}

var (
	lineBreak = regexp.MustCompile(`[\n\r\x{2028}\x{2029}]`)
	// escape is a complete terminal escape sequence, because removing only the
	// escape character would leave "[31m" behind: a CSI (parameters, then one byte
	// from @ to ~), an OSC (up to BEL or the next escape, at the latest to the end
	// of the line), or the escape character with the one after it.
	escape = regexp.MustCompile(`\x1b(?:\[[ -?]*[@-~]?|\][^\x07\x1b\n]*\x07?|[\x00-\x7f]?)`)
)

// oneLine returns s as text that is safe to print within one line. Line breaks become
// "; ". Control characters, escape sequences and bidirectional overrides, which file
// names and the output of ffmpeg can contain, are removed. Text longer than limit
// runes loses its middle: the start says what was being done, and the end usually
// says why it failed.
func oneLine(s string, limit int) string {
	var kept []string
	for _, line := range lineBreak.Split(escape.ReplaceAllString(s, ""), -1) {
		line = strings.Map(printable, line)
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			kept = append(kept, line)
		}
	}
	s = strings.Join(kept, "; ")
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	runes := []rune(s)
	const gap = " … "
	head := limit * 3 / 5
	tail := limit - head - utf8.RuneCountInString(gap)
	return string(runes[:head]) + gap + string(runes[len(runes)-tail:])
}

// printable maps a tab to a space, and removes runes that must not reach a terminal.
func printable(r rune) rune {
	switch {
	case r == '\t':
		return ' '
	case unicode.IsControl(r), r >= 0x202A && r <= 0x202E, r >= 0x2066 && r <= 0x2069:
		return -1
	}
	return r
}

// isTerminal reports whether w is a terminal on which a line can be redrawn.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && showsEscapes(f)
}

// terminalWidth returns the current width of w in columns, or 80 if it has none.
func terminalWidth(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 80
}

// useColor reports whether output to w may be coloured: it is a terminal, and
// NO_COLOR is not set (https://no-color.org).
func useColor(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && isTerminal(w)
}

// printPaths writes paths to standard output, one a line.
func printPaths(c *console, paths ...string) error {
	for _, p := range paths {
		if _, err := fmt.Fprintln(c.Out, oneLine(p, maxErrorLine)); err != nil {
			return fault.Output.Wrap("print the path", err)
		}
	}
	return nil
}

func newEncoder(w io.Writer) *json.Encoder {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // paths and messages stay readable
	return enc
}

// writeJSON writes v as indented JSON.
func writeJSON(w io.Writer, v any) error {
	enc := newEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printJSON writes v to standard output as indented JSON.
func printJSON(c *console, v any) error {
	return fault.Output.Wrap("print as JSON", writeJSON(c.Out, v))
}

// printLine writes v to standard output as a line of JSON.
func printLine(c *console, v any) error {
	return fault.Output.Wrap("print", newEncoder(c.Out).Encode(v))
}

// table writes aligned columns to standard output.
type table struct {
	w    *tabwriter.Writer
	errs []error
}

func newTable(c *console, heads ...string) *table {
	t := &table{w: tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)}
	if len(heads) > 0 {
		t.line(heads...)
	}
	return t
}

// line adds a row. It removes control characters from the cells, because paths and
// names in files can contain any.
func (t *table) line(cells ...string) {
	for i, s := range cells {
		indent := s[:len(s)-len(strings.TrimLeft(s, " "))]
		cells[i] = indent + oneLine(s, maxErrorLine)
	}
	_, err := fmt.Fprintln(t.w, strings.Join(cells, "\t"))
	t.errs = append(t.errs, err)
}

func (t *table) close(op string) error {
	return fault.Output.Wrap(op, errors.Join(append(t.errs, t.w.Flush())...))
}
