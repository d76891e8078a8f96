package checkpoint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Want describes a tensor that a network expects.
type Want struct {
	Name     string
	Shape    []int
	Aliases  []string // older names of the same tensor
	AnyShape [][]int  // other shapes of the same volume that files may have
}

// fits reports whether a tensor of the given shape can be used.
func (w *Want) fits(shape []int) bool {
	return slices.Equal(shape, w.Shape) ||
		slices.ContainsFunc(w.AnyShape, func(s []int) bool { return slices.Equal(s, shape) })
}

// names returns all names of w, the current one first.
func (w *Want) names() []string { return append([]string{w.Name}, w.Aliases...) }

// Find returns the wanted tensor and its name in the file: the current name or, if that
// does not exist, the first alias that does. A tensor with one of the other shapes is
// returned in w.Shape. Find returns nil if the file has no such tensor or one with the
// wrong shape.
func (f *File) Find(w Want) (name string, t *tensor.Tensor) {
	for _, name := range w.names() {
		if e, ok := f.entries[name]; ok {
			if !w.fits(e.shape) || tensor.Volume(w.Shape) != tensor.Volume(e.shape) {
				return name, nil
			}
			if t = f.Tensor(name); t != nil {
				t.Shape = slices.Clone(w.Shape)
			}
			return name, t
		}
	}
	return "", nil
}

// Misshapen describes a tensor with the wrong shape.
type Misshapen struct {
	Name      string
	Got, Want []int
}

// BadType describes a tensor of weights whose elements are not floats.
type BadType struct {
	Name string
	Got  tensor.DType
}

// Mismatch describes how a checkpoint differs from what a network expects. All lists are
// sorted by name.
type Mismatch struct {
	Network    string
	Missing    []string // expected, not in the file
	Unexpected []string // in the file, not expected
	Misshapen  []Misshapen
	BadType    []BadType
}

// Error returns the counts and the first names of each kind.
func (m *Mismatch) Error() string {
	var parts []string
	part := func(what string, n int, name func(i int) string) {
		const most = 3
		if n == 0 {
			return
		}
		var names []string
		for i := range min(n, most) {
			names = append(names, name(i))
		}
		if n > most {
			names = append(names, "...")
		}
		parts = append(parts, fmt.Sprintf("%d %s (%s)", n, what, strings.Join(names, ", ")))
	}
	part("missing", len(m.Missing), func(i int) string { return m.Missing[i] })
	part("unexpected", len(m.Unexpected), func(i int) string { return printable(m.Unexpected[i]) })
	part("of the wrong shape", len(m.Misshapen), func(i int) string {
		s := m.Misshapen[i]
		return fmt.Sprintf("%s %v instead of %v", s.Name, s.Got, s.Want)
	})
	part("not floating-point", len(m.BadType), func(i int) string {
		return fmt.Sprintf("%s %v", m.BadType[i].Name, m.BadType[i].Got)
	})
	return "the tensors are not those of " + m.Network + ": " + strings.Join(parts, ", ")
}

// hint returns what to do about m. found is how many tensors are as expected.
func (m *Mismatch) hint(found int) string {
	switch {
	case found == 0:
		return "this file belongs to another network: check which checkpoint was given for " + m.Network
	case len(m.Missing) > 0 || len(m.Misshapen) > 0:
		return "use a checkpoint made for this version of " + m.Network
	case len(m.BadType) > 0:
		return "use the checkpoint with float32 or float16 weights"
	}
	return "use a checkpoint with the weights of " + m.Network + " alone"
}

// Check compares the file with what a network expects: names, shapes, and elements that
// are floats. The error is of kind Input and its cause is a *Mismatch. allow reports
// which unexpected names are allowed; nil allows none.
func (f *File) Check(network string, want []Want, allow func(name string) bool) error {
	m := &Mismatch{Network: network}
	known := make(map[string]bool, len(want))
	found := 0
	for i := range want {
		w := &want[i]
		names := w.names()
		at := slices.IndexFunc(names, func(n string) bool { _, ok := f.entries[n]; return ok })
		if at < 0 {
			m.Missing = append(m.Missing, w.Name)
			continue
		}
		name := names[at]
		known[name] = true
		e := f.entries[name]
		switch {
		case !w.fits(e.shape):
			m.Misshapen = append(m.Misshapen, Misshapen{name, slices.Clone(e.shape), slices.Clone(w.Shape)})
		case e.dtype != tensor.F32 && e.dtype != tensor.F16 && e.dtype != tensor.BF16:
			m.BadType = append(m.BadType, BadType{name, e.dtype})
		default:
			found++
		}
	}
	for _, name := range f.names {
		if !known[name] && (allow == nil || !allow(name)) {
			m.Unexpected = append(m.Unexpected, name)
		}
	}
	if len(m.Missing)+len(m.Unexpected)+len(m.Misshapen)+len(m.BadType) == 0 {
		return nil
	}
	slices.Sort(m.Missing)
	slices.Sort(m.Unexpected)
	slices.SortFunc(m.Misshapen, func(a, b Misshapen) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(m.BadType, func(a, b BadType) int { return cmp.Compare(a.Name, b.Name) })
	return fault.Input.Wrap("check the checkpoint "+f.path, m, m.hint(found))
}
