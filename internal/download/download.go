// Package download fetches files of known size over HTTP. It resumes what an earlier
// connection, or an earlier process, has left.
package download

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

// File is a file on a server. URL, Size and Part are required.
type File struct {
	URL  *url.URL // http or https
	Name string   // for Progress and Notify
	Size int64    // bytes; a file of another size is refused
	Part string   // the path that is written; its state is beside it, with ".json" added

	Token string // sent as a bearer token to the host of URL only
	// Check examines every response, redirects too. Its error is final. It may be nil.
	Check func(*http.Response) error
	// Reject describes a body that begins like something else ("an HTML page"), else
	// it returns "". It may be nil.
	Reject func(head []byte) string
	Hints  Hints
	// WriteFault returns the error for a failed write.
	WriteFault func(error) error

	Progress  func(name string, done, total int64) // may be nil
	Notify    func(text string)                    // called with a line for each retry; may be nil
	Transport http.RoundTripper                    // nil for the default
}

// Hints say what the user can do, each in an imperative sentence.
type Hints struct {
	Elsewhere string // about another server
	Denied    string // without permission
	NotFound  string // if the server does not have the file
}

const (
	attempts = 6           // connections in a row without a byte until a download fails
	stall    = time.Minute // without a byte until a connection is closed
	backoff  = time.Second // before the second attempt; doubles each time
	buffer   = 256 << 10
)

func (f *File) op() string { return "download " + f.URL.Redacted() }

func (f *File) fault(kind fault.Kind, cause, hint string) error { return kind.New(f.op(), cause, hint) }

func (f *File) statePath() string { return f.Part + ".json" }

// Discard removes what was fetched.
func (f *File) Discard() {
	_ = os.Remove(f.Part)
	_ = os.Remove(f.statePath())
}

// state describes the file that a part file is the beginning of.
type state struct {
	URL       string `json:"url"`
	Size      int64  `json:"size"`
	Validator string `json:"validator"` // a strong ETag or a Last-Modified, for If-Range
}

// Fetch completes the part file, with as many connections as necessary. The caller checks
// its content. Errors are of kind Missing if the server does not have the file or cannot be
// reached, Input if it sends something else, Output if the file cannot be written, and
// Cancelled when ctx ends.
func (f *File) Fetch(ctx context.Context) error {
	for failures := 0; ; {
		got, err := f.attempt(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fault.Cancelled.Wrap(f.op(), ctx.Err())
		}
		if _, final := errors.AsType[*fault.Error](err); final {
			return err
		}
		if failures++; got > 0 {
			failures = 1
		}
		if failures >= attempts {
			return fault.Missing.Wrap(f.op(), err, "check the connection, then run the same command again: it resumes the download")
		}
		if f.Notify != nil {
			f.Notify(fmt.Sprintf("%s: %v; trying again", f.Name, err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(backoff<<(failures-1), 30*backoff)):
		}
	}
}

// client returns a client that follows redirects to http and https only, never from https
// to http, and sends the token to the host of URL only.
func (f *File) client() *http.Client {
	return &http.Client{Transport: f.Transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		switch {
		case len(via) >= 10:
			return errors.New("more than 10 redirects")
		case req.URL.Scheme != "https" && (req.URL.Scheme != "http" || via[0].URL.Scheme == "https"):
			return f.fault(fault.Input, "it redirects to "+req.URL.Redacted()+", which is not safe", f.Hints.Elsewhere)
		}
		if req.URL.Scheme != f.URL.Scheme || req.URL.Host != f.URL.Host {
			req.Header.Del("Authorization")
		}
		return f.check(req.Response)
	}}
}

func (f *File) check(r *http.Response) error {
	if f.Check == nil || r == nil {
		return nil
	}
	return f.Check(r)
}

// offset returns the size of the part file, and the validator to resume it with.
func (f *File) offset() (int64, string) {
	var s state
	text, err := os.ReadFile(f.statePath())
	if err != nil || json.Unmarshal(text, &s) != nil || s.URL != f.URL.Redacted() || s.Size != f.Size || s.Validator == "" {
		return 0, ""
	}
	st, err := os.Stat(f.Part)
	if err != nil || st.Size() > f.Size {
		return 0, ""
	}
	return st.Size(), s.Validator
}

