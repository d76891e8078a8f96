package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/lipstream/lipstream/internal/queue"
)

const (
	// maxLog bounds the events of a job that are kept in memory for its listeners.
	maxLog = 20_000
	// slow is how long one write to a listener may take before it is dropped. It
	// can reconnect with Last-Event-ID.
	slow      = 20 * time.Second
	heartbeat = 15 * time.Second
	// listPause is how long changes of the list are collected before they are sent.
	listPause = 250 * time.Millisecond
)

// hub reads the log of each followed job once, for all its listeners.
type hub struct {
	read func(ctx context.Context, id string, after uint64, f func(queue.Event) error) error

	life context.Context // of all streams
	end  context.CancelFunc

	mu    sync.Mutex
	logs  map[string]*jobLog
	wg    sync.WaitGroup
	count int // listeners, of the list too
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

func newHub(read func(context.Context, string, uint64, func(queue.Event) error) error) *hub {
	h := &hub{read: read, logs: map[string]*jobLog{}}
	h.life, h.end = context.WithCancel(context.Background())
	return h
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
	h.count++
	return l, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.count--
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

func (h *hub) add(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count += n
}

func (h *hub) listeners() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count
}

func (l *jobLog) fill(ctx context.Context, read func(context.Context, string, uint64, func(queue.Event) error) error, id string) {
	// A failure ends the streams; their clients reconnect.
	_ = read(ctx, id, 0, func(e queue.Event) error {
		e.Data = bytes.Clone(e.Data)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.events = append(l.events, e)
		if n := len(l.events) - maxLog; n > 0 {
			l.events, l.dropped = append([]queue.Event{}, l.events[n+maxLog/10:]...), l.dropped+n+maxLog/10
		}
		close(l.changed)
		l.changed = make(chan struct{})
		return nil
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
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

// stream writes server-sent events.
type stream struct {
	w http.ResponseWriter
	c *http.ResponseController
}

func openStream(w http.ResponseWriter) *stream {
	head := w.Header()
	head.Set("Content-Type", "text/event-stream")
	head.Set("Cache-Control", "no-store")
	head.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	return &stream{w, http.NewResponseController(w)}
}

func (s *stream) write(text string) error {
	_ = s.c.SetWriteDeadline(time.Now().Add(slow))
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.c.Flush()
}

// send writes one event; id may be empty.
func (s *stream) send(id, kind string, data []byte) error {
	if id != "" {
		id = "id: " + id + "\n"
	}
	return s.write(id + "event: " + kind + "\ndata: " + string(data) + "\n\n")
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
	for n := 0; ; {
		view, version, recordChanged := s.board.record(id)
		if version > seen {
			seen = version
			b, err := json.Marshal(view)
			if err != nil {
				return nil
			}
			if out.send("", "state", b) != nil {
				return nil
			}
		}
		events, next, ended, changed := l.from(n)
		for _, e := range events {
			if e.Sequence <= after {
				continue
			}
			if out.send(strconv.FormatUint(e.Sequence, 10), kindOf(e.Data), e.Data) != nil {
				return nil
			}
		}
		n = next
		if ended || past && (latest <= after || len(events) > 0 && events[len(events)-1].Sequence >= latest) {
			return nil
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-changed:
		case <-recordChanged:
		case <-tick.C:
			if out.write(": still here\n\n") != nil {
				return nil
			}
		}
	}
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
	s.hub.add(1)
	defer s.hub.add(-1)
	out := openStream(w)
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	var version uint64
	for first := true; ; first = false {
		jobs, gone, now, changed := s.board.since(version)
		for _, j := range jobs {
			b, err := json.Marshal(j)
			if err != nil || out.send("", "job", b) != nil {
				return nil
			}
		}
		for _, id := range gone {
			if !first && out.send("", "removed", fmt.Appendf(nil, `{"id":%q}`, id)) != nil {
				return nil
			}
		}
		if version = now; first && out.write("event: listed\ndata: {}\n\n") != nil {
			return nil
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-s.hub.life.Done():
			return nil
		case <-tick.C:
			if out.write(": still here\n\n") != nil {
				return nil
			}
		case <-changed:
			select {
			case <-r.Context().Done():
				return nil
			case <-time.After(listPause):
			}
		}
	}
}
