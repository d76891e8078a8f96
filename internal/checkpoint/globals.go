package checkpoint

import (
	"errors"
	"fmt"

	"github.com/lipstream/lipstream/internal/tensor"
)

// The globals that a pickle may use, in addition to the storage classes.
const (
	rebuildTensor    global = "torch._utils._rebuild_tensor_v2"
	rebuildParameter global = "torch._utils._rebuild_parameter"
	torchSize        global = "torch.Size"
	orderedDict      global = "collections.OrderedDict"
)

// storageTypes maps PyTorch's storage classes to the names of their element types. Only
// those in supportedTypes can be read; the others may occur outside the state dict.
var storageTypes = map[global]string{
	"torch.FloatStorage":         "float32",
	"torch.HalfStorage":          "float16",
	"torch.BFloat16Storage":      "bfloat16",
	"torch.LongStorage":          "int64",
	"torch.ByteStorage":          "uint8",
	"torch.DoubleStorage":        "float64",
	"torch.IntStorage":           "int32",
	"torch.ShortStorage":         "int16",
	"torch.CharStorage":          "int8",
	"torch.BoolStorage":          "bool",
	"torch.ComplexFloatStorage":  "complex64",
	"torch.ComplexDoubleStorage": "complex128",
}

var supportedTypes = map[string]tensor.DType{
	"float32": tensor.F32, "float16": tensor.F16, "bfloat16": tensor.BF16, "int64": tensor.I64, "uint8": tensor.U8,
}

// findGlobal returns an allowed global.
func (u *unpickler) findGlobal(module, name string) global {
	g := global(module + "." + name)
	switch g {
	case rebuildTensor, rebuildParameter, torchSize, orderedDict:
	default:
		if storageTypes[g] == "" {
			u.fail(refuse("if you trust its source, load it with PyTorch and save the state dict alone; otherwise delete the file",
				"refuses to call %s, which the file asks for: a checkpoint only needs tensors, dicts and numbers", printable(string(g))))
		}
	}
	return g
}

// printable quotes a name, unless it is plain.
func printable(name string) string {
	if q := quote(name); q != `"`+name+`"` {
		return q
	}
	return name
}

// reduce returns the value of calling fn with args.
func (u *unpickler) reduce(fn global, args tuple) any {
	wrong := fmt.Errorf("calls %s with the wrong arguments", fn)
	switch {
	case fn == rebuildTensor && (len(args) == 6 || len(args) == 7):
		if u.views++; u.views > maxTensors {
			u.fail(fmt.Errorf("has more than %d tensors", maxTensors))
		}
		return &view{as[*storage](u, args[0], wrong), as[int64](u, args[1], wrong), as[tuple](u, args[2], wrong), as[tuple](u, args[3], wrong)}
	case fn == rebuildParameter && len(args) == 3:
		return as[*view](u, args[0], wrong)
	case fn == torchSize && len(args) == 1:
		if l, ok := args[0].(*list); ok {
			return tuple(l.items)
		}
		return as[tuple](u, args[0], wrong)
	case fn == orderedDict && len(args) == 0:
		return &dict{}
	}
	u.fail(wrong)
	return nil
}

// newStorage reads a persistent id: ('storage', class, key, location, numel).
func (u *unpickler) newStorage(id any) *storage {
	wrong := errors.New("has a persistent id that is not a storage of a known type")
	t := as[tuple](u, id, wrong)
	if len(t) != 5 || t[0] != "storage" {
		u.fail(wrong)
		return nil
	}
	s := &storage{as[global](u, t[1], wrong), as[string](u, t[2], wrong), as[int64](u, t[4], wrong)}
	if storageTypes[s.class] == "" || s.numel < 0 || s.numel > maxVolume {
		u.fail(wrong)
	}
	return s
}
