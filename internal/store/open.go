package store

import (
	"context"
	"net/url"
	"regexp"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lipstream/lipstream/internal/fault"
)

// Open opens a store by its URL:
//
//	dir:/var/lib/lipstream/media
//	objects:                                   (in NATS, of js)
//	s3://bucket/prefix?endpoint=host:9000&region=us-east-1&tls=false
//
// The credentials for S3 are read from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
func Open(ctx context.Context, address string, js jetstream.JetStream) (Store, error) {
	scheme, rest, _ := strings.Cut(address, ":")
	switch scheme {
	case "dir":
		return NewDir(rest)
	case "objects":
		return NewObjects(ctx, js)
	case "s3":
		u, err := url.Parse(address)
		if err != nil {
			return nil, fault.Usage.Wrap("open the store s3", err, "write s3://bucket/prefix?endpoint=host:port")
		}
		return NewS3(ctx, u)
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
