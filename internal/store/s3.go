package store

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/lipstream/lipstream/internal/certificate"
	"github.com/lipstream/lipstream/internal/fault"
)

// s3 is a store in a bucket of an S3-compatible service.
type s3 struct {
	c              *minio.Client
	bucket, prefix string
}

const (
	// partSize bounds the memory of an upload of unknown size.
	partSize = 16 << 20
	s3Form   = "write s3://bucket/prefix?endpoint=host:port"
)

// newS3 opens a bucket, which must exist.
func newS3(ctx context.Context, u *url.URL) (*s3, error) {
	q, op := u.Query(), "open the store "+u.String()
	s := &s3{bucket: u.Host}
	if path := strings.Trim(u.Path, "/"); path != "" {
		s.prefix = path + "/"
	}
	var err error
	s.c, err = minio.New(cmp.Or(q.Get("endpoint"), "s3.amazonaws.com"), &minio.Options{
		Creds: credentials.NewEnvAWS(), Secure: q.Get("tls") != "false", Region: cmp.Or(q.Get("region"), "us-east-1"),
	})
	if err != nil {
		return nil, fault.Usage.Wrap(op, err, s3Form)
	}
	// A HEAD of the bucket would not say what is wrong with the credentials.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i := range s.c.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix, Recursive: true, MaxKeys: 1}) {
		err = i.Err
		break
	}
	if minio.ToErrorResponse(err).Code == minio.NoSuchBucket {
		return nil, fault.Missing.New(op, "the bucket does not exist", "create it, or correct its name")
	}
	return s, fault.Missing.Wrap(op, err, "check the endpoint, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
}

// passing reports whether the service could not be reached or was not able to answer.
func (s *s3) passing(err error) bool {
	if certificate.Hint(err, "", "", "") != "" {
		return false
	}
	r, _ := errors.AsType[minio.ErrorResponse](err)
	_, unreachable := errors.AsType[net.Error](err)
	return unreachable || errors.Is(err, io.ErrUnexpectedEOF) || r.StatusCode >= 500
}

func (s *s3) put(ctx context.Context, name string, r io.Reader) error {
	_, err := s.c.PutObject(ctx, s.bucket, s.prefix+name, r, -1, minio.PutObjectOptions{PartSize: partSize, NumThreads: 1})
	return err
}

func (s *s3) open(ctx context.Context, name string) (io.ReadCloser, Info, error) {
	r, i, _, err := minio.Core{Client: s.c}.GetObject(ctx, s.bucket, s.prefix+name, minio.GetObjectOptions{})
	return r, Info{name, i.Size, i.LastModified}, s3Error(err)
}

func (s *s3) stat(ctx context.Context, name string) (Info, error) {
	i, err := s.c.StatObject(ctx, s.bucket, s.prefix+name, minio.StatObjectOptions{})
	return Info{name, i.Size, i.LastModified}, s3Error(err)
}

func s3Error(err error) error {
	if minio.ToErrorResponse(err).StatusCode == http.StatusNotFound {
		return fs.ErrNotExist
	}
	return err
}

func (s *s3) remove(ctx context.Context, name string) error {
	return s.c.RemoveObject(ctx, s.bucket, s.prefix+name, minio.RemoveObjectOptions{})
}

func (s *s3) list(ctx context.Context, prefix string) (all []Info, err error) {
	for i := range s.c.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}) {
		if i.Err != nil {
			return nil, i.Err
		}
		all = append(all, Info{strings.TrimPrefix(i.Key, s.prefix), i.Size, i.LastModified})
	}
	return all, nil
}
