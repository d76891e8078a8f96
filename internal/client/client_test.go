package client

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/queue"
)

func TestRead(t *testing.T) {
	const text = ": still here\n\nid: 7\nevent: progress\ndata: {\"a\":1}\n\nevent: state\ndata:x\ndata: y\n\nretry: 5\n\ndata: unfinished\n"
	var got []Event
	if err := Read(strings.NewReader(text), func(e Event) error { got = append(got, e); return nil }); err != nil {
		t.Fatal(err)
	}
	want := []Event{{"7", "progress", `{"a":1}`}, {"7", "state", "x\ny"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	if err := Read(strings.NewReader("data: "+strings.Repeat("x", maxLine+1)), func(Event) error { return nil }); !errors.Is(err, errBroken) {
		t.Error(err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("id: 7\nevent: done\ndata: {}\n\n")
	f.Add("\n\n:\ndata\ndata:\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		_ = Read(strings.NewReader(text), func(e Event) error {
			if strings.ContainsAny(e.ID+e.Type, "\n") {
				t.Errorf("%+v", e)
			}
			return nil
		})
	})
}

// TestEventsResume checks that a broken stream is resumed after the last event.
func TestEventsResume(t *testing.T) {
	var calls atomic.Int32
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
		w.Header().Set("Content-Type", "text/event-stream")
		if calls.Add(1) == 2 {
			w.WriteHeader(http.StatusBadGateway) // a proxy, for a moment
			return
		}
		for i := n + 1; i <= n+2 && i < 6; i++ {
			fmt.Fprintf(w, "id: %d\nevent: progress\ndata: {}\n\n", i)
		}
		if n+2 >= 6 {
			fmt.Fprint(w, "id: 6\nevent: done\ndata: {}\n\n")
			return
		}
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer web.Close()
	var ids []string
	c := &Client{Server: web.URL}
	if err := c.Events(t.Context(), "job", "", func(e Event) error { ids = append(ids, e.ID); return nil }); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(ids, " "); got != "1 2 3 4 5 6" {
		t.Error(got)
	}
}

// TestUploadResumes checks that nothing is sent twice after a connection broke.
func TestUploadResumes(t *testing.T) {
	var have []byte
	broke := false
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost:
			w.Header().Set("Location", "/v1/uploads/1")
			w.WriteHeader(http.StatusCreated)
		case http.MethodPatch:
			if r.Header.Get("Upload-Offset") != strconv.Itoa(len(have)) {
				w.WriteHeader(http.StatusConflict)
				return
			}
			if !broke {
				broke = true
				b := make([]byte, 1000)
				_, _ = io.ReadFull(r.Body, b)
				have = append(have, b...)
				panic(http.ErrAbortHandler)
			}
			b, _ := io.ReadAll(r.Body)
			have = append(have, b...)
		}
		w.Header().Set("Upload-Offset", strconv.Itoa(len(have)))
	}))
	defer web.Close()
	want := make([]byte, piece+5000)
	for i := range want {
		want[i] = byte(i * i >> 3)
	}
	path := filepath.Join(t.TempDir(), "v.mp4")
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	c := &Client{Server: web.URL}
	if id, err := c.Upload(t.Context(), path, nil); err != nil || id != "1" || string(have) != string(want) {
		t.Errorf("%q, %v, %d of %d bytes", id, err, len(have), len(want))
	}
}

func TestErrors(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/jobs/page" {
			fmt.Fprint(w, "<html>")
			return
		}
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"title":"Unprocessable","status":422,"detail":"no face","hint":"look","exit_code":4}`)
	}))
	defer web.Close()
	c := &Client{Server: web.URL}
	_, err := c.Job(t.Context(), "x")
	if fault.KindOf(err) != fault.NoFace || fault.HintOf(err) != "look" || Status(err) != 422 || !strings.Contains(err.Error(), "no face") {
		t.Error(err)
	}
	if _, err := c.Job(t.Context(), "page"); err == nil {
		t.Error("a page is taken for a job")
	}
	web.Close()
	if _, err := c.Job(t.Context(), "x"); fault.KindOf(err) != fault.Missing || fault.HintOf(err) == "" {
		t.Error(err)
	}
	if _, err := (&Client{Server: "nonsense"}).Job(t.Context(), "x"); fault.KindOf(err) != fault.Usage {
		t.Error(err)
	}
}

// TestSubmitAgain loses the answer to a request for a job: the client has to ask again
// with the same key. It does not if no server is there.
func TestSubmitAgain(t *testing.T) {
	var keys []string
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		switch len(keys) {
		case 1:
			panic(http.ErrAbortHandler)
		case 2: // in the middle of the answer
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"id":"`)
		default:
			_, _ = io.WriteString(w, `{"id":"j"}`)
		}
	}))
	c := &Client{Server: web.URL}
	j, err := c.Submit(t.Context(), queue.Spec{})
	if err != nil || j.ID != "j" || len(keys) != 3 || len(keys[0]) < 20 || keys[0] != keys[1] || keys[0] != keys[2] {
		t.Errorf("%+v, %v, keys %q", j, err, keys)
	}
	if _, err = c.Submit(t.Context(), queue.Spec{}); err != nil || keys[3] == keys[0] {
		t.Errorf("%v, keys %q", err, keys)
	}
	web.Close()
	transport := &countingTransport{}
	c.HTTP = &http.Client{Transport: transport}
	if _, err := c.Submit(t.Context(), queue.Spec{}); fault.KindOf(err) != fault.Missing || transport.n != 1 {
		t.Errorf("%v after %d requests", err, transport.n)
	}
}

// TestWrongCertificate checks that a request is not repeated when the certificate of the
// server is not trusted.
func TestWrongCertificate(t *testing.T) {
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.StartTLS()
	defer web.Close()
	transport := &countingTransport{}
	c := &Client{Server: web.URL, HTTP: &http.Client{Transport: transport}}
	if _, err := c.Submit(t.Context(), queue.Spec{}); !strings.Contains(fault.HintOf(err), "tls_ca") || transport.n != 1 {
		t.Errorf("%v after %d requests", err, transport.n)
	}
	transport.n = 0
	if err := c.Events(t.Context(), "j", "", nil); !strings.Contains(fault.HintOf(err), "tls_ca") || transport.n != 1 {
		t.Errorf("%v after %d requests", err, transport.n)
	}
}

// TestOneLine checks that errors have one line, and no password.
func TestOneLine(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "data: x")
	}))
	defer web.Close()
	c := &Client{Server: strings.Replace(web.URL, "://", "://me:secret@", 1)}
	_, errJob := c.Job(t.Context(), "j")
	errEvents := c.PastEvents(t.Context(), "j", nil)
	web.Close()
	_, errAway := c.Job(t.Context(), "j")
	for _, err := range []error{errJob, errEvents, errAway} {
		if err == nil || strings.ContainsAny(err.Error(), "\r\n") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v", err)
		}
	}
}

type countingTransport struct{ n int }

func (c *countingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n++
	return http.DefaultTransport.RoundTrip(r)
}
