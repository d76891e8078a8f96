package server

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/queue"
)

// problem is the body of an error (RFC 9457). Lipstream adds a hint, and the exit
// code that the command line would have.
type problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail,omitempty"`
	Instance string `json:"instance,omitempty"`
	Hint     string `json:"hint,omitempty"`
	ExitCode int    `json:"exit_code,omitempty"`
}

// statusError is an error with an HTTP status.
type statusError struct {
	error
	status int
}

func (e *statusError) Unwrap() error { return e.error }

func refuse(status int, detail, hint string) error {
	kind := fault.Usage
	if status >= http.StatusInternalServerError {
		kind = fault.Internal
	}
	return &statusError{kind.New("", detail, hint), status}
}

var (
	errNoRoute  = refuse(http.StatusNotFound, "nothing is at this address, or it does not allow this method", "see /v1/openapi.json")
	errNoUpload = refuse(http.StatusNotFound, "the upload does not exist", "upload the file again; the server may have removed it")
)

// statusOf returns the HTTP status for an error.
func statusOf(err error) int {
	if s, ok := errors.AsType[*statusError](err); ok {
		return s.status
	}
	if errors.Is(err, queue.ErrNoJob) || errors.Is(err, queue.ErrNoFrame) || errors.Is(err, fs.ErrNotExist) {
		return http.StatusNotFound
	}
	if errors.Is(err, queue.ErrKeyReused) {
		return http.StatusUnprocessableEntity
	}
	if errors.Is(err, queue.ErrKeyRemoved) {
		return http.StatusGone
	}
	return fault.KindOf(err).HTTPStatus()
}

// fail writes an error as the answer.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	p := problem{Type: "about:blank", Title: cmp.Or(http.StatusText(status), "Client Closed Request"), Status: status, Instance: r.URL.Path,
		Detail: err.Error(), Hint: fault.HintOf(err), ExitCode: fault.KindOf(err).ExitCode()}
	if status >= 500 && status != http.StatusServiceUnavailable {
		s.log.Error("server: a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	h := w.Header()
	h.Del("Content-Length") // of the intended answer
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if status == http.StatusTooManyRequests {
		h.Set("Retry-After", "60")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p)
}

// answer writes v as JSON.
func answer(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
	return nil
}
