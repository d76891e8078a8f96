package doctor

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/lipstream/lipstream/internal/fault"
)

// WriteTable writes the report as a table: a line for each check, and below it how to
// fix a problem.
func (r Report) WriteTable(w io.Writer) error {
	wide := 0
	for _, c := range r.Checks {
		wide = max(wide, utf8.RuneCountInString(c.Name))
	}
	var b strings.Builder
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%-7s  %-*s  %s\n", c.Status, wide, c.Name, c.Detail)
		if c.Fix != "" {
			fmt.Fprintf(&b, "%-7s  %-*s  -> %s\n", "", wide, "", c.Fix)
		}
	}
	_, err := io.WriteString(w, fault.Flags(b.String()))
	return err
}
