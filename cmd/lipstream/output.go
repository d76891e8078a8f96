package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/lipstream/lipstream/internal/fault"
)

// printPath writes a path to standard output.
func printPath(c *console, op, path string) error {
	_, err := fmt.Fprintln(c.Out, oneLine(path, maxErrorLine))
	return fault.Output.Wrap(op, err)
}

// printJSON writes v to standard output as indented JSON.
func printJSON(c *console, op string, v any) error {
	enc := newEncoder(c.Out)
	enc.SetIndent("", "  ")
	return fault.Output.Wrap(op, enc.Encode(v))
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
