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
// Who may use the S3 service is in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
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
	return nil, fault.Usage.New("open the store "+address, "is no kind of store", "write dir:/path, objects: or s3://bucket?endpoint=host:port")
}

var nameForm = regexp.MustCompile(`^[a-z0-9_-][a-z0-9._-]*(/[a-z0-9_-][a-z0-9._-]*)*$`)

// checkName keeps to the form that all stores can have, and paths inside.
func checkName(name string) error {
	if len(name) > 200 || !nameForm.MatchString(name) {
		return fault.Internal.New("name object "+name, "the name has another form than objects have")
	}
	return nil
}
