package store

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/lipstream/lipstream/internal/fault"
)

func TestPassing(t *testing.T) {
	t.Parallel()
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.StartTLS()
	defer web.Close()
	_, untrusted := http.Get(web.URL)
	_, plain := http.Get("http" + web.URL[len("https"):] + "/") // answers with status 400
	web.Close()
	_, away := http.Get(web.URL)
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"nothing", plain, false},
		{"the certificate is not trusted", untrusted, false},
		{"the server is away", away, true},
		{"the answer is cut off", io.ErrUnexpectedEOF, true},
		{"the service is busy", minio.ErrorResponse{StatusCode: 503}, true},
		{"access is denied", minio.ErrorResponse{StatusCode: 403}, false},
	} {
		for _, err := range []error{c.err, fmt.Errorf("wrapped: %w", c.err), fault.Input.Wrap("read object x", c.err)} {
			if got := (&s3{}).passing(err); got != c.want {
				t.Errorf("%s: %v is passing: %v", c.name, err, got)
			}
		}
	}
}
