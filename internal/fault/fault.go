// Package fault is the one error type of Lipstream: what was being done, to
// what, why it failed, and what the user can do about it.
package fault

import (
	"context"
	"errors"
	"io/fs"
	"strings"
)

// Kind says who has to act. It decides the process's exit code.
type Kind int

// The kinds, and with them the exit codes of the command line.
const (
	Internal  Kind = 1   // a defect of Lipstream
	Usage     Kind = 2   // an option or argument that makes no sense
	Input     Kind = 3   // a file that cannot be read as what it should be
	NoFace    Kind = 4   // no usable face in the whole input
	Missing   Kind = 5   // ffmpeg, a runtime or a checkpoint is not installed, or the wrong one is
	Output    Kind = 6   // the result cannot be written
	Memory    Kind = 7   // there is not enough memory, of the machine or under a limit
	Cancelled Kind = 130 // interrupted by the user
)

// Error is a failure with its circumstances. Every error that leaves a package
// of Lipstream towards the user is, or wraps, an *Error.
type Error struct {
	Kind    Kind
	Op      string // what was being done: "read video", "load model"
	Subject string // to what: a path, a model's name, an option
	Err     error  // why; may be nil
	Hint    string // what to do, one sentence; may be empty
}

// Error gives the one line that the command line prints, without the hint.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Subject != "" {
		b.WriteString(" " + e.Subject)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// New builds an *Error whose cause is a plain text.
func New(kind Kind, op, subject, cause, hint string) *Error {
	return &Error{Kind: kind, Op: op, Subject: subject, Err: errors.New(cause), Hint: hint}
}

// Wrap builds an *Error around err; nil stays nil. A cancelled context keeps
// the kind Cancelled whatever the caller says, because then nothing is wrong
// with the subject.
func Wrap(kind Kind, op, subject string, err error, hint string) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		kind, hint = Cancelled, ""
	}
	return &Error{Kind: kind, Op: op, Subject: subject, Err: err, Hint: hint}
}

// WithoutPath takes the path out of an error of the file system, for a subject
// that names it already.
func WithoutPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// KindOf gives the kind of the outermost *Error in err's chain; Cancelled for
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

// HintOf gives the first hint found from the outside in, or "".
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

// Message is the line that tells people of err. Of an interrupted job it says
// only that: nothing is wrong with what it was at.
func Message(err error) string {
	if KindOf(err) == Cancelled {
		return "interrupted"
	}
	return err.Error()
}
