package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
)

// bucket in NATS.
const bucket = "lipstream_media"

// Objects is the object store of NATS JetStream.
type Objects struct{ o jetstream.ObjectStore }

// NewObjects opens the object store, which it creates if necessary.
func NewObjects(ctx context.Context, js jetstream.JetStream) (*Objects, error) {
	o, err := js.ObjectStore(ctx, bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		o, err = js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: bucket, Description: "media of Lipstream's jobs"})
	}
	if err != nil {
		return nil, fault.Missing.Wrap("open the store objects:", err, "check that the NATS servers run and have JetStream enabled")
	}
	return &Objects{o}, nil
}

// Put implements Store.
func (s *Objects) Put(ctx context.Context, name string, r io.Reader) (Info, error) {
	if err := checkName(name); err != nil {
		return Info{}, err
	}
	i, err := s.o.Put(ctx, jetstream.ObjectMeta{Name: name}, disk.Reader(ctx, r))
	if err != nil {
		return Info{}, fault.Output.Wrap(storeOp+" "+name, err)
	}
	return infoOf(i), nil
}

func infoOf(i *jetstream.ObjectInfo) Info { return Info{i.Name, int64(i.Size), i.ModTime} }

// failure turns NATS's errors into those of a Store.
func (s *Objects) failure(name string, err error) error {
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		err = fs.ErrNotExist
	}
	return fault.Input.Wrap("read object "+name, err)
}

// Open implements Store.
func (s *Objects) Open(ctx context.Context, name string) (io.ReadCloser, Info, error) {
	i, err := s.Stat(ctx, name)
	if err != nil {
		return nil, i, err
	}
	r, err := s.o.Get(ctx, name)
	if err != nil {
		return nil, i, s.failure(name, err)
	}
	return r, i, nil
}

// Stat implements Store.
func (s *Objects) Stat(ctx context.Context, name string) (Info, error) {
	if err := checkName(name); err != nil {
		return Info{}, err
	}
	i, err := s.o.GetInfo(ctx, name)
	if err != nil {
		return Info{}, s.failure(name, err)
	}
	return infoOf(i), nil
}

// Delete implements Store.
func (s *Objects) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := s.o.Delete(ctx, name); err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
		return fault.Output.Wrap("remove object "+name, err)
	}
	return nil
}

// List implements Store.
func (s *Objects) List(ctx context.Context, prefix string) ([]Info, error) {
	list, err := s.o.List(ctx)
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Input.Wrap("list objects of "+s.URL(), err)
	}
	var all []Info
	for _, i := range list {
		if !i.Deleted && strings.HasPrefix(i.Name, prefix) {
			all = append(all, infoOf(i))
		}
	}
	sortByName(all)
	return all, nil
}

// Path implements Store.
func (s *Objects) Path(string) string { return "" }

// URL implements Store.
func (s *Objects) URL() string { return "objects:" }

// Close implements Store.
func (s *Objects) Close() error { return nil }
