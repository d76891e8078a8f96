package checkpoint

import (
	"archive/zip"
	"io"
	"math"
	"strconv"
	"strings"

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
