// Package client talks to lipstream serve: it uploads inputs, submits jobs,
// follows them and fetches their results. docs/api.md describes the API.
package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/certificate"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/queue"
)

// DefaultServer is where lipstream serve listens.
const DefaultServer = "http://127.0.0.1:8448"

// Client is a client of one server. It is safe for concurrent use. Errors of the
// server keep their kind and hint.
type Client struct {
	Server string // http://host:port; empty: DefaultServer
	Token  string // empty: none
	HTTP   *http.Client
}

// Job is a job as the server shows it.
type Job struct {
	queue.Job
	Progress *lipstream.Event `json:"progress,omitempty"`
}

const op = "ask the server"

// do sends a request and returns a successful answer. The caller closes its body.
func (c *Client) do(ctx context.Context, method, path string, header http.Header, body io.Reader) (*http.Response, error) {
	server := cmp.Or(strings.TrimSuffix(c.Server, "/"), DefaultServer)
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fault.Usage.New(op+" "+server, "it is not an address", "write http://host:8448")
	}
	r, err := http.NewRequestWithContext(ctx, method, server+path, body)
	server = u.Redacted()
	if err != nil {
		return nil, fault.Usage.Wrap(op+" "+server, err)
	}
	maps.Copy(r.Header, header)
	if s, ok := body.(*io.SectionReader); ok {
		r.ContentLength = s.Size()
	}
	if c.Token != "" {
		r.Header.Set("Authorization", "Bearer "+c.Token)
	}
	answer, err := cmp.Or(c.HTTP, http.DefaultClient).Do(r)
	if err != nil {
		err = cmp.Or(ctx.Err(), err)
		hint := certificate.Hint(err, "tls_", "http://", "https://")
		if broken, ok := errors.AsType[*net.OpError](err); ok && hint == "" {
			hint = "check that lipstream serve is running there"
			if broken.Op != "dial" && strings.HasPrefix(server, "https:") { // its reason may not have arrived
				hint += "; if it wants a certificate of this client, set `tls_cert` and `tls_key`"
			}
		}
		return nil, fault.Missing.Wrap(op+" "+server, err, hint)
	}
	if answer.StatusCode >= 300 {
		defer func() { _ = answer.Body.Close() }()
		return nil, problem(server, answer)
	}
	return answer, nil
}

// problem reads an RFC 9457 answer.
func problem(server string, a *http.Response) error {
	var p struct {
		Title    string `json:"title"`
		Detail   string `json:"detail"`
		Hint     string `json:"hint"`
		ExitCode int    `json:"exit_code"`
	}
	b, _ := io.ReadAll(io.LimitReader(a.Body, 64<<10))
	if json.Unmarshal(b, &p) != nil || p.Title == "" {
		p.Title, p.Hint = a.Status, cmp.Or(certificate.Hint(errors.New(string(b)), "tls_", "http://", "https://"), "check that lipstream serve runs at this address")
	}
	kind := cmp.Or(fault.Kind(p.ExitCode), fault.Internal)
	return &fault.Error{Kind: kind, Op: op + " " + server, Err: statusError{a.StatusCode, cmp.Or(p.Detail, p.Title)}, Hint: p.Hint}
}

// statusError keeps the status of an answer.
type statusError struct {
	status int
	detail string
}

func (e statusError) Error() string { return e.detail }

// Status returns the HTTP status in err, or 0 if err is not an answer of the server.
func Status(err error) int {
	e, _ := errors.AsType[statusError](err)
	return e.status
}

// call sends and receives JSON; in and out may be nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	return c.callWith(ctx, method, path, http.Header{}, in, out)
}

func (c *Client) callWith(ctx context.Context, method, path string, header http.Header, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fault.Internal.Wrap(op+" "+path, err)
		}
		body = bytes.NewReader(b)
		header.Set("Content-Type", "application/json")
	}
	answer, err := c.do(ctx, method, path, header, body)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if out == nil {
		_, err = io.Copy(io.Discard, answer.Body)
	} else {
		err = json.NewDecoder(answer.Body).Decode(out)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", errBroken, err)
	}
	return fault.Internal.Wrap(op+" "+path, err)
}

