package checkpoint

import (
	"errors"
	"fmt"
	"strings"
)

// stateKeys are the keys of the state dict in checkpoints whose top level has more:
// LatentSync (spec 4.5) and Whisper (spec 2.7).
var stateKeys = []string{"state_dict", "model_state_dict"}

// readTorch reads the format of torch.save since PyTorch 1.6: a zip with a pickle of the
// structure (data.pkl) and one uncompressed member for each storage (data/0, data/1 ...).
func (f *File) readTorch() error {
	a, err := openArchive(f.data)
	if err != nil {
		return err
	}
	if a.members["byteorder"] != nil {
		order, err := a.read("byteorder", 64)
		if err != nil {
			return err
		}
		if s := strings.TrimSpace(string(order)); s != "little" {
			return refuse("save it again on a little-endian machine", "its byte order is %s, and only little is supported", quote(s))
		}
	}
	if a.members["version"] == nil {
		return errors.New("the file version is missing in the zip")
	}
	pickle, err := a.read("data.pkl", maxPickle)
	if err != nil {
		return err
	}
	top, err := unpickle(pickle)
	if err != nil {
		if _, ok := errors.AsType[*refusal](err); ok {
			return err
		}
		return fmt.Errorf("data.pkl %w", err)
	}
	d, ok := top.(*dict)
	if !ok {
		return refuse("save a state dict with torch.save", "its top level is not a dict")
	}
	return f.readDict(a, d)
}

// readDict adds the tensors and scalars of a checkpoint's top-level dict.
func (f *File) readDict(a *archive, top *dict) error {
	state := top
	for _, key := range stateKeys {
		if d, ok := top.values[key].(*dict); ok {
			state = d
			break
		}
	}
	for _, key := range state.keys {
		v, ok := state.values[key].(*view)
		if !ok {
			continue
		}
		name, ok := key.(string)
		if !ok {
			return fmt.Errorf("a tensor's name is %v, not a string", key)
		}
		if err := f.addView(a, name, v); err != nil {
			return err
		}
	}
	if len(f.names) == 0 {
		return refuse("", "it has no tensors at its top level or under %s; the top level has %s",
			strings.Join(stateKeys, " or "), keyList(top))
	}
	visits := 0
	if err := f.addScalars(top, "", 0, &visits); err != nil {
		return err
	}
	if state == top {
		return nil
	}
	return f.addScalars(state, "", 0, &visits)
}

// keyList lists the first keys of a dict.
func keyList(d *dict) string {
	const most = 8
	var names []string
	for _, k := range d.keys[:min(len(d.keys), most)] {
		names = append(names, quote(fmt.Sprint(k)))
	}
	if len(d.keys) > most {
		names = append(names, "...")
	}
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// addView checks a tensor and adds it.
func (f *File) addView(a *archive, name string, v *view) error {
	typeName := storageTypes[v.storage.class]
	dtype, ok := supportedTypes[typeName]
	if !ok {
		return unsupportedType(name, typeName)
	}
	wrap := func(err error) error { return fmt.Errorf("tensor %s: %w", quote(name), err) }
	dims, err := integers(v.size)
	if err != nil {
		return wrap(err)
	}
	strides, err := integers(v.stride)
	if err != nil {
		return wrap(err)
	}
	_, volume, err := checkShape(dims)
	if err != nil {
		return wrap(err)
	}
	if !contiguous(dims, strides, volume) {
		return refuse("call contiguous() on it and save again",
			"tensor %s is not contiguous (shape %v, strides %v): a transposed or expanded view", quote(name), dims, strides)
	}
	numel := v.storage.numel
	if v.offset < 0 || volume > numel || v.offset > numel-volume {
		return wrap(fmt.Errorf("it has elements %d to %d of a storage of %d", v.offset, v.offset+volume, numel))
	}
	begin, size, err := a.locate("data/" + v.storage.key)
	if err != nil {
		return wrap(err)
	}
	if width := int64(dtype.Size()); numel*width > size {
		return wrap(fmt.Errorf("data/%s has %d bytes, but %d elements of %s need %d", printable(v.storage.key), size, numel, typeName, numel*width))
	}
	return f.add(name, dtype, dims, begin+v.offset*int64(dtype.Size()), -1)
}

// integers converts a tuple of at most maxDims integers.
func integers(t tuple) ([]int64, error) {
	if len(t) > maxDims {
		return nil, fmt.Errorf("it has %d dimensions, and at most %d are supported", len(t), maxDims)
	}
	out := make([]int64, len(t))
	for i, v := range t {
		n, ok := v.(int64)
		if !ok {
			return nil, errors.New("its shape or strides are not integers")
		}
		out[i] = n
	}
	return out, nil
}

// contiguous reports whether strides are row-major. The strides of dimensions of size one
// and of empty tensors are never used and may have any value.
func contiguous(dims, strides []int64, volume int64) bool {
	if len(dims) != len(strides) {
		return false
	}
	if volume == 0 {
		return true
	}
	want := int64(1)
	for i := len(dims) - 1; i >= 0; i-- {
		if dims[i] != 1 && strides[i] != want {
			return false
		}
		want *= dims[i]
	}
	return true
}

// addScalars collects the scalars of d and of the dicts in it under their joined keys. A
// pickle can contain a dict in itself, or many times: depth and visits limit the walk.
func (f *File) addScalars(d *dict, prefix string, depth int, visits *int) error {
	if depth > maxDepth {
		return fmt.Errorf("dicts are nested deeper than %d, at %s", maxDepth, quote(prefix))
	}
	for _, key := range d.keys {
		if *visits++; *visits > maxVisits {
			return fmt.Errorf("more than %d values in nested dicts", maxVisits)
		}
		switch v := d.values[key].(type) {
		case int64, float64, bool, string:
			f.scalars[prefix+fmt.Sprint(key)] = v
		case *dict:
			if name, ok := key.(string); ok && depth == 0 && (name == stateKeys[0] || name == stateKeys[1]) {
				continue // flattened away
			}
			if err := f.addScalars(v, prefix+fmt.Sprint(key)+".", depth+1, visits); err != nil {
				return err
			}
		}
	}
	return nil
}
