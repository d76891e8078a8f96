package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lipstream/lipstream/internal/fault"
)

// bucket in NATS.
const bucket = "lipstream_media"

// objects is the object store of NATS JetStream.
type objects struct{ o jetstream.ObjectStore }

// newObjects opens the object store, which it creates if necessary.
func newObjects(ctx context.Context, js jetstream.JetStream) (objects, error) {
	o, err := js.ObjectStore(ctx, bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		o, err = js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: bucket, Description: "media of Lipstream's jobs"})
	}
	return objects{o}, fault.Missing.Wrap("open the store objects:", err, "check that the NATS servers run and have JetStream enabled")
}

func (s objects) put(ctx context.Context, name string, r io.Reader) error {
	_, err := s.o.Put(ctx, jetstream.ObjectMeta{Name: name}, r)
	return err
}

func (s objects) open(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := s.o.Get(ctx, name)
	return r, missing(err)
}

func (s objects) stat(ctx context.Context, name string) (Info, error) {
	i, err := s.o.GetInfo(ctx, name)
	if err != nil {
		return Info{}, missing(err)
	}
	return Info{i.Name, int64(i.Size), i.ModTime}, nil
}

func (s objects) remove(ctx context.Context, name string) error {
	return missing(s.o.Delete(ctx, name))
}

// missing returns fs.ErrNotExist for NATS's error that an object does not exist.
func missing(err error) error {
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return fs.ErrNotExist
	}
	return err
}

func (s objects) list(ctx context.Context, prefix string) ([]Info, error) {
	list, err := s.o.List(ctx)
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil, nil
	}
	var all []Info
	for _, i := range list {
		if !i.Deleted && strings.HasPrefix(i.Name, prefix) {
			all = append(all, Info{i.Name, int64(i.Size), i.ModTime})
		}
	}
	return all, err
}
