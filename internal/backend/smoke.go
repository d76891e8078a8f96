package backend

import (
	"context"
	"fmt"

	"github.com/lipstream/lipstream/internal/tensor"
)

// smokeModel is an ONNX file of one operator, y = x + x, for float32 vectors
// of any length. backendtest.SmokeGraph writes the same bytes.
const smokeModel = "\b\b\x12\tlipstream:A\n\x16\n\x01x\n\x01x\x12\x01y\x1a\x06y_node\"\x03Add\x12\x01g" +
	"Z\x11\n\x01x\x12\f\n\n\b\x01\x12\x06\n\x04\x12\x02d0b\x11\n\x01y\x12\f\n\n\b\x01\x12\x06\n\x04\x12\x02d0" +
	"B\x04\n\x00\x10\x11"

// Smoke computes a tiny model on the CPU and checks the result. It is the last check
// of a library before it is used.
func Smoke(ctx context.Context, b Backend) error {
	s, err := b.Load(ctx, Model{Name: "smoke test", Bytes: []byte(smokeModel)}, Options{Device: "cpu", Threads: 1})
	if err != nil {
		return err
	}
	defer s.Close()
	x := []float32{1, -2, 0.5}
	out, err := s.Run(ctx, map[string]*tensor.Tensor{"x": tensor.FromF32(x, len(x))})
	if err != nil {
		return err
	}
	y := out["y"]
	if y == nil || y.DType != tensor.F32 || y.Len() != len(x) {
		return fmt.Errorf("x + x of three numbers is %v", y)
	}
	for i, v := range y.F32() {
		if v != 2*x[i] {
			return fmt.Errorf("%v + %v is %v", x[i], x[i], v)
		}
	}
	return nil
}
