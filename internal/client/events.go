package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/queue"
)

// Event is a server-sent event.
type Event struct {
	ID   string // position in the stream
	Type string // that of lipstream.Event, or "state"
	Data string // JSON, one line
}

// Events calls f with the events of a job after an event's ID ("": from the first)
// to its last, in order. It reconnects when a connection breaks, and returns f's
// error.
func (c *Client) Events(ctx context.Context, id, after string, f func(Event) error) error {
	last := false
	for failed := 0; ; {
		err := c.follow(ctx, "/v1/jobs/"+url.PathEscape(id)+"/events", after, func(e Event) error {
			failed = 0
			if e.ID != "" {
				after = e.ID
			}
			last = e.Type == lipstream.EventDone || e.Type == lipstream.EventError || e.Type == "state" && hasEnded(e.Data)
			return f(e)
		})
		switch {
		case ctx.Err() != nil:
			return fault.Cancelled.Wrap("follow job "+id, ctx.Err())
		case err == nil && last:
			return nil
		case err == nil:
			err = fault.Missing.New("follow job "+id, "the server closed the stream before the job's end", "try again when the server has restarted")
		case Status(err) >= 500, lost(err):
		default:
			return err
		}
		if failed++; failed > retries {
			return err
		}
		if !pause(ctx, time.Duration(failed)*200*time.Millisecond) {
			return fault.Cancelled.Wrap("follow job "+id, ctx.Err())
		}
	}
}

// PastEvents calls f with the events of a job so far, in order, and returns f's error.
func (c *Client) PastEvents(ctx context.Context, id string, f func(Event) error) error {
	err := c.follow(ctx, "/v1/jobs/"+url.PathEscape(id)+"/events?follow=false", "", f)
	if errors.Is(err, errBroken) {
		return fault.Missing.Wrap("read the events of job "+id, err, "try again")
	}
	return err
}

// hasEnded reports whether a record is that of a job that has ended.
func hasEnded(record string) bool {
	var j queue.Job
	return json.Unmarshal([]byte(record), &j) == nil && j.State.Ended()
}

var errBroken = errors.New("the connection broke")

// follow reads one stream to its end.
func (c *Client) follow(ctx context.Context, path, after string, f func(Event) error) error {
	h := http.Header{"Accept": {"text/event-stream"}}
	if after != "" {
		h.Set("Last-Event-ID", after)
	}
	answer, err := c.do(ctx, http.MethodGet, path, h, nil)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	return Read(answer.Body, f)
}

// maxLine bounds a line of a stream.
const maxLine = 1 << 20

// Read parses server-sent events (WHATWG HTML, 9.2) until the end of r, which
// is no error, or f's error.
func Read(r io.Reader, f func(Event) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 4096), maxLine)
	var e Event
	var data []string
	for s.Scan() {
		line := s.Text()
		if line == "" {
			if len(data) > 0 {
				e.Data = strings.Join(data, "\n")
				if err := f(e); err != nil {
					return err
				}
			}
			e, data = Event{ID: e.ID}, nil
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			e.ID = value
		case "event":
			e.Type = value
		case "data":
			data = append(data, value)
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	return nil
}
