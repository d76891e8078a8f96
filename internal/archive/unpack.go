package archive

import (
	"archive/zip"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/lipstream/lipstream/internal/disk"
)

// maxUnpacked limits the size of an unpacked archive. CUDA's libraries are the largest,
// near 1 GB.
const maxUnpacked = 4 << 30

// unpack writes the files to keep of a zip into the new folder to, with licences in
// licenses/. It returns the SHA-256 of each.
func (a Archive) unpack(ctx context.Context, r io.ReaderAt, size int64, to string) (map[string]string, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		return nil, err
	}
	sums := map[string]string{}
	left := int64(maxUnpacked)
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, "/") || !Matches(f.Name, a.Keep) { // a folder
			continue
		}
		name, err := target(f.Name)
		if err != nil {
			return nil, err
		}
		if !f.Mode().IsRegular() {
			return nil, fmt.Errorf("%q is not a regular file", f.Name)
		}
		if _, ok := sums[name]; ok {
			return nil, fmt.Errorf("%q occurs twice", name)
		}
		n, sum, err := a.extract(ctx, f, filepath.Join(to, filepath.FromSlash(name)), left)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", f.Name, err)
		}
		left -= n
		sums[name] = sum
	}
	return sums, nil
}

// Matches reports whether one of the patterns of path.Match matches name. A malformed
// pattern matches nothing.
func Matches(name string, patterns []string) bool {
	for _, p := range patterns {
		if ok, _ := path.Match(p, name); ok {
			return true
		}
	}
	return false
}

// target returns where to put a file of the archive. Only the last part of its name
// counts, so that no name leads out of the folder.
func target(name string) (string, error) {
	base := path.Base(name)
	if base == "." || base == ".." || base == "/" || strings.ContainsAny(base, `\:`) || !filepath.IsLocal(base) {
		return "", fmt.Errorf("%q is not the name of a file", name)
	}
	for _, stem := range []string{"LICENSE", "ThirdPartyNotices"} {
		if strings.HasPrefix(base, stem) {
			return "licenses/" + base, nil
		}
	}
	if strings.Contains(name, "/licenses/") {
		return "licenses/" + base, nil
	}
	return base, nil
}

// extract writes one file. archive/zip checks its CRC.
func (a Archive) extract(ctx context.Context, f *zip.File, to string, limit int64) (n int64, sum string, err error) {
	if f.UncompressedSize64 > uint64(limit) {
		return 0, "", fmt.Errorf("it is too large: %d bytes", f.UncompressedSize64)
	}
	in, err := f.Open()
	if err != nil {
		return 0, "", err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return 0, "", err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, cmp.Or(a.Mode, 0o644))
	if err != nil {
		return 0, "", err
	}
	h := sha256.New()
	// archive/zip returns no more than the announced size.
	n, err = io.Copy(io.MultiWriter(out, h), disk.Reader(ctx, in))
	err = errors.Join(err, out.Close())
	return n, hex.EncodeToString(h.Sum(nil)), err
}
