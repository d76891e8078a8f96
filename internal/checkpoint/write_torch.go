package checkpoint

import (
	"archive/zip"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/tensor"
)

// Entry is a key of a dict with its value: nil, bool, int, int64, float64,
// string, []Entry or map[string]any (a nested dict, sorted by key).
type Entry struct {
	Key   string
	Value any
}

// torchAlign is what torch.save aligns storages to, in bytes.
const torchAlign = 64

// storageClasses are PyTorch's names for the element types.
var storageClasses = map[tensor.DType]string{
	tensor.F32: "FloatStorage", tensor.F16: "HalfStorage", tensor.BF16: "BFloat16Storage",
	tensor.I64: "LongStorage", tensor.U8: "ByteStorage",
}

// WriteTorch writes a PyTorch file to w, in one pass, as torch.save does and
// torch.load(weights_only=True) reads. The top-level dict holds top and then,
// under stateKey, the tensors as an OrderedDict; with stateKey "" the tensors
// are at the top level themselves. fill writes the bytes of the i-th tensor of
// specs, row-major and little-endian; it is called once for each, in order.
// Memory does not grow with the tensors.
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
		member, err := out.create("data/"+strconv.Itoa(i), specs[i].size())
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

// torchArchive writes a zip whose members are stored and aligned. Checksums
// follow the members (data descriptors), as in PyTorch's own files, so that
// nothing has to be read twice.
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

// create begins a member of size bytes. An extra field "FB" fills its header
// up, so that the content begins at a multiple of torchAlign.
func (a *torchArchive) create(name string, size int64) (io.Writer, error) {
	const localHeader, extraHeader = 30, 4
	name = "archive/" + name // torch.load wants one folder, of any name
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
