package checkpoint

import (
	"archive/zip"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/lipstream/lipstream/internal/tensor"
)

// Entry is a key of a dict and its value: nil, bool, int, int64, float64, string or
// []Entry (a nested dict).
type Entry struct {
	Key   string
	Value any
}

// torchAlign is the alignment of storages by torch.save, in bytes.
const torchAlign = 64

// storageClasses maps element types to PyTorch's names of them.
var storageClasses = map[tensor.DType]string{
	tensor.F32: "FloatStorage", tensor.F16: "HalfStorage", tensor.BF16: "BFloat16Storage",
	tensor.I64: "LongStorage", tensor.U8: "ByteStorage",
}

// WriteTorch writes a PyTorch file to w, in one pass, in the format of torch.save, which
// torch.load(weights_only=True) can read. The top-level dict has the entries of top and
// then, under stateKey, the tensors as an OrderedDict; with stateKey "" the tensors are at
// the top level. fill writes the bytes of the i-th tensor of specs, row-major and
// little-endian. It is called once for each, in order. The memory used does not depend on
// the size of the tensors.
func WriteTorch(w io.Writer, top []Entry, stateKey string, specs []Spec, fill func(i int, w io.Writer) error) error {
	if err := checkSpecs(specs); err != nil {
		return err
	}
	pickle, err := torchPickle(top, stateKey, specs)
	if err != nil {
		return err
	}
	out := &torchArchive{zip: zip.NewWriter(w)}
	for _, m := range [][2]string{
		{"data.pkl", string(pickle)}, {".format_version", "1"},
		{".storage_alignment", strconv.Itoa(torchAlign)}, {"byteorder", "little"},
	} {
		if err := out.add(m[0], m[1]); err != nil {
			return err
		}
	}
	for i := range specs {
		member, err := out.create("data/"+strconv.Itoa(i), specs[i].Size())
		if err != nil {
			return err
		}
		if err := writeTensor(member, &specs[i], i, fill); err != nil {
			return err
		}
	}
	if err := out.add("version", "3\n"); err != nil {
		return err
	}
	return out.zip.Close()
}

// torchArchive writes a zip whose members are stored and aligned. Checksums come after the
// members (data descriptors), as in PyTorch's own files, so that the archive is written in
// one pass.
type torchArchive struct {
	zip  *zip.Writer
	next int64 // where the next member's header begins
}

func (a *torchArchive) add(name, content string) error {
	w, err := a.create(name, int64(len(content)))
	if err == nil {
		_, err = io.WriteString(w, content)
	}
	return err
}

// create starts a member of size bytes. An extra field "FB" pads its header, so that the
// content begins at a multiple of torchAlign.
func (a *torchArchive) create(name string, size int64) (io.Writer, error) {
	const localHeader, extraHeader = 30, 4
	name = "archive/" + name // torch.load needs one folder, of any name
	begin := a.next + localHeader + int64(len(name)) + extraHeader
	pad := (torchAlign - begin%torchAlign) % torchAlign
	extra := append([]byte("FB"), byte(pad), 0)
	extra = append(extra, strings.Repeat("Z", int(pad))...)
	descriptor := int64(16)
	if size >= math.MaxUint32 {
		descriptor = 24 // with sizes of 64 bits
	}
	a.next = begin + pad + size + descriptor
	return a.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store, Extra: extra})
}

// pickler writes a pickle of protocol 2 without a memo: it repeats equal values.
type pickler struct{ b []byte }

// torchPickle returns data.pkl of a PyTorch file; storage i belongs to spec i.
func torchPickle(top []Entry, stateKey string, specs []Spec) ([]byte, error) {
	p := &pickler{b: []byte("\x80\x02")}
	seen := map[string]bool{}
	if stateKey != "" {
		seen[stateKey] = true
		p.raw("}(")
	} else {
		for _, s := range specs {
			seen[s.Name] = true
		}
		p.orderedDict()
	}
	for _, e := range top {
		if seen[e.Key] {
			return nil, fmt.Errorf("checkpoint: key %s occurs twice", quote(e.Key))
		}
		seen[e.Key] = true
		if err := p.entry(e); err != nil {
			return nil, err
		}
	}
	if stateKey != "" {
		p.text(stateKey)
		p.orderedDict()
	}
	for i := range specs {
		p.text(specs[i].Name)
		p.tensor(i, &specs[i])
	}
	if stateKey != "" {
		p.raw("u")
	}
	p.raw("u.")
	if len(p.b) > maxPickle {
		return nil, fmt.Errorf("checkpoint: the directory has %d bytes, and at most %d are possible", len(p.b), maxPickle)
	}
	return p.b, nil
}

func (p *pickler) raw(opcodes string) { p.b = append(p.b, opcodes...) }

func (p *pickler) global(module, name string) { p.raw("c" + module + "\n" + name + "\n") }

// orderedDict begins an OrderedDict; its items and SETITEMS follow.
func (p *pickler) orderedDict() {
	p.global("collections", "OrderedDict")
	p.raw(")R(")
}

func (p *pickler) text(s string) {
	p.b = binary.LittleEndian.AppendUint32(append(p.b, 'X'), uint32(len(s)))
	p.raw(s)
}

func (p *pickler) integer(n int64) {
	if n == int64(int32(n)) {
		p.b = binary.LittleEndian.AppendUint32(append(p.b, 'J'), uint32(n))
		return
	}
	p.b = binary.LittleEndian.AppendUint64(append(p.b, 0x8a, 8), uint64(n)) // LONG1 of 8 bytes
}

// entry writes a key and its value.
func (p *pickler) entry(e Entry) error {
	if len(e.Key) > maxKey || !utf8.ValidString(e.Key) {
		return fmt.Errorf("checkpoint: %s cannot be a key: it must have at most %d bytes of UTF-8", quote(e.Key), maxKey)
	}
	p.text(e.Key)
	switch v := e.Value.(type) {
	case nil:
		p.raw("N")
	case bool:
		p.raw(map[bool]string{true: "\x88", false: "\x89"}[v])
	case int:
		p.integer(int64(v))
	case int64:
		p.integer(v)
	case float64:
		p.b = binary.BigEndian.AppendUint64(append(p.b, 'G'), math.Float64bits(v))
	case string:
		p.text(v)
	case []Entry:
		p.raw("}(")
		for _, inner := range v {
			if err := p.entry(inner); err != nil {
				return err
			}
		}
		p.raw("u")
	default:
		return fmt.Errorf("checkpoint: a %T cannot be written under the key %s", v, quote(e.Key))
	}
	return nil
}

// tensor writes the call that builds a tensor, as torch.Tensor.__reduce_ex__ does:
// _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward hooks).
func (p *pickler) tensor(i int, s *Spec) {
	p.global("torch._utils", "_rebuild_tensor_v2")
	p.raw("((")
	p.text("storage")
	p.global("torch", storageClasses[s.DType])
	p.text(strconv.Itoa(i))
	p.text("cpu")
	p.integer(int64(tensor.Volume(s.Shape)))
	p.raw("tQ")
	p.integer(0)
	p.raw("(")
	for _, d := range s.Shape {
		p.integer(int64(d))
	}
	p.raw("t(")
	for i := range s.Shape {
		stride := int64(1)
		for _, d := range s.Shape[i+1:] {
			stride *= int64(max(d, 1))
		}
		p.integer(stride)
	}
	p.raw("t\x89")
	p.global("collections", "OrderedDict")
	p.raw(")RtR")
}
