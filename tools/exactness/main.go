// Command exactness makes docs/exactness.md from the measurements of the golden tests. Use
// it through the Makefile: make exactness.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/lipstream/lipstream/internal/golden"
)

const head = `# Exactness

This table shows how far Lipstream is from the original programs. ` + "`make exactness`" + `
makes it from the golden tests: what they measured, and the limit that they
enforce. The goldens are outputs of the originals on tiny random checkpoints in
float32 (see the files *.md in testdata/latentsync, testdata/musetalk and
testdata/taesd). Random networks amplify differences far more than trained ones.

"max abs" is the largest absolute difference. "max rel" is that difference
divided by the largest value. "max abs beyond 1e-5 of the value" is the largest
absolute difference after 1e-5 of the value is subtracted. PSNR uses the range of
the float32 golden as its peak. bf16 is OpenVINO's. f16 is ONNX Runtime on the CPU,
which stores weights and the results of products in float16 but computes them in
float32, because no GPU was available.

| module | case | backend | precision | measure | measured | limit |
|---|---|---|---|---|---|---|
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "exactness:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: exactness MEASUREMENTS > docs/exactness.md")
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	var rows []golden.Measurement
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var m golden.Measurement
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return err
		}
		rows = append(rows, m)
	}
	if len(rows) == 0 {
		return fmt.Errorf("%s has no measurements", args[0])
	}
	order := map[string]int{golden.PSNR: 1} // comparisons in float32 come first
	slices.SortStableFunc(rows, func(a, b golden.Measurement) int {
		return cmp.Or(cmp.Compare(order[a.Measure], order[b.Measure]), cmp.Compare(a.Module, b.Module), cmp.Compare(a.Case, b.Case), cmp.Compare(a.Backend, b.Backend))
	})
	rows = slices.CompactFunc(rows, func(a, b golden.Measurement) bool {
		a.Value, b.Value = 0, 0
		return a == b
	})
	out := bufio.NewWriter(os.Stdout)
	fmt.Fprint(out, head)
	for _, m := range rows {
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s | %.3g | %.3g |\n", m.Module, m.Case, m.Backend, m.Precision, m.Measure, m.Value, m.Limit)
	}
	return out.Flush()
}
