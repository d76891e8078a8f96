package checkpoint

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// archive is the zip of a PyTorch file. The names of its members do not include the
// folder that contains them all, which has the name of the file.
type archive struct {
	members map[string]*zip.File
	size    int64 // of the whole file
}

// openArchive reads the directory of a zip (also zip64). It returns an error if it is not
// a checkpoint or cannot be mapped.
func openArchive(data []byte) (*archive, error) {
	size := int64(len(data))
	z, err := zip.NewReader(bytes.NewReader(data), size)
	if errors.Is(err, zip.ErrFormat) {
		return nil, cutOff(len(data), "the zip's directory, which is at its end, is missing or broken")
	}
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // names are only compared
		return nil, fmt.Errorf("zip directory: %w", err)
	}
	if len(z.File) > maxMembers {
		return nil, fmt.Errorf("the zip has %d files, and at most %d are allowed", len(z.File), maxMembers)
	}
	root, err := archiveRoot(z)
	if err != nil {
		return nil, err
	}
	a := &archive{map[string]*zip.File{}, size}
	for _, m := range z.File {
		name, ok := strings.CutPrefix(m.Name, root)
		if !ok {
			continue
		}
		if a.members[name] != nil {
			return nil, fmt.Errorf("%s is in the zip twice", quote(m.Name))
		}
		if name == "constants.pkl" || strings.HasPrefix(name, "code/") {
			return nil, refuse("use the checkpoint with the plain weights (a state dict)",
				"it is a TorchScript archive (it contains %s), not a checkpoint of weights", quote(m.Name))
		}
		a.members[name] = m
	}
	return a, nil
}

// archiveRoot returns the folder of data.pkl, with a slash.
func archiveRoot(z *zip.Reader) (string, error) {
	root, found := "", false
	for _, m := range z.File {
		folder, ok := strings.CutSuffix(m.Name, "data.pkl")
		if !ok || strings.Count(folder, "/") != 1 || !strings.HasSuffix(folder, "/") {
			continue
		}
		if found && folder != root {
			return "", fmt.Errorf("the zip has two data.pkl: in %s and %s", quote(root), quote(folder))
		}
		root, found = folder, true
	}
	if !found {
		return "", refuse("", "it is a zip, but not from PyTorch: it has no data.pkl (%d files)", len(z.File))
	}
	return root, nil
}

// locate returns the offset and the size of a member in the file.
func (a *archive) locate(name string) (offset, size int64, err error) {
	m := a.members[name]
	switch {
	case m == nil:
		return 0, 0, fmt.Errorf("%s is missing in the zip", quote(name))
	case m.Flags&1 != 0:
		return 0, 0, refuse("unpack it and save it again with PyTorch", "%s is encrypted", quote(m.Name))
	case m.Method != zip.Store || m.CompressedSize64 != m.UncompressedSize64:
		return 0, 0, refuse("PyTorch writes without compression: save it again with PyTorch",
			"%s is compressed (method %d)", quote(m.Name), m.Method)
	case m.UncompressedSize64 > uint64(a.size):
		return 0, 0, fmt.Errorf("%s claims %d bytes, but the whole file has %d", quote(m.Name), m.UncompressedSize64, a.size)
	}
	offset, err = m.DataOffset()
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", quote(m.Name), err)
	}
	size = int64(m.UncompressedSize64)
	if offset < 0 || offset > a.size-size {
		return 0, 0, fmt.Errorf("%s is outside the file", quote(m.Name))
	}
	return offset, size, nil
}

// read returns the content of a small member and verifies its checksum.
func (a *archive) read(name string, limit int64) ([]byte, error) {
	_, size, err := a.locate(name)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%s has %d bytes, and at most %d are allowed", quote(name), size, limit)
	}
	r, err := a.members[name].Open()
	var b []byte
	if err == nil {
		defer r.Close()
		b, err = io.ReadAll(r)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", quote(name), err)
	}
	return b, nil
}
