// Package store keeps the media of jobs (inputs, parts and results) as named objects
// in a folder, in the object store of NATS, or in an S3-compatible service. Package
// storetest tests them all.
package store

import (
	"context"
	"io"
	"time"
)

// Info describes an object.
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
	// Open reads an object from its beginning. If the object does not exist,
	// errors.Is(err, fs.ErrNotExist) is true.
	Open(ctx context.Context, name string) (io.ReadCloser, Info, error)
	Stat(ctx context.Context, name string) (Info, error)
	// Delete removes an object. It is no error if the object does not exist.
	Delete(ctx context.Context, name string) error
	// List returns the objects whose names begin with prefix, ordered by name.
	List(ctx context.Context, prefix string) ([]Info, error)
	// Path returns the file of an object on this machine, or "" if it has none.
	// The file must not be changed or removed.
	Path(name string) string
	// URL returns the address of the store in the form that Open takes, without
	// secrets.
	URL() string
	Close() error
}
