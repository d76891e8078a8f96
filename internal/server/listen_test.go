package server

import (
	"bufio"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/client"
	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/testdata/demo"
)

// TestListeners checks that each of a thousand listeners of a job gets all events in
// order.
func TestListeners(t *testing.T) {
	r := newRig(t, nil)
	j := r.submit()
	const events = 60
	listeners := 1000
	if testing.Short() {
		listeners = 50
	}
	c := &client.Client{Server: r.web.URL, HTTP: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: listeners}}}
	heard := make([][]string, listeners)
	var all sync.WaitGroup
	for i := range listeners {
		all.Go(func() {
			if err := c.Events(t.Context(), j.ID, "", func(e client.Event) error {
				if e.Type != "state" {
					heard[i] = append(heard[i], e.ID)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	r.until(func() bool { return r.s.hub.count.Load() == int64(listeners) })
	r.finish(r.take(), events)
	all.Wait()
	for i, ids := range heard {
		if len(ids) != events+1 || strings.Join(ids, " ") != strings.Join(heard[0], " ") {
			t.Fatalf("listener %d heard %d of %d events", i, len(ids), events+1)
		}
	}
	// A listener that resumes in the middle gets the rest.
	var again []string
	r.check(c.Events(t.Context(), j.ID, heard[0][40], func(e client.Event) error {
		if e.Type != "state" {
			again = append(again, e.ID)
		}
		return nil
	}))
	if strings.Join(again, " ") != strings.Join(heard[0][41:], " ") {
		t.Errorf("resumed: %v", again)
	}
	r.until(func() bool { return r.s.hub.count.Load() == 0 })
}

// TestSlowListener checks that a listener that stops reading delays nobody, is
// disconnected, and can resume where it stopped.
func TestSlowListener(t *testing.T) {
	r := newRig(t, nil)
	j := r.submit()
	l := r.take()
	conn := r.stall("/v1/jobs/" + j.ID + "/events")
	slow := bufio.NewReader(conn.client)
	lineOf := func(prefix string) string {
		for {
			line, err := slow.ReadString('\n')
			if after, ok := strings.CutPrefix(line, prefix); ok && err == nil {
				return strings.TrimSpace(after)
			}
			r.check(err)
		}
	}
	lineOf("event: state")

	var heard []string
	all, quick := make(chan struct{}), make(chan error, 1)
	const events = 100
	go func() {
		quick <- r.c.Events(t.Context(), j.ID, "", func(e client.Event) error {
			if e.Type == "progress" {
				if heard = append(heard, e.ID); len(heard) == events {
					close(all)
				}
			}
			return nil
		})
	}()
	r.until(func() bool { return r.s.hub.count.Load() == 2 })
	for range events {
		r.check(l.Event(t.Context(), lipstream.Event{Type: lipstream.EventProgress, Phase: lipstream.PhaseFrames}))
	}
	last := ""
	for range 3 {
		last = lineOf("id: ")
	}
	<-all // while the slow one takes nothing
	conn.expire(t)
	r.until(func() bool { return r.s.hub.count.Load() == 1 })
	r.finish(l, 0)
	r.check(<-quick)
	if len(heard) != events {
		t.Errorf("the quick listener heard %d of %d events", len(heard), events)
	}
	at := slices.Index(heard, last)
	if at < 0 {
		t.Fatalf("event %q is none that the other heard", last)
	}
	var rest []string
	r.check(r.c.Events(t.Context(), j.ID, last, func(e client.Event) error {
		if e.Type == "progress" {
			rest = append(rest, e.ID)
		}
		return nil
	}))
	if !slices.Equal(rest, heard[at+1:]) {
		t.Errorf("resumed after %s: %d events of %d", last, len(rest), len(heard)-at-1)
	}
}

func TestRetention(t *testing.T) {
	r := newRig(t, nil)
	old, waiting := r.submit(), r.submit()
	l := r.take()
	if l.Job.ID != old.ID {
		t.Fatal("another job")
	}
	r.finish(l, 1)
	unused := r.upload("c.png", demo.Portrait)
	keep := filepath.Join(r.s.uploads.dir, "notes.txt")
	r.check(os.WriteFile(keep, []byte("not ours"), 0o600))
	r.untilState(old.ID, queue.Done)
	r.s.sweep(t.Context(), time.Now().Add(-time.Hour))
	if n := len(r.s.uploads.all()); n != 5 {
		t.Errorf("%d uploads after a sweep of nothing", n)
	}
	r.s.sweep(t.Context(), time.Now().Add(time.Hour))
	r.status(404, "GET", "/v1/jobs/"+old.ID, "")
	r.status(200, "GET", "/v1/jobs/"+waiting.ID, "")
	r.status(404, "GET", "/v1/uploads/"+unused, "")
	r.status(404, "GET", "/v1/uploads/"+old.Spec.Video.Upload, "")
	r.status(200, "GET", "/v1/uploads/"+waiting.Spec.Video.Upload, "")
	if _, err := os.Stat(keep); err != nil {
		t.Error(err)
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"", "a.mp4", "../../x", `C:\x\y.mov`, "a\x00b", strings.Repeat("ä", 200), "filename eA=="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name := cleanName(s)
		if name == "" || len(name) > 150 || strings.ContainsAny(name, "/\\\x00\r\n") || name == "." || name == ".." || cleanName(name) != name {
			t.Errorf("%q becomes %q", s, name)
		}
		if d := disposition("inline", name); strings.ContainsAny(d, "\r\n") || strings.Count(d, `"`) != 2 {
			t.Errorf("%q: %s", s, d)
		}
		_, _ = fileName(s)
	})
}

// TestPastEvents: the events of a running job end with the latest one, although the
// job goes on.
func TestPastEvents(t *testing.T) {
	r := newRig(t, nil)
	j := r.submit()
	past := func() (data []string) {
		r.check(r.c.PastEvents(t.Context(), j.ID, func(e client.Event) error {
			if e.Type != "state" {
				data = append(data, e.Data)
			}
			return nil
		}))
		return data
	}
	if got := past(); len(got) > 0 {
		t.Errorf("a job that waits has the events %q", got)
	}
	l := r.take()
	for i, kind := range []string{"phase", "progress", "progress"} {
		r.check(l.Event(t.Context(), lipstream.Event{Type: kind, Phase: lipstream.PhaseFrames}))
		if got := past(); len(got) != i+1 || !strings.Contains(got[i], `{"task":0,"type":"`+kind+`"`) {
			t.Errorf("event %d: %q", i, got)
		}
	}
	r.finish(l, 0)
	if got := past(); len(got) != 4 || !strings.Contains(got[3], `"type":"done"`) {
		t.Errorf("after its end: %q", got)
	}
}
