package store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lipstream/lipstream/internal/cluster"
	"github.com/lipstream/lipstream/internal/fault"
)

// bucket in NATS, and the stream behind it.
const (
	bucket = "lipstream_media"
	stream = "OBJ_" + bucket
)

// objects is the object store of NATS JetStream.
type objects struct {
	o  jetstream.ObjectStore
	js jetstream.JetStream
}

var (
	// errBehind is returned when a replica does not have the newest version of an object yet.
	errBehind = errors.New("a replica is behind")
	// errReplaced is returned when an object is replaced while it is read.
	errReplaced = errors.New("it was replaced in the meantime")
)

// newObjects opens the object store. If replicas is not 0, it is created if necessary,
// and as many NATS servers keep each object.
func newObjects(ctx context.Context, js jetstream.JetStream, replicas int) (objects, error) {
	o, err := cluster.Persist(ctx, func(ctx context.Context) (jetstream.ObjectStore, error) {
		if replicas == 0 {
			return js.ObjectStore(ctx, bucket)
		}
		return js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: bucket, Description: "media of Lipstream's jobs", Replicas: replicas})
	})
	return objects{o, js}, fault.Missing.Wrap("open the store objects:", err, "check that the NATS servers run and have JetStream enabled")
}

func (objects) passing(err error) bool {
	return cluster.Passing(err) || errors.Is(err, errBehind) || errors.Is(err, errReplaced) || errors.Is(err, jetstream.ErrDigestMismatch)
}

func (s objects) put(ctx context.Context, name string, r io.Reader) error {
	if _, err := s.o.Put(ctx, jetstream.ObjectMeta{Name: name}, r); err != nil {
		return err
	}
	// nats.go sends a chunk again while the stream has no leader, but by then it has put
	// later data into the same buffer. The digest of the object shows it.
	err := s.verify(ctx, name)
	if errors.Is(err, jetstream.ErrDigestMismatch) {
		_ = s.o.Delete(ctx, name)
	}
	return err
}

// verify reads an object whose digest may be wrong.
func (s objects) verify(ctx context.Context, name string) error {
	o, _, err := s.open(ctx, name)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, o)
	return errors.Join(err, o.Close())
}

func (s objects) open(ctx context.Context, name string) (io.ReadCloser, Info, error) {
	i, err := s.info(ctx, name)
	if err != nil {
		return nil, Info{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	return &reading{s: s, ctx: ctx, cancel: cancel, info: i, left: i.Size, digest: sha256.New()}, described(i), nil
}

func (s objects) stat(ctx context.Context, name string) (Info, error) {
	i, err := s.info(ctx, name)
	return described(i), err
}

func described(i jetstream.ObjectInfo) Info { return Info{i.Name, int64(i.Size), i.ModTime} }

// info describes an object as the leader has it.
func (s objects) info(ctx context.Context, name string) (i jetstream.ObjectInfo, err error) {
	// https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-20.md
	m, err := cluster.Last(ctx, s.js, stream, "$O."+bucket+".M."+base64.URLEncoding.EncodeToString([]byte(name)))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return i, fs.ErrNotExist
	}
	if err == nil {
		err = json.Unmarshal(m.Data, &i)
	}
	if err != nil {
		return i, err
	}
	if i.Deleted {
		err = fs.ErrNotExist
	}
	i.ModTime = m.Time
	return i, err
}

func (s objects) remove(ctx context.Context, name string) error {
	err := s.o.Delete(ctx, name)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		if _, err = s.info(ctx, name); err == nil {
			err = errBehind
		}
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
			all = append(all, described(*i))
		}
	}
	return all, err
}
