package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lipstream/lipstream/internal/queue"
)

const (
	// maxLog bounds the events of a job that are kept in memory for its listeners.
	maxLog = 20_000
	// writeTimeout is how long one write to a listener may take before it is dropped. It
	// can reconnect with Last-Event-ID.
	writeTimeout = 20 * time.Second
	heartbeat    = 15 * time.Second
	// listPause is how long changes of the list are collected before they are sent.
	listPause = 250 * time.Millisecond
)

// reader is the type of Queue.Events.
type reader func(ctx context.Context, id string, after uint64, f func(queue.Event) error) error

// hub reads the log of each followed job once, for all its listeners.
type hub struct {
	read reader

	life context.Context // of all streams
	end  context.CancelFunc

	mu    sync.Mutex
	logs  map[string]*jobLog
	wg    sync.WaitGroup
	count atomic.Int64 // listeners, of the list too
}

// jobLog is the log of one job.
type jobLog struct {
	listeners int
	cancel    context.CancelFunc

	mu      sync.Mutex
	events  []queue.Event
	dropped int           // events before the first of events
	changed chan struct{} // closed at the next event
	ended   bool          // nothing more will be read
}

func newHub(read reader) *hub {
	h := &hub{read: read, logs: map[string]*jobLog{}}
	h.life, h.end = context.WithCancel(context.Background())
	return h
}

// events is Queue.Events. It puts the record on the board before it passes on the last
// event, so that whoever has seen the end of a job sees it in the record, too.
func (s *Server) events(ctx context.Context, id string, after uint64, f func(queue.Event) error) error {
	return s.o.Queue.Events(ctx, id, after, func(e queue.Event) error {
		if e.Last {
			if j, err := s.o.Queue.Job(ctx, id); err == nil {
				s.board.set(id, &j)
			}
		}
		return f(e)
	})
}

// follow returns the log of a job. The caller must call leave.
func (h *hub) follow(id string) (l *jobLog, leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l = h.logs[id]
	if l == nil {
		ctx, cancel := context.WithCancel(h.life)
		l = &jobLog{cancel: cancel, changed: make(chan struct{})}
		h.logs[id] = l
		h.wg.Go(func() { l.fill(ctx, h.read, id) })
	}
	l.listeners++
	h.count.Add(1)
	return l, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.count.Add(-1)
		if l.listeners--; l.listeners == 0 {
			l.cancel()
			if h.logs[id] == l {
				delete(h.logs, id)
			}
		}
	}
}

// forget makes the next listener read a job's log from its beginning, after a
// retry.
func (h *hub) forget(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.logs, id)
}

// close ends all streams.
func (h *hub) close() {
	h.end()
	h.wg.Wait()
}

// fill reads the log. A failure ends the streams; their clients reconnect.
func (l *jobLog) fill(ctx context.Context, read reader, id string) {
	_ = read(ctx, id, 0, func(e queue.Event) error {
		e.Data = bytes.Clone(e.Data)
		l.change(func() {
			l.events = append(l.events, e)
			if n := len(l.events) - maxLog; n > 0 {
				l.events, l.dropped = slices.Clone(l.events[n+maxLog/10:]), l.dropped+n+maxLog/10
			}
		})
		return nil
	})
	l.change(func() { l.ended = true })
}

// change calls f and wakes everybody who waits for a change.
func (l *jobLog) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
}

// from returns the events from the n-th on.
func (l *jobLog) from(n int) (events []queue.Event, next int, ended bool, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = max(n, l.dropped)
	events = l.events[min(n-l.dropped, len(l.events)):]
	return events, l.dropped + len(l.events), l.ended, l.changed
}

// stream writes server-sent events, until the first error.
type stream struct {
	w   http.ResponseWriter
	c   *http.ResponseController
	err error
}

func openStream(w http.ResponseWriter) *stream {
	head := w.Header()
	head.Set("Content-Type", "text/event-stream")
	head.Set("Cache-Control", "no-store")
	head.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	return &stream{w: w, c: http.NewResponseController(w)}
}

func (s *stream) write(text string) {
	if s.err != nil {
		return
	}
	_ = s.c.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, s.err = io.WriteString(s.w, text); s.err == nil {
		s.err = s.c.Flush()
	}
}

// send writes an event with a value in JSON.
func (s *stream) send(kind string, v any) {
	b, err := json.Marshal(v)
	s.err = cmp.Or(s.err, err)
	s.write("event: " + kind + "\ndata: " + string(b) + "\n\n")
}

// jobEvents is the stream of one job. With follow=false it ends after the event that
// was the latest at its beginning.
func (s *Server) jobEvents(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if _, err := s.find(r.Context(), id); err != nil {
		return err
	}
	var after uint64
	if last := cmp.Or(r.Header.Get("Last-Event-ID"), r.URL.Query().Get("after")); last != "" {
		var err error
		if after, err = strconv.ParseUint(last, 10, 64); err != nil {
			return refuse(http.StatusBadRequest, "Last-Event-ID is not a number: "+strconv.Quote(last), "leave it out to read all events")
		}
	}
	past, latest := r.URL.Query().Get("follow") == "false", uint64(0)
	if past {
		var err error
		if latest, err = s.o.Queue.LastEvent(r.Context(), id); err != nil {
			return err
		}
	}
	l, leave := s.hub.follow(id)
	defer leave()
	out := openStream(w)
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	var seen uint64 // version of the record
	for n := 0; out.err == nil; {
		view, version, recordChanged := s.board.record(id)
		if version > seen {
			seen = version
			out.send("state", view)
		}
		events, next, ended, changed := l.from(n)
		for _, e := range events {
			if e.Sequence > after {
				out.write(fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.Sequence, kindOf(e.Data), e.Data))
			}
		}
		n = next
		if ended || past && (latest <= after || len(events) > 0 && events[len(events)-1].Sequence >= latest) {
			break
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-changed:
		case <-recordChanged:
		case <-tick.C:
			out.write(": still here\n\n")
		}
	}
	return nil
}

func kindOf(data []byte) string {
	var e struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(data, &e) != nil || e.Type == "" {
		return "message"
	}
	return e.Type
}

// listEvents is the stream of all jobs: all of them first, then changes.
func (s *Server) listEvents(w http.ResponseWriter, r *http.Request) error {
	s.hub.count.Add(1)
	defer s.hub.count.Add(-1)
	out := openStream(w)
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	jobs, _, version, changed := s.board.since(0)
	for _, j := range jobs {
		out.send("job", j)
	}
	out.send("listed", struct{}{})
	for out.err == nil {
		select {
		case <-r.Context().Done():
			return nil
		case <-s.hub.life.Done():
			return nil
		case <-tick.C:
			out.write(": still here\n\n")
			continue
		case <-changed:
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-time.After(listPause):
		}
		var gone []string
		jobs, gone, version, changed = s.board.since(version)
		for _, j := range jobs {
			out.send("job", j)
		}
		for _, id := range gone {
			out.send("removed", map[string]string{"id": id})
		}
	}
	return nil
}
