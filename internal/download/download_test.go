package download

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

var content = bytes.Repeat([]byte("0123456789abcdef"), 4096)

// handler is a transport to a handler in this process.
type handler func(w http.ResponseWriter, r *http.Request)

func (h handler) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

func parse(t *testing.T, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func file(t *testing.T, h handler) *File {
	t.Helper()
	return &File{
		URL: parse(t, "http://server.test/file"), Name: "file", Size: int64(len(content)), Part: filepath.Join(t.TempDir(), "file.part"),
		WriteFault: func(err error) error { return fault.Output.Wrap("write", err) }, Transport: h,
		Hints: Hints{Elsewhere: "use another server", Denied: "log in", NotFound: "check the address"},
	}
}

func serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"one"`)
	http.ServeContent(w, r, "", time.Unix(1, 0), bytes.NewReader(content))
}

// TestFetch breaks the connection twice; the file is resumed.
func TestFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ranges []string
		f := file(t, func(w http.ResponseWriter, r *http.Request) {
			ranges = append(ranges, r.Header.Get("Range"))
			if n := len(ranges); n < 3 {
				w.Header().Set("ETag", `"one"`)
				if n > 1 {
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-", 1000*(n-1)))
					w.WriteHeader(http.StatusPartialContent)
				}
				_, _ = w.Write(content[1000*(n-1) : 1000*n])
				return
			}
			serve(w, r)
		})
		var last, total int64
		said := 0
		f.Progress, f.Notify = func(_ string, done, all int64) { last, total = done, all }, func(string) { said++ }
		if err := f.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(f.Part)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if last != f.Size || total != f.Size || said != 2 {
			t.Errorf("progress %d of %d, %d lines", last, total, said)
		}
		if want := []string{"", "bytes=1000-", "bytes=2000-"}; fmt.Sprint(ranges) != fmt.Sprint(want) {
			t.Errorf("ranges %q", ranges)
		}
		if f.Discard(); len(glob(t, f.Part+"*")) > 0 {
			t.Error("files are left")
		}
	})
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestFetchRefuses(t *testing.T) {
	status := func(code int) handler {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, c := range map[string]struct {
		h          handler
		kind       fault.Kind
		text, hint string
	}{
		"missing": {status(404), fault.Missing, "404", "check the address"},
		"denied":  {status(403), fault.Missing, "403", "log in"},
		"no":      {status(418), fault.Missing, "418", "use another server"},
		"broken":  {status(500), fault.Missing, "500", "check the connection"},
		"a page":  {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, fault.Input, "a page instead", "another server"},
		"longer": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(append(content[:len(content):len(content)], 'x'))
		}, fault.Input, "more than", "another server"},
		"announced": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "7")
			_, _ = w.Write(content[:7])
		}, fault.Input, "has 7 bytes", "another server"},
		"not allowed": {serve, fault.Input, "the check", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := file(t, c.h)
				f.Reject = func(head []byte) string {
					if bytes.HasPrefix(head, []byte("<html>")) {
						return "a page"
					}
					return ""
				}
				if name == "not allowed" {
					f.Check = func(*http.Response) error { return fault.Input.New("download", "the check") }
				}
				err := f.Fetch(t.Context())
				if fault.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.text) || !strings.Contains(fault.HintOf(err), c.hint) {
					t.Errorf("kind %v, hint %q of: %v", fault.KindOf(err), fault.HintOf(err), err)
				}
			})
		})
	}
}

// TestUnknownCertificate: a certificate that nobody has signed is not tried again.
func TestUnknownCertificate(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(serve))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	f := file(t, nil)
	f.URL, f.Transport = parse(t, server.URL), nil
	f.Notify = func(text string) { t.Error(text) }
	if err := f.Fetch(t.Context()); fault.KindOf(err) != fault.Missing || !strings.Contains(fault.HintOf(err), "certificates") {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
}

// TestRedirects: the token stays with its host, and https never becomes http.
func TestRedirects(t *testing.T) {
	f := file(t, nil)
	f.URL, f.Token = parse(t, "https://hub.test/x"), "secret"
	via := []*http.Request{{URL: f.URL}}
	for to, kept := range map[string]bool{"https://hub.test/y": true, "https://cdn.hub.test/y": false, "https://example.com/y": false} {
		req := &http.Request{URL: parse(t, to), Header: http.Header{"Authorization": {"Bearer secret"}}}
		if err := f.client().CheckRedirect(req, via); err != nil || (req.Header.Get("Authorization") != "") != kept {
			t.Errorf("%s: %v, %v", to, err, req.Header)
		}
	}
	err := f.client().CheckRedirect(&http.Request{URL: parse(t, "http://hub.test/y"), Header: http.Header{}}, via)
	if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "not safe") {
		t.Error(err)
	}
}
