package models

import (
	"context"
	"os"
	"path/filepath"

	"github.com/lipstream/lipstream/internal/tensor"
)

// Row describes a checkpoint of a models folder, or one that is missing.
type Row struct {
	Kind     Kind              `json:"kind"`
	Path     string            `json:"path,omitempty"` // "" when missing
	Size     int64             `json:"size,omitempty"` // in bytes
	Version  *Version          `json:"version,omitempty"`
	Prepared map[string]string `json:"prepared,omitempty"` // converted files by their type: "f16", "bf16"
	Hint     string            `json:"hint,omitempty"`     // how to get what is missing
}

// List returns all checkpoints in a models folder, with all versions of the UNet, and
// those that are missing of a complete set. It reads no weights: a UNet whose version is
// not known yet has the zero Version.
func List(ctx context.Context, dir string) []Row {
	var rows []Row
	for _, d := range withVersions(dir) {
		if path := first(UNet, d); path != "" {
			rows = append(rows, row(ctx, UNet, path))
		}
	}
	if len(rows) == 0 {
		rows = append(rows, Row{Kind: UNet, Hint: "run: lipstream models pull " + version16})
	}
	set, _ := find(dir)
	return append(rows, row(ctx, Whisper, set.Whisper), row(ctx, VAE, set.VAE))
}

// row describes a checkpoint; path is "" if it is missing.
func row(ctx context.Context, kind Kind, path string) Row {
	if path == "" {
		return Row{Kind: kind, Hint: "run: lipstream models pull " + string(kind)}
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	r := Row{Kind: kind, Path: path, Prepared: map[string]string{}}
	if st, err := os.Stat(path); err == nil {
		r.Size = st.Size()
		if kind == UNet {
			v, _ := quickVersion(path, st)
			r.Version = &v
		}
	}
	for _, d := range []tensor.DType{tensor.F16, tensor.BF16} {
		if file, ok := Prepared(ctx, path, d); ok {
			r.Prepared[d.String()] = file
		}
	}
	return r
}
