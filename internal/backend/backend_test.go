package backend

import (
	"context"
	"errors"
	"testing"

	"github.com/lipstream/lipstream/internal/tensor"
)

// answering is a backend whose sessions return y or an error.
type answering struct {
	Backend
	Session
	y         []float32
	load, run error
}

func (a answering) Load(context.Context, Model, Options) (Session, error) { return a, a.load }
func (a answering) Close() error                                          { return nil }
func (a answering) Run(context.Context, map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	return map[string]*tensor.Tensor{"y": tensor.FromF32(a.y, len(a.y))}, a.run
}

func TestHasHalf(t *testing.T) {
	no := errors.New("no float16")
	for _, c := range []struct {
		b    answering
		want bool
	}{
		{answering{y: []float32{3}}, true},
		{answering{y: []float32{1.5}}, false},
		{answering{y: []float32{3}, load: no}, false},
		{answering{y: []float32{3}, run: no}, false},
	} {
		if got := HasHalf(t.Context(), c.b, "gpu:0"); got != c.want {
			t.Errorf("%+v: %v", c.b, got)
		}
	}
}
