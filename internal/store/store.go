// Package store keeps the media of jobs (inputs, parts and results) as named objects
// in a folder, in the object store of NATS, or in an S3-compatible service.
package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lipstream/lipstream/internal/cluster"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
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
type Store struct {
	b   backend
	url string
}

// backend is a kind of store. It only gets valid names. Its errors are those of the
// service, except that a missing object is fs.ErrNotExist.
type backend interface {
	put(ctx context.Context, name string, r io.Reader) error
	open(ctx context.Context, name string) (io.ReadCloser, Info, error)
	stat(ctx context.Context, name string) (Info, error)
	remove(ctx context.Context, name string) error
	list(ctx context.Context, prefix string) ([]Info, error)
	// passing reports whether an error passes by itself, so that trying again helps.
	passing(error) bool
}

// Open opens a store by its URL:
//
//	dir:/var/lib/lipstream/media
//	objects:                                   (in NATS, of js)
//	s3://bucket/prefix?endpoint=host:9000&region=us-east-1&tls=false
//
// replicas is how many NATS servers keep each object; 0 leaves that as it is. The
// credentials for S3 are read from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
func Open(ctx context.Context, address string, js jetstream.JetStream, replicas int) (*Store, error) {
	scheme, rest, _ := strings.Cut(address, ":")
	switch scheme {
	case "dir":
		d, err := newDir(rest)
		return &Store{d, "dir:" + string(d)}, err
	case "objects":
		o, err := newObjects(ctx, js, replicas)
		return &Store{o, address}, err
	case "s3":
		u, err := url.Parse(address)
		if wrong, ok := errors.AsType[*url.Error](err); ok { // it names the address, which may have secrets
			return nil, fault.Usage.Wrap("open the store s3", wrong.Err, s3Form)
		}
		u.User = nil // the URL of a store has no secrets
		s, err := newS3(ctx, u)
		return &Store{s, u.String()}, err
	}
	return nil, fault.Usage.New("open the store "+address, "the kind of store is not known", "write dir:/path, objects: or s3://bucket?endpoint=host:port")
}

var nameForm = regexp.MustCompile(`^[a-z0-9_-][a-z0-9._-]*(/[a-z0-9_-][a-z0-9._-]*)*$`)

// checkName allows only names that every store accepts and that stay inside it.
func checkName(name string) error {
	if len(name) > 200 || !nameForm.MatchString(name) {
		return fault.Internal.New("name object "+name, "the name does not have the form of an object's name")
	}
	return nil
}

// Put makes or replaces an object. Until it returns nil, the object does not exist
// or is the old one: never half of the new one. If r is an io.Seeker, Put tries again
// from where r is now while the store does not answer.
func (s *Store) Put(ctx context.Context, name string, r io.Reader) error {
	if err := checkName(name); err != nil {
		return err
	}
	put := func() error { return s.b.put(ctx, name, disk.Reader(ctx, r)) }
	var err error
	if again, ok := r.(io.Seeker); !ok {
		err = put()
	} else if start, seekErr := again.Seek(0, io.SeekCurrent); seekErr != nil {
		err = seekErr
	} else {
		err = s.persist(ctx, func() error {
			if _, err := again.Seek(start, io.SeekStart); err != nil {
				return err
			}
			return put()
		})
	}
	return fault.Output.Wrap("keep object "+name, fault.WithoutPath(err), "check the free space of the store")
}

// persist calls f again while the store does not answer.
func (s *Store) persist(ctx context.Context, f func() error) error {
	_, err := cluster.While(ctx, s.b.passing, func() (any, error) { return nil, f() })
	return err
}

// Open reads an object from its beginning. If the object does not exist,
// errors.Is(err, fs.ErrNotExist) is true.
func (s *Store) Open(ctx context.Context, name string) (r io.ReadCloser, i Info, err error) {
	if err := checkName(name); err != nil {
		return nil, Info{}, err
	}
	err = s.persist(ctx, func() error {
		r, i, err = s.b.open(ctx, name)
		return err
	})
	return r, i, readFault(name, err)
}

// Stat describes an object. Its errors are those of Open.
func (s *Store) Stat(ctx context.Context, name string) (Info, error) {
	if err := checkName(name); err != nil {
		return Info{}, err
	}
	i, err := cluster.While(ctx, s.b.passing, func() (Info, error) { return s.b.stat(ctx, name) })
	return i, readFault(name, err)
}

func readFault(name string, err error) error {
	hint := ""
	if errors.Is(err, fs.ErrNotExist) {
		hint = "upload it again"
	}
	return fault.Input.Wrap("read object "+name, fault.WithoutPath(err), hint)
}

// Delete removes an object. It is no error if the object does not exist.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := s.persist(ctx, func() error { return s.b.remove(ctx, name) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fault.Output.Wrap("remove object "+name, fault.WithoutPath(err))
}

// List returns the objects whose names begin with prefix, ordered by name.
func (s *Store) List(ctx context.Context, prefix string) ([]Info, error) {
	all, err := cluster.While(ctx, s.b.passing, func() ([]Info, error) { return s.b.list(ctx, prefix) })
	if err != nil {
		return nil, fault.Input.Wrap("list objects of "+s.url, err)
	}
	slices.SortFunc(all, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Path returns the file of an object on this machine, or "" if it has none.
// The file must not be changed or removed.
func (s *Store) Path(name string) string {
	if d, ok := s.b.(dir); ok && checkName(name) == nil {
		return d.file(name)
	}
	return ""
}

// URL returns the address of the store in the form that Open takes, without secrets.
func (s *Store) URL() string { return s.url }

// Fetch copies an object into a file, which appears when it is complete. It tries
// again while the store does not answer.
func (s *Store) Fetch(ctx context.Context, name, path string) error {
	err := s.persist(ctx, func() error {
		r, info, err := s.Open(ctx, name)
		if err != nil {
			return err
		}
		defer func() { _ = r.Close() }()
		return disk.Write(path, 0o600, func(w io.Writer) error {
			n, err := io.Copy(w, disk.Reader(ctx, r))
			if err == nil && n != info.Size {
				err = io.ErrUnexpectedEOF
			}
			return err
		})
	})
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return fault.Output.Wrap("fetch object "+name, fault.WithoutPath(err))
}

// Own creates a folder if necessary and locks it for this process, until the lock is
// released or the process ends.
func Own(dir string) (*disk.Lock, error) {
	const hint = "choose another folder with `data`"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.Output.Wrap("make the folder "+dir, fault.WithoutPath(err), hint)
	}
	lock, err := disk.TryLock(filepath.Join(dir, "lock"))
	if errors.Is(err, disk.ErrLocked) {
		return nil, fault.Output.New("use the folder "+dir, "another lipstream uses it", "end that one, or "+hint)
	}
	return lock, fault.Output.Wrap("use the folder "+dir, fault.WithoutPath(err), hint)
}
