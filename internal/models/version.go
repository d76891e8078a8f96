package models

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

// Synthetic is the Version.Name of random checkpoints; see Synth.
const Synthetic = "synthetic"

// Version identifies the LatentSync or MuseTalk that a UNet belongs to.
type Version struct {
	Engine     Engine `json:"engine,omitempty"` // "" is LatentSync
	Name       string `json:"name"`             // "1.5", "1.6", "synthetic"; MuseTalk's "1.0", "1.5", "synthetic"; "" if unknown
	Resolution int    `json:"resolution"`       // side of the face crops that it was trained for: 256 or 512; 0 if unknown
	How        string `json:"how"`              // how it was identified; "" if unknown
}

// String returns a name such as "LatentSync 1.6".
func (v Version) String() string {
	switch v.Name {
	case "":
		return v.Engine.String() + " of unknown version"
	case Synthetic:
		return "synthetic (random weights)"
	}
	return v.Engine.String() + " " + v.Name
}

// CheckResolution returns an error for a resolution that the checkpoint was not trained
// for: it would run, but the results would be bad (spec section 8). Unknown versions and
// random weights support any.
func (v Version) CheckResolution(r int) error {
	if v.Resolution == 0 || v.Name == Synthetic || r == v.Resolution {
		return nil
	}
	return fault.Field("resolution", fmt.Sprint(r), fmt.Sprintf("does not suit the checkpoint, which is %v, made for %d pixels (according to %s)", v, v.Resolution, v.How),
		fmt.Sprintf("leave `resolution` out, or use a checkpoint made for %d pixels", r))
}

// sidecarName is the name of the file beside a UNet that describes it.
const sidecarName = "latentsync.json"

// sidecar is the JSON that Pull and Synth write beside a UNet. Users can write one for
// their own checkpoint, without sha256 and modified.
type sidecar struct {
	File       string    `json:"file,omitempty"` // the UNet's file name; "" is any file in the folder
	Version    string    `json:"version"`
	Resolution int       `json:"resolution"`
	Size       int64     `json:"size"` // in bytes
	SHA256     string    `json:"sha256,omitempty"`
	Modified   time.Time `json:"modified,omitzero"` // time of the file when the sum was computed
}

func (s *sidecar) toVersion() Version {
	return Version{Name: s.Version, Resolution: s.Resolution, How: sidecarName + " beside it"}
}

// readSidecar returns the sidecar of a UNet, or nil if there is none for a file of this
// name and size.
func readSidecar(unet string, st fs.FileInfo) *sidecar {
	var s sidecar
	if readJSON(filepath.Join(filepath.Dir(unet), sidecarName), &s) != nil {
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

// writeSidecar writes the sidecar of the UNet at path; sum may be "".
func writeSidecar(path string, v Version, sum string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	return writeJSON(filepath.Join(filepath.Dir(path), sidecarName),
		sidecar{File: filepath.Base(path), Version: v.Name, Resolution: v.Resolution, Size: st.Size(), SHA256: sum, Modified: st.ModTime()})
}

// Identify returns the version of the LatentSync UNet at a path:
//  1. that of latentsync.json beside it, if size and time agree with the file, or
//     else size and SHA-256;
//  2. the published version with its SHA-256, which is computed only for a file with
//     exactly the size of a published one, and only once: it is stored;
//  3. otherwise the zero Version, without an error.
func Identify(ctx context.Context, path string) (Version, error) { return identify(ctx, UNet, path) }

func identify(ctx context.Context, kind Kind, path string) (Version, error) {
	st, err := os.Stat(path)
	if err != nil {
		return Version{}, readFault(path, err)
	}
	if v, ok := quickVersion(kind, path, st); ok || kind == MuseTalkUNet {
		return v, nil
	}
	s := readSidecar(path, st)
	if s == nil && bySize(UNet, st.Size()) == nil {
		return Version{}, nil
	}
	sum, err := fileSum(ctx, path, nil)
	if err != nil {
		return Version{}, err
	}
	if s != nil && strings.EqualFold(s.SHA256, sum) {
		return s.toVersion(), nil
	}
	return versionOfSum(kind, sum), nil
}

func versionOfSum(kind Kind, sum string) Version {
	k := bySum(sum)
	if k == nil || k.kind != kind {
		return Version{}
	}
	v := k.version
	v.How = "its SHA-256"
	return v
}

// quickVersion returns the version if it is known without reading the file.
func quickVersion(kind Kind, path string, st fs.FileInfo) (Version, bool) {
	if kind == MuseTalkUNet {
		v := museTalkVersion(path, st)
		return v, v.Name != ""
	}
	if s := readSidecar(path, st); s != nil && (s.SHA256 == "" || s.Modified.Equal(st.ModTime())) {
		return s.toVersion(), true
	}
	sum, _ := recall(path, st)
	v := versionOfSum(kind, sum)
	return v, v.Name != ""
}

// quickSum returns the SHA-256 of a checkpoint if it is known without reading the file.
func quickSum(path string, st fs.FileInfo) (string, bool) {
	if s := readSidecar(path, st); s != nil && s.SHA256 != "" && s.Modified.Equal(st.ModTime()) {
		return strings.ToLower(s.SHA256), true
	}
	return recall(path, st)
}
