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
func findGlobal(module, name string) (any, error) {
	g := global(module + "." + name)
	switch g {
	case rebuildTensor, rebuildParameter, torchSize, orderedDict:
		return g, nil
	}
	if _, ok := storageTypes[g]; ok {
		return g, nil
	}
	return nil, refuse("if you trust its source, load it with PyTorch and save the state dict alone; otherwise delete the file",
		"refuses to call %s, which the file asks for: a checkpoint only needs tensors, dicts and numbers", printable(string(g)))
}

// printable quotes a name, unless it is plain.
func printable(name string) string {
	if q := quote(name); q != `"`+name+`"` {
		return q
	}
	return name
}

// object executes GLOBAL, STACK_GLOBAL, REDUCE, NEWOBJ, BUILD or BINPERSID.
func (u *unpickler) object(op byte) error {
	switch op {
	case 'c':
		module, err := u.line()
		if err != nil {
			return err
		}
		name, err := u.line()
		if err != nil {
			return err
		}
		return u.pushed(findGlobal(module, name))
	case 'Q':
		id, err := u.pop()
		if err != nil {
			return err
		}
		return u.pushed(newStorage(id))
	}
	args, err := u.popN(2)
	switch {
	case err != nil:
		return err
	case op == 'b': // BUILD: attributes, such as a state dict's _metadata, are not weights
		if _, ok := args[0].(*dict); !ok {
			return errors.New("sets attributes of something that is not a dict")
		}
		return u.pushed(args[0], nil)
	case op == 0x93:
		module, ok1 := args[0].(string)
		name, ok2 := args[1].(string)
		if !ok1 || !ok2 {
			return errors.New("has a name of a global that is not a string")
		}
		return u.pushed(findGlobal(module, name))
	}
	fn, ok1 := args[0].(global)
	arg, ok2 := args[1].(tuple)
	if !ok1 || !ok2 {
		return errors.New("calls something that is not a function, or without a tuple of arguments")
	}
	return u.pushed(u.reduce(fn, arg))
}

// reduce returns the value of calling fn with args.
func (u *unpickler) reduce(fn global, args tuple) (any, error) {
	switch {
	case fn == rebuildTensor && (len(args) == 6 || len(args) == 7):
		if u.views++; u.views > maxTensors {
			return nil, fmt.Errorf("has more than %d tensors", maxTensors)
		}
		s, ok1 := args[0].(*storage)
		offset, ok2 := args[1].(int64)
		size, ok3 := args[2].(tuple)
		stride, ok4 := args[3].(tuple)
		if ok1 && ok2 && ok3 && ok4 {
			return &view{s, offset, size, stride}, nil
		}
	case fn == rebuildParameter && len(args) == 3:
		if v, ok := args[0].(*view); ok {
			return v, nil
		}
	case fn == torchSize && len(args) == 1:
		if t, ok := args[0].(tuple); ok {
			return t, nil
		}
		if l, ok := args[0].(*list); ok {
			return tuple(l.items), nil
		}
	case fn == orderedDict && len(args) == 0:
		return &dict{}, nil
	}
	return nil, fmt.Errorf("calls %s with the wrong arguments", fn)
}

// newStorage reads a persistent id: ('storage', class, key, location, numel).
func newStorage(id any) (any, error) {
	t, _ := id.(tuple)
	if len(t) == 5 && t[0] == "storage" {
		class, ok1 := t[1].(global)
		key, ok2 := t[2].(string)
		numel, ok3 := t[4].(int64)
		if _, ok4 := storageTypes[class]; ok1 && ok2 && ok3 && ok4 && numel >= 0 && numel <= maxVolume {
			return &storage{string(class), key, numel}, nil
		}
	}
	return nil, errors.New("has a persistent id that is not a storage of a known type")
}
