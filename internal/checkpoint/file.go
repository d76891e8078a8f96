// Package checkpoint reads and writes files of network weights: those of PyTorch (a zip
// that contains a pickle) and safetensors.
//
// Files are recognised by their content. They are untrusted: the interpreter of pickles
// supports tensors, dicts and scalars and rejects everything else. Nothing in a file is
// ever executed.
package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Formats of checkpoints, as File.Format returns them.
const (
	formatTorch       = "torch"
	formatSafetensors = "safetensors"
)

// entry is one tensor of a file. Its bytes are inside the file.
type entry struct {
	dtype  tensor.DType
	shape  []int
	offset int64 // of the first byte, in the file
	size   int64 // in bytes
}

// File is an open checkpoint. The data of its tensors points into the memory-mapped
// file, so opening takes no memory for weights. The file must not change while it is
// open: as with any mapping, an access to a truncated file kills the process. A File is
// safe for concurrent use.
type File struct {
	path    string
	format  string
	names   []string
	entries map[string]entry
	scalars map[string]any

	mu     sync.Mutex
	data   []byte // the whole file; nil after Close
	unmap  func() error
	copies map[string]*tensor.Tensor // of misaligned tensors
}

// Open opens a checkpoint and reads its directory: the names, types, shapes and offsets
// of all tensors, and the scalars. The weights stay on disk.
//
// The error is of kind Missing if the file does not exist, or Input if it is not a
// checkpoint, is damaged, or contains something that this package rejects.
func Open(path string) (*File, error) {
	const op = "read the checkpoint"
	data, unmap, err := openMapped(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Missing.New(op+" "+path, "no such file", "check the path, or download the checkpoint")
	}
	if err != nil {
		return nil, fault.Input.Wrap(op+" "+path, err, "check that it is a file and that you have permission to read it")
	}
	f := newFile(path, data, unmap)
	if err := f.read(); err != nil {
		_ = unmap()
		hint := "download it again, or check that it is the right file"
		if r, ok := errors.AsType[*refusal](err); ok && r.hint != "" {
			hint = r.hint
		}
		return nil, fault.Input.Wrap(op+" "+path, err, hint)
	}
	return f, nil
}

// newFile returns a File of data whose directory is not read yet.
func newFile(path string, data []byte, unmap func() error) *File {
	return &File{path: path, data: data, unmap: unmap,
		entries: map[string]entry{}, scalars: map[string]any{}, copies: map[string]*tensor.Tensor{}}
}

// openMapped maps the file at path into memory.
func openMapped(path string) (data []byte, unmap func() error, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, fault.WithoutPath(err)
	}
	defer file.Close() // the mapping outlives it
	info, err := file.Stat()
	if err != nil {
		return nil, nil, fault.WithoutPath(err)
	}
	switch {
	case info.IsDir():
		return nil, nil, errors.New("it is a directory")
	case !info.Mode().IsRegular():
		return nil, nil, errors.New("it is not a regular file")
	case info.Size() == 0:
		return nil, func() error { return nil }, nil
	case int64(int(info.Size())) != info.Size():
		return nil, nil, fmt.Errorf("%d bytes are too many for a 32-bit system", info.Size())
	}
	data, unmap, err = mapFile(file, int(info.Size()))
	return data, unmap, fault.WithoutPath(err)
}

// refusal is an error with its own hint.
type refusal struct{ text, hint string }

func (r *refusal) Error() string { return r.text }

func refuse(hint, format string, args ...any) error {
	return &refusal{fmt.Sprintf(format, args...), hint}
}

// read fills f from its data.
func (f *File) read() error {
	format, err := recognise(f.data)
	if err != nil {
		return err
	}
	f.format = format
	if format == formatTorch {
		err = f.readTorch()
	} else {
		err = f.readSafetensors()
	}
	if err != nil {
		return err
	}
	if len(f.names) == 0 {
		return refuse("", "the file contains no tensors")
	}
	f.stripModule()
	return nil
}

// stripModule removes the prefix that torch.nn.DataParallel adds to every name.
func (f *File) stripModule() {
	const prefix = "module."
	if slices.ContainsFunc(f.names, func(n string) bool { return !strings.HasPrefix(n, prefix) }) {
		return
	}
	entries := make(map[string]entry, len(f.entries))
	for i, n := range f.names {
		f.names[i] = strings.TrimPrefix(n, prefix)
		entries[f.names[i]] = f.entries[n]
	}
	f.entries = entries
}