// attempt makes one connection, and returns how many bytes it has received. It is worth
// another attempt if the error is not a *fault.Error.
func (f *File) attempt(ctx context.Context) (got int64, err error) {
	offset, validator := f.offset()
	if offset == f.Size {
		return 0, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(stall, func() { cancel(fmt.Errorf("nothing came for %v", stall)) })
	defer stalled.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL.String(), nil)
	if err != nil {
		return 0, fault.Usage.Wrap(f.op(), err)
	}
	req.Header.Set("User-Agent", "lipstream")
	req.Header.Set("Accept-Encoding", "identity")
	if f.Token != "" {
		req.Header.Set("Authorization", "Bearer "+f.Token)
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		req.Header.Set("If-Range", validator)
	}
	resp, err := f.client().Do(req)
	if err != nil {
		if e, ok := errors.AsType[*fault.Error](err); ok {
			return 0, e
		}
		if u, ok := errors.AsType[*url.Error](err); ok { // it repeats the address
			err = u.Err
		}
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			return 0, fault.Missing.Wrap(f.op(), err, "check the date and the certificates of this machine; a proxy may need one of its own")
		}
		return 0, errors.Join(context.Cause(ctx), err)
	}
	defer resp.Body.Close()
	if offset, err = f.accept(resp, offset); err != nil {
		return 0, err
	}
	got, err = f.receive(resp, offset, func() { stalled.Reset(stall) })
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return got, err
}

// accept checks the head of a response, and returns at which offset of the file its body
// begins.
func (f *File) accept(resp *http.Response, offset int64) (int64, error) {
	switch resp.StatusCode {
	case http.StatusOK:
		offset = 0
	case http.StatusPartialContent:
		if !strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset)) {
			f.Discard()
			return 0, fmt.Errorf("the server has sent another range: %s", resp.Header.Get("Content-Range"))
		}
	case http.StatusRequestedRangeNotSatisfiable:
		f.Discard()
		return 0, errors.New("the file on the server is shorter than the part file")
	default:
		answer := "the server answers " + resp.Status
		switch code := resp.StatusCode; {
		case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
			return 0, errors.New(answer)
		case code == http.StatusUnauthorized, code == http.StatusForbidden:
			return 0, f.fault(fault.Missing, answer, f.Hints.Denied)
		case code == http.StatusNotFound, code == http.StatusGone:
			return 0, f.fault(fault.Missing, answer, f.Hints.NotFound)
		}
		return 0, f.fault(fault.Missing, answer, f.Hints.Elsewhere)
	}
	return offset, f.check(resp)
}

// receive writes a body to the part file, from offset on.
func (f *File) receive(resp *http.Response, offset int64, alive func()) (got int64, err error) {
	body := bufio.NewReaderSize(resp.Body, buffer)
	if offset == 0 {
		head, err := body.Peek(512)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, err
		}
		if f.Reject != nil {
			if what := f.Reject(head); what != "" {
				return 0, f.fault(fault.Input, "the server sends "+what+" instead of the file", f.Hints.Elsewhere)
			}
		}
		if resp.ContentLength >= 0 && resp.ContentLength != f.Size {
			return 0, f.fault(fault.Input, fmt.Sprintf("the file on the server has %d bytes, and the published one has %d", resp.ContentLength, f.Size), f.Hints.Elsewhere)
		}
	}
	part, err := f.open(offset, validator(resp.Header))
	if err != nil {
		return 0, f.WriteFault(err)
	}
	defer func() {
		if e := errors.Join(part.Sync(), part.Close()); e != nil && err == nil {
			err = f.WriteFault(e)
		}
	}()
	buf := make([]byte, buffer)
	for {
		f.progress(offset + got)
		n, err := body.Read(buf)
		if n > 0 {
			alive()
			if offset+got+int64(n) > f.Size {
				f.Discard()
				return got, f.fault(fault.Input, fmt.Sprintf("the server sends more than the %d bytes of the published file", f.Size), f.Hints.Elsewhere)
			}
			if _, err := part.Write(buf[:n]); err != nil {
				return got, f.WriteFault(err)
			}
			got += int64(n)
		}
		switch {
		case offset+got == f.Size:
			f.progress(f.Size)
			return got, nil
		case errors.Is(err, io.EOF):
			return got, fmt.Errorf("the connection ended after %d of %d bytes", offset+got, f.Size)
		case err != nil:
			return got, err
		}
	}
}

func (f *File) progress(done int64) {
	if f.Progress != nil {
		f.Progress(f.Name, done, f.Size)
	}
}

// open opens the part file at offset, and writes its state.
func (f *File) open(offset int64, validator string) (*os.File, error) {
	part, err := os.OpenFile(f.Part, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	if err = part.Truncate(offset); err == nil {
		_, err = part.Seek(offset, io.SeekStart)
	}
	if err == nil {
		var text []byte
		if text, err = json.Marshal(state{f.URL.Redacted(), f.Size, validator}); err == nil {
			err = os.WriteFile(f.statePath(), text, 0o644)
		}
	}
	if err != nil {
		_ = part.Close()
		return nil, err
	}
	return part, nil
}

// validator returns the header by which a later request can resume the same file, or ""
// if there is none.
func validator(h http.Header) string {
	if e := h.Get("ETag"); e != "" && !strings.HasPrefix(e, "W/") {
		return e
	}
	return h.Get("Last-Modified")
}
