// Package store keeps the media of jobs: inputs, parts and results, as objects
// under names. A folder, NATS's object store and S3-compatible services do it;
// storetest is their common test.
package store

import (
	"context"
	"io"
	"time"
)

// Info tells of an object.
type Info struct {
	Name     string
	Size     int64 // bytes
	Modified time.Time
}

// Store keeps objects. Its methods may be called from any goroutine. Names are
// made by Lipstream, [a-z0-9/._-]{1,200}, without empty parts and parts that
// begin with a dot; a name of another form is a fault of kind Internal.
type Store interface {
	// Put makes or replaces an object. Until it returns nil the object is not
	// there, or is the old one: never half of the new one.
	Put(ctx context.Context, name string, r io.Reader) (Info, error)
	// Open reads an object from its beginning. One that is not there is an
	// error for which errors.Is(err, fs.ErrNotExist).
	Open(ctx context.Context, name string) (io.ReadCloser, Info, error)
	Stat(ctx context.Context, name string) (Info, error)
	// Delete removes an object; one that is not there is no error.
	Delete(ctx context.Context, name string) error
	// List gives the objects whose names begin with prefix, ordered by name.
	List(ctx context.Context, prefix string) ([]Info, error)
	// Path is the file of an object where it is one of this machine, "" else.
	// It may be read, and neither changed nor removed.
	Path(name string) string
	// URL says where the store is, without secrets, in the form that Open of
	// this package takes.
	URL() string
	Close() error
}
