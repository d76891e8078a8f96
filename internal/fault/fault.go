// Package fault defines the one error type of Lipstream. An *Error says what
// was being done, why it failed, and what the user can do about it.
package fault

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// Kind says who has to act on an error. Its number is the exit code of the
// command line.
type Kind int

// The kinds of errors. The table below gives each of them a name and an HTTP
// status; nothing else in the program lists them.
const (
	Internal  Kind = 1   // a defect of Lipstream
	Usage     Kind = 2   // a setting or an argument is wrong
	Input     Kind = 3   // a file cannot be read, or is not what it should be
	NoFace    Kind = 4   // no usable face in the whole input
	Missing   Kind = 5   // ffmpeg, a runtime or a checkpoint is not installed
	Output    Kind = 6   // the result cannot be written
	Memory    Kind = 7   // there is not enough memory, or the limit is too low
	Device    Kind = 8   // a GPU failed, and the process cannot use it any more
	Cancelled Kind = 130 // the user interrupted the job
)

// statusClosed is what nginx answers a client that went away. Nobody reads it.
const statusClosed = 499

// kinds is the one table of kinds.
var kinds = []struct {
	kind    Kind
	name    string
	status  int
	meaning string // for the help of the command line
}{
	{Internal, "internal", http.StatusInternalServerError, "internal error"},
	{Usage, "usage", http.StatusBadRequest, "wrong option"},
	{Input, "input", http.StatusUnprocessableEntity, "input cannot be read"},
	{NoFace, "no-face", http.StatusUnprocessableEntity, "no face found"},
	{Missing, "missing", http.StatusServiceUnavailable, "something is not installed"},
	{Output, "output", http.StatusInsufficientStorage, "output cannot be written"},
	{Memory, "memory", http.StatusServiceUnavailable, "not enough memory"},
	{Device, "device", http.StatusServiceUnavailable, "a GPU failed"},
	{Cancelled, "cancelled", statusClosed, "interrupted"},
}

// String returns the name of the kind, such as "no-face".
func (k Kind) String() string {
	for _, e := range kinds {
		if e.kind == k {
			return e.name
		}
	}
	return "kind " + strconv.Itoa(int(k))
}

// ExitCode returns the exit code of the command line for this kind.
func (k Kind) ExitCode() int { return int(k) }

// HTTPStatus returns the status with which the HTTP API answers this kind.
func (k Kind) HTTPStatus() int {
	for _, e := range kinds {
		if e.kind == k {
			return e.status
		}
	}
	return http.StatusInternalServerError
}

// ExitCodes returns all exit codes with their meanings, for the help text:
// "0 done, 1 internal error, ...".
func ExitCodes() string {
	list := []string{"0 done"}
	for _, e := range kinds {
		list = append(list, strconv.Itoa(e.kind.ExitCode())+" "+e.meaning)
	}
	return strings.Join(list, ", ")
}

// Error is a failure. Every error that reaches the user is an *Error or wraps
// one.
//
// Hints, and causes where it helps, write the names of settings in backquotes
// ("set `resolution` to 256"). A Go caller or an HTTP client reads them as they
// are; the command line prints them as its flags (see Flags).
type Error struct {
	Kind  Kind
	Op    string // what was being done, to what: "read video face.mp4"; empty for a wrong setting
	Field string // the setting that is wrong, by its name in JSON, or ""
	Err   error  // why it failed; may be nil
	Hint  string // what to do, one sentence; may be empty
}

// New returns an error of kind k. op says what was being done, cause why it
// failed, and hint, which may be left out, what to do.
func (k Kind) New(op, cause string, hint ...string) *Error {
	return &Error{Kind: k, Op: op, Err: errors.New(cause), Hint: strings.Join(hint, " ")}
}

// Wrap returns an error of kind k around err, or nil if err is nil. If err is
// context.Canceled, the kind is Cancelled whatever k is, because then nothing
// is wrong with what op names.
func (k Kind) Wrap(op string, err error, hint ...string) error {
	if err == nil {
		return nil
	}
	e := &Error{Kind: k, Op: op, Err: err, Hint: strings.Join(hint, " ")}
	if errors.Is(err, context.Canceled) {
		e.Kind, e.Hint = Cancelled, ""
	}
	return e
}

// Field returns an error of kind Usage about a setting: its name in JSON, the
// value that is wrong (or ""), what is wrong with it, and what to do.
func Field(name, value, cause string, hint ...string) *Error {
	if value != "" {
		cause = value + " " + cause
	}
	return &Error{Kind: Usage, Field: name, Err: errors.New(cause), Hint: strings.Join(hint, " ")}
}

// Error returns the one line that the command line prints, without the hint.
func (e *Error) Error() string {
	op := e.Op
	if e.Field != "" {
		op = strings.TrimSpace(op + " `" + e.Field + "`")
	}
	if e.Err == nil {
		return op
	}
	if op == "" {
		return e.Err.Error()
	}
	return op + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

var settingName = regexp.MustCompile("`([a-z][a-z0-9_]*)`")

// Flags returns a message or a hint with the settings in it written as flags of
// the command line: `memory_limit` becomes --memory-limit.
func Flags(text string) string {
	return settingName.ReplaceAllStringFunc(text, func(name string) string {
		if name == "`speakers`" {
			return "--speaker" // which is given once for each
		}
		return "--" + strings.ReplaceAll(strings.Trim(name, "`"), "_", "-")
	})
}

// WithoutPath returns the cause of a file system error without its path, for
// errors that already name the file.
func WithoutPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	if l, ok := errors.AsType[*os.LinkError](err); ok {
		return l.Err
	}
	return err
}

// KindOf returns the kind of the outermost *Error in err's chain; Cancelled for
// a bare context.Canceled; Internal otherwise.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	if errors.Is(err, context.Canceled) {
		return Cancelled
	}
	return Internal
}

// HintOf returns the first hint in the chain, from the outside in, or "".
func HintOf(err error) string {
	for err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}

// Message returns the line to show for err. For a cancelled job it only says
// that it was interrupted, because nothing is wrong with what it was doing.
func Message(err error) string {
	if KindOf(err) == Cancelled {
		return "interrupted"
	}
	return err.Error()
}