// lost reports whether an error says that the server did not answer, or not to the end.
// Errors of certificates are not of this kind: asking again does not help.
func lost(err error) bool {
	return errors.Is(err, errBroken) || Status(err) == 0 && fault.KindOf(err) == fault.Missing && certificate.Hint(err, "", "", "") == ""
}

// Submit queues a job. If the answer is lost, it asks again, with the same idempotency
// key, so that the server does not make a second job.
func (c *Client) Submit(ctx context.Context, s queue.Spec) (Job, error) {
	var j Job
	header := http.Header{"Idempotency-Key": {rand.Text()}}
	sent := false // perhaps
	for failed := 1; ; failed++ {
		err := c.callWith(ctx, http.MethodPost, "/v1/jobs", header, s, &j)
		dial, ok := errors.AsType[*net.OpError](err)
		sent = sent || !ok || dial.Op != "dial"
		if !lost(err) || !sent || failed > retries || !pause(ctx, time.Duration(failed)*200*time.Millisecond) {
			return j, err
		}
	}
}

// Job returns a job.
func (c *Client) Job(ctx context.Context, id string) (Job, error) {
	var j Job
	return j, c.call(ctx, http.MethodGet, "/v1/jobs/"+url.PathEscape(id), nil, &j)
}

// Jobs returns the newest jobs of a state, at most limit. "" means every state.
func (c *Client) Jobs(ctx context.Context, state string, limit int) ([]Job, error) {
	var list struct {
		Jobs []Job `json:"jobs"`
	}
	q := url.Values{"limit": {fmt.Sprint(limit)}}
	if state != "" {
		q.Set("state", state)
	}
	err := c.call(ctx, http.MethodGet, "/v1/jobs?"+q.Encode(), nil, &list)
	return list.Jobs, err
}

// Delete cancels a job that has not ended, and removes one that has.
func (c *Client) Delete(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/jobs/"+url.PathEscape(id), nil, nil)
}

// Retry restarts a failed or cancelled job.
func (c *Client) Retry(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, "/v1/jobs/"+url.PathEscape(id)+"/retry", nil, nil)
}

// Workers returns the live workers.
func (c *Client) Workers(ctx context.Context) ([]queue.Worker, error) {
	var list struct {
		Workers []queue.Worker `json:"workers"`
	}
	return list.Workers, c.call(ctx, http.MethodGet, "/v1/devices", nil, &list)
}

// Fetch writes a job's result to path. The file appears when it is complete.
func (c *Client) Fetch(ctx context.Context, id, path string, overwrite bool) error {
	fail := func(err error) error {
		return fault.Output.Wrap("write "+path, fault.WithoutPath(err))
	}
	if _, err := os.Stat(path); err == nil && !overwrite {
		return fault.Output.New("write "+path, "the file exists", "set `overwrite` to replace it")
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	answer, err := c.do(ctx, http.MethodGet, "/v1/jobs/"+url.PathEscape(id)+"/result", nil, nil)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	f, err := disk.Create(path)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = f.Close() }()
	if n, err := io.Copy(f, answer.Body); err != nil {
		return fault.Missing.Wrap("read the result of job "+id, err, "try again")
	} else if answer.ContentLength >= 0 && n != answer.ContentLength {
		return fault.Missing.New("read the result of job "+id, "the connection broke", "try again")
	}
	return fail(f.Commit(0o644))
}

// pause waits before another attempt. It returns false when ctx ends.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// Get writes the content at a path of the server to w.
func (c *Client) Get(ctx context.Context, path string, w io.Writer) error {
	answer, err := c.do(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	_, err = io.Copy(w, answer.Body)
	return fault.Missing.Wrap(op+" "+path, err)
}
