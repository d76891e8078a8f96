package lip

import (
	"context"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

// delayer holds items back and marks the faces that it has seen. It removes every fourth
// face.
type delayer struct {
	Engine // panics if another method is called
	hold   int
	held   []Item
	seen   []*face.Face
	pasted *[]int
	number int
	closed func(number int)
}

func (d *delayer) Hold() int { return d.hold }

func (d *delayer) Push(_ context.Context, it Item) ([]Item, error) {
	d.seen = append(d.seen, it.Face)
	if it.Frame.Index%4 == 3 {
		it.Face = nil
	}
	it.Layer = paste(func() { *d.pasted = append(*d.pasted, d.number) })
	d.held = append(d.held, it)
	n := max(0, len(d.held)-d.hold)
	out := d.held[:n:n]
	d.held = d.held[n:]
	return out, nil
}

func (d *delayer) Flush(context.Context) ([]Item, error) {
	out := d.held
	d.held = nil
	return out, nil
}

func (d *delayer) Close() error { d.closed(d.number); return nil }

type paste func()

func (p paste) Paste(*frame.Frame) (r Region) { p(); return r }

// TestChain runs three engines that hold items back: each sees its own faces, in order,
// and the items come out as they went in.
func TestChain(t *testing.T) {
	const n = 20
	var pasted, closed []int
	var engines []Engine
	for i, hold := range []int{3, 0, 5} {
		engines = append(engines, &delayer{hold: hold, pasted: &pasted, number: i, closed: func(n int) { closed = append(closed, n) }})
	}
	c := Chain(engines...)
	if c.Hold() != 8 {
		t.Errorf("it holds %d items", c.Hold())
	}
	faces := make([][3]*face.Face, n)
	var out []Item
	for i := range n {
		for k := range 3 {
			faces[i][k] = &face.Face{Track: 3*i + k}
		}
		faces[i][i%3] = nil
		f := faces[i]
		done, err := c.Push(t.Context(), Item{
			Frame: &frame.Frame{Index: int64(i)}, Face: f[0], Cut: i%2 == 0,
			Others: []*face.Face{f[1], f[2]},
		})
		if err != nil {
			t.Fatal(err)
		}
		if out = append(out, done...); i+1-len(out) > c.Hold() {
			t.Fatalf("%d items are held", i+1-len(out))
		}
	}
	rest, err := c.Flush(t.Context())
	if out = append(out, rest...); err != nil || len(out) != n {
		t.Fatalf("%d items, %v", len(out), err)
	}
	for i, it := range out {
		got := [3]*face.Face{it.Face, it.Others[0], it.Others[1]}
		want := faces[i]
		if i%4 == 3 {
			want = [3]*face.Face{}
		}
		if it.Frame.Index != int64(i) || got != want {
			t.Errorf("item %d: frame %d, faces %v", i, it.Frame.Index, got)
		}
		if it.Cut != (i%2 == 0) {
			t.Errorf("item %d: its cut changed", i)
		}
		pasted = nil
		it.Composite()
		if !slices.Equal(pasted, []int{0, 1, 2}) {
			t.Errorf("item %d: layers pasted %v", i, pasted)
		}
		for k, e := range engines {
			if e.(*delayer).seen[i] != faces[i][k] {
				t.Errorf("engine %d has seen another face in frame %d", k, i)
			}
		}
	}
	_ = c.Close()
	if !slices.Equal(closed, []int{2, 1, 0}) {
		t.Errorf("closed in the order %v", closed)
	}
	if one := Chain(engines[0]); one != engines[0] {
		t.Error("a single engine is wrapped")
	}
}
