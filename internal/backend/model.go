package backend

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/onnx"
)

// CheckModel checks the outermost level of an ONNX file and returns its size (without
// external weights). Backends call it before they pass a file to the library, because
// OpenVINO tries all its frontends on a file that is not ONNX, and some of them print.
func CheckModel(m Model) (int64, error) {
	if len(m.Bytes) > 0 {
		return int64(len(m.Bytes)), checkONNX(bytes.NewReader(m.Bytes), int64(len(m.Bytes)))
	}
	if m.Path == "" {
		return 0, errors.New("the model is empty")
	}
	f, err := os.Open(m.Path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !st.Mode().IsRegular() {
		return 0, errors.New("it is not a regular file")
	}
	return st.Size(), checkONNX(f, st.Size())
}

// CheckFile returns an error of kind Input if a file cannot be a network of the user's choice,
// without loading it: it must be an ONNX file whose weights are in it. A model can name any
// file of the machine as the place of its weights, and the file is not the user's own work.
// op says what is being done with the file.
func CheckFile(op, path string) error {
	fail := func(err error, hint ...string) error { return fault.Input.Wrap(op, fault.WithoutPath(err), hint...) }
	if _, err := CheckModel(Model{Path: path}); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fault.Input.New(op, "there is no such file", "check the path")
		}
		return fail(err, "choose an ONNX file")
	}
	f, err := os.Open(path)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	external, err := onnx.External(f, st.Size())
	if err != nil {
		return fail(err, "choose an ONNX file")
	}
	if external {
		return fault.Input.New(op, "its weights are in another file, which is not read because an ONNX file can name any file", "export it with its weights inside, such as with onnx.save_model(model, path, save_as_external_data=False)")
	}
	return nil
}

// checkONNX walks over the fields of a ModelProto without reading their content.
func checkONNX(r io.ReadSeeker, size int64) error {
	const (
		fieldGraph = 7
		wireVarint = 0
		wireBytes  = 2
	)
	broken := func(at int64, why string) error {
		return fmt.Errorf("it is not an ONNX model, or it is damaged: %s at byte %d of %d", why, at, size)
	}
	var head [2 * binary.MaxVarintLen64]byte
	graph := false
	var at int64
	for at < size {
		if _, err := r.Seek(at, io.SeekStart); err != nil {
			return err
		}
		got, err := io.ReadFull(r, head[:])
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		tag, tagLen := binary.Uvarint(head[:got])
		if tagLen <= 0 {
			return broken(at, "no field")
		}
		n, nLen := binary.Uvarint(head[tagLen:got])
		if nLen <= 0 {
			return broken(at, "no value")
		}
		next := at + int64(tagLen+nLen)
		switch {
		case tag>>3 == 0:
			return broken(at, "no field")
		case tag&7 == wireVarint:
		case tag&7 == wireBytes:
			if n > uint64(size-next) {
				return broken(at, "a field beyond the end")
			}
			next += int64(n)
			graph = graph || tag>>3 == fieldGraph && n > 0
		default: // a ModelProto has no fields of other kinds
			return broken(at, "an unknown field")
		}
		at = next
	}
	if !graph {
		return errors.New("it is not an ONNX model: it has no graph")
	}
	return nil
}

// Ports describes the inputs or the outputs of a network in one line, for messages.
func Ports(list []Port) string {
	var all []string
	for _, p := range list {
		dims := strings.ReplaceAll(fmt.Sprint(p.Shape), "-1", "?")
		dtype := p.DType.String()
		if p.DType.Size() == 0 {
			dtype = "of another type"
		}
		all = append(all, fmt.Sprintf("%s %s %s", p.Name, dtype, dims))
	}
	if all == nil {
		return "none"
	}
	return strings.Join(all, ", ")
}
