package server

import (
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
	status       int
	detail, hint string
}

func (e *statusError) Error() string { return e.detail }

func refuse(status int, detail, hint string) error { return &statusError{status, detail, hint} }

var (
	errNoRoute  = refuse(http.StatusNotFound, "nothing is at this address, or it does not allow this method", "see /v1/openapi.json")
	errNoUpload = refuse(http.StatusNotFound, "the upload does not exist", "upload the file again; the server may have removed it")
)

// statusOf returns the HTTP status for an error.
func statusOf(err error) int {
	var s *statusError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &s):
		return s.status
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, queue.ErrNoJob), errors.Is(err, queue.ErrNoFrame), errors.Is(err, fs.ErrNotExist):
		return http.StatusNotFound
	}
	return fault.KindOf(err).HTTPStatus()
}

// fail writes an error as the answer.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	p := problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Instance: r.URL.Path, Detail: err.Error(), Hint: fault.HintOf(err)}
	var se *statusError
	if errors.As(err, &se) {
		p.Detail, p.Hint = se.detail, se.hint
	}
	if p.Title == "" {
		p.Title = "Client Closed Request"
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		p.ExitCode = fault.KindOf(err).ExitCode()
	} else if status >= 400 && status < 500 {
		p.ExitCode = fault.Usage.ExitCode()
	} else {
		p.ExitCode = fault.Internal.ExitCode()
	}
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
