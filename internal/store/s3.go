package store

import (
	"cmp"
	"context"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/lipstream/lipstream/internal/fault"
)

// S3 is a store in a bucket of an S3-compatible service.
type S3 struct {
	c              *minio.Client
	bucket, prefix string
	url            string
}

// partSize bounds the memory of an upload of unknown size.
const partSize = 16 << 20

// NewS3 opens a bucket, which must exist.
func NewS3(ctx context.Context, u *url.URL) (*S3, error) {
	q := u.Query()
	s := &S3{bucket: u.Host, prefix: strings.Trim(u.Path, "/"), url: (&url.URL{Scheme: "s3", Host: u.Host, Path: u.Path, RawQuery: u.RawQuery}).String()}
	if s.prefix != "" {
		s.prefix += "/"
	}
	var err error
	s.c, err = minio.New(cmp.Or(q.Get("endpoint"), "s3.amazonaws.com"), &minio.Options{
		Creds: credentials.NewEnvAWS(), Secure: q.Get("tls") != "false", Region: cmp.Or(q.Get("region"), "us-east-1"),
	})
	if err != nil {
		return nil, fault.Usage.Wrap("open the store "+s.url, err, "write s3://bucket/prefix?endpoint=host:port")
	}
	ok, err := s.c.BucketExists(ctx, s.bucket)
	if err == nil && !ok {
		return nil, fault.Missing.New("open the store "+s.url, "the bucket does not exist", "create it, or check AWS_ACCESS_KEY_ID")
	}
	return s, fault.Missing.Wrap("open the store "+s.url, err, "check the endpoint, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
}

// Put implements Store.
func (s *S3) Put(ctx context.Context, name string, r io.Reader) (Info, error) {
	if err := checkName(name); err != nil {
		return Info{}, err
	}
	if _, err := s.c.PutObject(ctx, s.bucket, s.prefix+name, r, -1, minio.PutObjectOptions{PartSize: partSize, NumThreads: 1}); err != nil {
		return Info{}, fault.Output.Wrap(storeOp+" "+name, err)
	}
	return s.Stat(ctx, name)
}

func (s *S3) failure(name string, err error) error {
	if minio.ToErrorResponse(err).StatusCode == http.StatusNotFound {
		err = fs.ErrNotExist
	}
	return fault.Input.Wrap("read object "+name, err)
}

// Open implements Store.
func (s *S3) Open(ctx context.Context, name string) (io.ReadCloser, Info, error) {
	i, err := s.Stat(ctx, name)
	if err != nil {
		return nil, i, err
	}
	r, err := s.c.GetObject(ctx, s.bucket, s.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, i, s.failure(name, err)
	}
	return r, i, nil
}

// Stat implements Store.
func (s *S3) Stat(ctx context.Context, name string) (Info, error) {
	if err := checkName(name); err != nil {
		return Info{}, err
	}
	i, err := s.c.StatObject(ctx, s.bucket, s.prefix+name, minio.StatObjectOptions{})
	if err != nil {
		return Info{}, s.failure(name, err)
	}
	return Info{name, i.Size, i.LastModified}, nil
}

// Delete implements Store.
func (s *S3) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	return fault.Output.Wrap("remove object "+name, s.c.RemoveObject(ctx, s.bucket, s.prefix+name, minio.RemoveObjectOptions{}))
}

// List implements Store.
func (s *S3) List(ctx context.Context, prefix string) ([]Info, error) {
	var all []Info
	for i := range s.c.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}) {
		if i.Err != nil {
			return nil, fault.Input.Wrap("list objects of "+s.url, i.Err)
		}
		all = append(all, Info{strings.TrimPrefix(i.Key, s.prefix), i.Size, i.LastModified})
	}
	sortByName(all)
	return all, nil
}

// Path implements Store.
func (s *S3) Path(string) string { return "" }

// URL implements Store.
func (s *S3) URL() string { return s.url }

// Close implements Store.
func (s *S3) Close() error { return nil }
