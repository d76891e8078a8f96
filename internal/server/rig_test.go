package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/client"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/internal/store"
	"github.com/lipstream/lipstream/testdata/demo"
)

// rig is a server with a real queue and a store in a folder.
type rig struct {
	t   *testing.T
	s   *Server
	web *httptest.Server
	c   *client.Client
	dir string
}

func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	dir := t.TempDir()
	q, err := queue.Open(t.Context(), queue.Options{Dir: filepath.Join(dir, "queue"), Lead: true, Version: "v1", Lease: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	objects, err := store.Open(t.Context(), "dir:"+filepath.Join(dir, "media"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	m := memory.NewMonitor(memory.Probe{}, memory.MonitorOptions{Interval: memory.MinInterval})
	m.Start(t.Context())
	t.Cleanup(m.Stop)
	o := Options{Queue: q, Store: objects, Dir: dir, Listen: "127.0.0.1:8448", Monitor: m, Version: "v1"}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r := &rig{t: t, s: s, web: httptest.NewServer(s.Handler()), dir: dir}
	t.Cleanup(func() {
		r.web.CloseClientConnections()
		r.web.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	r.c = &client.Client{Server: r.web.URL, Token: o.Token, HTTP: &http.Client{Transport: newValidator(t)}}
	return r
}

// validator checks every answer against the OpenAPI document, and every request that was
// accepted if it is JSON.
type validator struct {
	t      *testing.T
	router routers.Router
}

func document(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err == nil {
		err = doc.Validate(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func newValidator(t *testing.T) *validator {
	t.Helper()
	openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.FileBodyDecoder)
	for _, kind := range []string{"video/mp4", "image/jpeg", "audio/wav", "image/png"} {
		openapi3filter.RegisterBodyDecoder(kind, openapi3filter.FileBodyDecoder)
	}
	router, err := gorillamux.NewRouter(document(t))
	if err != nil {
		t.Fatal(err)
	}
	return &validator{t, router}
}

func (v *validator) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil && r.Header.Get("Content-Type") == "application/json" {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	a, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || a.Header.Get("Content-Type") == "text/event-stream" {
		return a, err
	}
	body, err := io.ReadAll(a.Body)
	_ = a.Body.Close()
	if err != nil {
		return nil, err
	}
	a.Body = io.NopCloser(bytes.NewReader(body))
	plain := r.Clone(r.Context())
	plain.URL.Host, plain.URL.Scheme, plain.Host = "", "", ""
	route, params, err := v.router.FindRoute(plain)
	if err != nil {
		v.t.Errorf("%s %s is not in the document: %v", r.Method, r.URL.Path, err)
		return a, nil
	}
	request := &openapi3filter.RequestValidationInput{Request: plain, PathParams: params, Route: route}
	if sent != nil && a.StatusCode < 300 {
		plain.Body = io.NopCloser(bytes.NewReader(sent))
		request.Options = &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}
		if err := openapi3filter.ValidateRequest(r.Context(), request); err != nil {
			v.t.Errorf("%s %s: %v\n%s", r.Method, r.URL.Path, err, sent)
		}
	}
	err = openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: request,
		Status:                 a.StatusCode, Header: a.Header, Body: io.NopCloser(bytes.NewReader(body)),
	})
	if err != nil {
		v.t.Errorf("%s %s: %d: %v\n%s", r.Method, r.URL.Path, a.StatusCode, err, body)
	}
	return a, nil
}

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// until waits for a state: only the time limit of the test ends it otherwise.
func (r *rig) until(ok func() bool) {
	r.t.Helper()
	for !ok() {
		r.check(r.t.Context().Err())
		time.Sleep(time.Millisecond)
	}
}

// untilState waits until the server has heard of a job's state.
func (r *rig) untilState(id string, want queue.State) {
	r.t.Helper()
	r.until(func() bool { v, ok := r.s.board.get(id); return ok && v.State == want })
}

// upload sends bytes under a name.
func (r *rig) upload(name string, b []byte) string {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), name)
	r.check(os.WriteFile(path, b, 0o600))
	id, err := r.c.Upload(r.t.Context(), path, nil)
	r.check(err)
	return id
}

func (r *rig) submit() client.Job {
	r.t.Helper()
	j, err := r.c.Submit(r.t.Context(), queue.Spec{Video: queue.Source{Upload: r.upload("face.png", demo.Portrait)}, Audio: queue.Source{Upload: r.upload("voice.wav", demo.Speech)}})
	r.check(err)
	return j
}

func (r *rig) take() *queue.Lease {
	r.t.Helper()
	l, err := r.s.o.Queue.Take(r.t.Context(), "w", []string{"preview"})
	r.check(err)
	return l
}

// finish does a job as a worker does.
func (r *rig) finish(l *queue.Lease, events int) {
	r.t.Helper()
	for i := range events {
		r.check(l.Event(r.t.Context(), lipstream.Event{Type: lipstream.EventProgress, Phase: lipstream.PhaseFrames, Frame: int64(i), Frames: int64(events)}))
	}
	object := "jobs/" + l.Job.ID + "/result-x.mp4"
	err := r.s.o.Store.Put(r.t.Context(), object, strings.NewReader("0123456789"))
	r.check(err)
	r.check(l.Done(r.t.Context(), queue.Result{Object: object, Name: "häuser \"x\".mp4", Size: 10, Frames: int64(events), Engine: "preview"}))
}

// get sends a request with headers, "Name: value", and returns the answer and its body.
func (r *rig) get(method, path string, body string, headers ...string) (*http.Response, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.web.URL+path, strings.NewReader(body))
	r.check(err)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	c := http.DefaultClient
	if method != "HEAD" && strings.HasPrefix(path, "/v1/jobs") && req.Host == r.web.Listener.Addr().String() {
		c = r.c.HTTP // which checks the answer
	}
	a, err := c.Do(req)
	r.check(err)
	defer func() { _ = a.Body.Close() }()
	b, err := io.ReadAll(a.Body)
	r.check(err)
	return a, string(b)
}

func (r *rig) status(want int, method, path, body string, headers ...string) string {
	r.t.Helper()
	a, text := r.get(method, path, body, headers...)
	if a.StatusCode != want {
		r.t.Errorf("%s %s %q: %d, want %d: %s", method, path, headers, a.StatusCode, want, text)
	}
	if a.StatusCode >= 400 && method != "HEAD" {
		var p problem
		if a.Header.Get("Content-Type") != "application/problem+json" || json.Unmarshal([]byte(text), &p) != nil || p.Status != a.StatusCode || p.Title == "" || p.Detail == "" {
			r.t.Errorf("%s %s: no problem of RFC 9457: %s", method, path, text)
		}
	}
	return text
}

// stalled is a connection without buffers whose client reads only when the test
// does. Deadlines do not pass by themselves: expire ends a blocked write.
type stalled struct {
	net.Conn             // of the server
	client   net.Conn    // of the test
	limited  atomic.Bool // a deadline for writing was set
}

func (c *stalled) SetWriteDeadline(t time.Time) error {
	c.limited.Store(!t.IsZero())
	return nil
}

// expire makes the deadline for writing pass.
func (c *stalled) expire(t *testing.T) {
	t.Helper()
	if !c.limited.Load() {
		t.Error("the server waits for the client without a limit")
	}
	_ = c.Conn.SetWriteDeadline(time.Unix(1, 0))
}

// pipes is a listener for connections that a test makes.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (pipes) Close() error   { return nil }
func (pipes) Addr() net.Addr { return &net.TCPAddr{} }

// stall sends a GET over a connection without buffers.
func (r *rig) stall(path string) *stalled {
	r.t.Helper()
	server, client := net.Pipe()
	c := &stalled{Conn: server, client: client}
	p := make(pipes, 1)
	p <- c
	s := &http.Server{Handler: r.s.Handler()}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(p) }()
	r.t.Cleanup(func() {
		_ = client.Close()
		close(p)
		<-done
		_ = s.Close()
	})
	_, err := fmt.Fprintf(client, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path)
	r.check(err)
	return c
}
