package models

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

// Synthetic is the Version.Name of random checkpoints (see Synth).
const Synthetic = "synthetic"

// Version is which LatentSync a UNet is.
type Version struct {
	Name       string `json:"name"`       // "1.5", "1.6", "synthetic"; "" when unknown
	Resolution int    `json:"resolution"` // side of the pictures that it was made for: 256 or 512; 0 when unknown
	How        string `json:"how"`        // how it is known; "" when unknown
}

// String is the version's name for people.
func (v Version) String() string {
	switch v.Name {
	case "":
		return "LatentSync of unknown version"
	case Synthetic:
		return "synthetic (random weights)"
	}
	return "LatentSync " + v.Name
}

// CheckResolution refuses a resolution that the checkpoint was not made for:
// it would run, and give bad pictures (docs/spec/latentsync.md 8 What differs). Unknown versions and
// random weights take any.
func (v Version) CheckResolution(r int) error {
	if v.Resolution == 0 || v.Name == Synthetic || r == v.Resolution {
		return nil
	}
	return fault.Usage.New("use resolution "+fmt.Sprint(r), fmt.Sprintf("this is %v, made for %d pixels (known by %s)", v, v.Resolution, v.How),
		fmt.Sprintf("leave --resolution out, or use a checkpoint made for %d pixels", r))
}

// sidecarName is the file beside a UNet that says what it is.
const sidecarName = "latentsync.json"

// sidecar is what Pull and Synth write beside a UNet, in JSON. People may
// write one for their own checkpoint; sha256 and modified can then be left out.
type sidecar struct {
	File       string    `json:"file,omitempty"` // the UNet's file name; "" is any in this folder
	Version    string    `json:"version"`
	Resolution int       `json:"resolution"`
	Size       int64     `json:"size"` // in bytes
	SHA256     string    `json:"sha256,omitempty"`
	Modified   time.Time `json:"modified,omitzero"` // of the file, when the sum was computed
}

func (s *sidecar) toVersion() Version {
	return Version{Name: s.Version, Resolution: s.Resolution, How: sidecarName + " beside it"}
}

// readSidecar gives what stands beside a UNet, or nil where there is nothing
// that fits a file of this name and size.
func readSidecar(unet string, st fs.FileInfo) *sidecar {
	data, err := os.ReadFile(filepath.Join(filepath.Dir(unet), sidecarName))
	var s sidecar
	if err != nil || json.Unmarshal(data, &s) != nil {
		return nil
	}
	if s.File != "" && s.File != filepath.Base(unet) || s.Size != st.Size() || s.Version == "" || s.Resolution < 0 {
		return nil
	}
	if s.SHA256 != "" && !isSum(s.SHA256) {
		return nil
	}
	return &s
}

// writeSidecar notes what the UNet at path is; sum may be "".
func writeSidecar(path string, v Version, sum string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	return writeJSON(filepath.Join(filepath.Dir(path), sidecarName),
		sidecar{File: filepath.Base(path), Version: v.Name, Resolution: v.Resolution, Size: st.Size(), SHA256: sum, Modified: st.ModTime()})
}

// Identify tells which LatentSync the UNet at a path is:
//  1. what latentsync.json beside it says, if size and time agree with it, or
//     else size and SHA-256;
//  2. the published version with its SHA-256, which is computed only for a
//     file with exactly the size of a published one, once: it is remembered;
//  3. otherwise the zero Version, without an error.
func Identify(ctx context.Context, path string) (Version, error) {
	st, err := os.Stat(path)
	if err != nil {
		return Version{}, readFault(path, err)
	}
	if v, ok := quickVersion(path, st); ok {
		return v, nil
	}
	s := readSidecar(path, st)
	if _, ok := bySize(UNet, st.Size()); !ok && s == nil {
		return Version{}, nil
	}
	sum, err := fileSum(ctx, path, nil)
	if err != nil {
		return Version{}, err
	}
	if s != nil && strings.EqualFold(s.SHA256, sum) {
		return s.toVersion(), nil
	}
	return versionOfSum(sum), nil
}

func versionOfSum(sum string) Version {
	k, ok := bySum(sum)
	if !ok || k.kind != UNet {
		return Version{}
	}
	v := k.version
	v.How = "its SHA-256"
	return v
}

// quickVersion is Identify as far as it goes without reading the file.
func quickVersion(path string, st fs.FileInfo) (Version, bool) {
	if s := readSidecar(path, st); s != nil && (s.SHA256 == "" || s.Modified.Equal(st.ModTime())) {
		return s.toVersion(), true
	}
	if sum, ok := recall(path, st); ok {
		if v := versionOfSum(sum); v.Name != "" {
			return v, true
		}
	}
	return Version{}, false
}

// quickSum is the SHA-256 of a checkpoint where it is known without reading
// the file.
func quickSum(path string, st fs.FileInfo) (string, bool) {
	if s := readSidecar(path, st); s != nil && s.SHA256 != "" && s.Modified.Equal(st.ModTime()) {
		return strings.ToLower(s.SHA256), true
	}
	return recall(path, st)
}
