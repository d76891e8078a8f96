package store

import (
	"context"
	"io"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
)

// Fetch copies an object into a file, which appears when it is complete.
func Fetch(ctx context.Context, s Store, name, path string) error {
	r, info, err := s.Open(ctx, name)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	f, err := disk.Create(path)
	if err != nil {
		return fault.Output.Wrap(storeOp+" "+name, fault.WithoutPath(err))
	}
	defer func() { _ = f.Close() }()
	n, err := io.Copy(f, disk.Reader(ctx, r))
	if err == nil && n != info.Size {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = f.Commit(0o600)
	}
	return fault.Output.Wrap("fetch object "+name, fault.WithoutPath(err))
}