// add adds a tensor. dims, offset and length (-1: unknown) are those in the file.
func (f *File) add(name string, dtype tensor.DType, dims []int64, offset, length int64) error {
	if _, ok := f.entries[name]; ok {
		return fmt.Errorf("tensor %s occurs twice", quote(name))
	}
	if len(f.names) >= maxTensors {
		return fmt.Errorf("more than %d tensors", maxTensors)
	}
	shape, volume, err := checkShape(dims)
	if err != nil {
		return fmt.Errorf("tensor %s: %w", quote(name), err)
	}
	size := volume * int64(dtype.Size())
	if length >= 0 && size != length {
		return fmt.Errorf("tensor %s: shape %v of %v needs %d bytes, but the file has %d for it", quote(name), dims, dtype, size, length)
	}
	if offset < 0 || size > int64(len(f.data)) || offset > int64(len(f.data))-size {
		return fmt.Errorf("tensor %s: its bytes are outside the file", quote(name))
	}
	f.names = append(f.names, name)
	f.entries[name] = entry{dtype, shape, offset, size}
	return nil
}

// checkShape converts dims to a shape, and returns its volume: at most maxVolume, so that
// its product with the size of an element does not overflow.
func checkShape(dims []int64) (shape []int, volume int64, err error) {
	if len(dims) > maxDims {
		return nil, 0, fmt.Errorf("it has %d dimensions, and at most %d are supported", len(dims), maxDims)
	}
	shape, volume = make([]int, len(dims)), 1
	empty := slices.Contains(dims, 0)
	for i, d := range dims {
		if d < 0 || d > maxVolume || !empty && volume > maxVolume/d {
			return nil, 0, fmt.Errorf("shape %v is impossible", dims)
		}
		shape[i] = int(d)
		volume *= d
		if empty {
			volume = 0
		}
	}
	return shape, volume, nil
}

// Path returns the path that was passed to Open.
func (f *File) Path() string { return f.path }

// Format returns "torch" or "safetensors".
func (f *File) Format() string { return f.format }

// Names returns the names of the tensors in the order of the state dict or of the
// safetensors header.
func (f *File) Names() []string { return slices.Clone(f.names) }

// Tensor returns a tensor, or nil if the file has none of that name or is closed. Its
// Data is read-only, aliases the mapping and is valid until Close. A tensor that is not
// aligned for its type in the file (PyTorch aligns all) is copied to memory by the first
// call; Release drops the copy.
func (f *File) Tensor(name string) *tensor.Tensor {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.entries[name]
	if !ok || f.data == nil {
		return nil
	}
	t := &tensor.Tensor{DType: e.dtype, Shape: slices.Clone(e.shape), Data: f.data[e.offset : e.offset+e.size : e.offset+e.size]}
	if len(t.Data) == 0 || uintptr(unsafe.Pointer(&t.Data[0]))%uintptr(e.dtype.Size()) == 0 {
		return t
	}
	c := f.copies[name]
	if c == nil {
		c = tensor.New(e.dtype, e.shape...)
		copy(c.Data, t.Data)
		f.copies[name] = c
	}
	t.Data = c.Data
	return t
}

// Scalar returns a value that is not a tensor: int64, float64, bool or string. Keys of
// nested dicts are joined by dots ("dims.n_mels"). The scalars of safetensors are the
// strings of __metadata__.
func (f *File) Scalar(name string) (any, bool) {
	v, ok := f.scalars[name]
	return v, ok
}

// Offset returns the offset of a tensor's first byte in the file, or -1 if there is no
// such tensor.
func (f *File) Offset(name string) int64 {
	e, ok := f.entries[name]
	if !ok {
		return -1
	}
	return e.offset
}

// Release releases the memory of the named tensors (without names: of the whole file),
// except for pages that they share with others. Their data stays valid: it is read again
// from disk when it is used. Unknown names are ignored.
func (f *File) Release(names ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.data == nil {
		return
	}
	if len(names) == 0 {
		clear(f.copies)
		dropPages(f.data)
	}
	for _, name := range names {
		delete(f.copies, name)
		if e, ok := f.entries[name]; ok {
			f.release(e.offset, e.offset+e.size)
		}
	}
}

// release drops the pages that are entirely between two offsets of the file.
func (f *File) release(from, to int64) {
	page := int64(os.Getpagesize())
	from, to = (from+page-1)/page*page, to/page*page
	if from < to {
		dropPages(f.data[from:to])
	}
}

// Close unmaps the file. The data of its tensors must not be used afterwards. Further
// calls do nothing.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.data == nil {
		return nil
	}
	f.data, f.copies = nil, nil
	return fault.Internal.Wrap("close the checkpoint "+f.path, f.unmap())
}
