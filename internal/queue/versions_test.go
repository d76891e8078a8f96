package queue

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
)

// rewrite changes the record of a job as another version of Lipstream does.
func rewrite(t *testing.T, q *Queue, id string, f func(map[string]any)) {
	t.Helper()
	e, err := q.jobs.Get(t.Context(), id)
	check(t, err)
	var r map[string]any
	check(t, json.Unmarshal(e.Value(), &r))
	f(r)
	b, err := json.Marshal(r)
	check(t, err)
	_, err = q.jobs.Update(t.Context(), id, b, e.Revision())
	check(t, err)
}

// TestNewerRecord checks that this version keeps what a newer one wrote into a record.
func TestNewerRecord(t *testing.T) {
	t.Parallel()
	q := open(t, Options{})
	j := submit(t, q, "")
	rewrite(t, q, j.ID, func(r map[string]any) {
		r["colour"] = map[string]any{"hue": 7}
		r["tasks"].([]any)[0].(map[string]any)["device"] = "npu:0"
	})
	l := mustTake(t, q, "w")
	check(t, l.Done(t.Context(), Result{Name: "a.mp4"}))
	got := state(t, q, j.ID, Done)
	var r struct {
		Colour struct{ Hue int }
		Tasks  []struct {
			Device string
			Lease  string
		}
		Result struct{ Name string }
	}
	check(t, json.Unmarshal(got.raw, &r))
	if r.Colour.Hue != 7 || r.Tasks[0].Device != "npu:0" || r.Tasks[0].Lease != "" || r.Result.Name != "a.mp4" {
		t.Errorf("%s", got.raw)
	}
}

// TestNewerTask checks that a worker leaves a task alone that it does not understand, and
// takes the others.
func TestNewerTask(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(map[string]any){
		"setting":  func(r map[string]any) { r["spec"].(map[string]any)["hologram"] = true },
		"protocol": func(r map[string]any) { r["protocol"] = protocol + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := open(t, Options{})
			newer := submit(t, q, "")
			rewrite(t, q, newer.ID, change)
			plain := submit(t, q, "")
			l := mustTake(t, q, "w")
			if l.Job.ID != plain.ID {
				t.Fatalf("took %s", l.Job.raw)
			}
			check(t, l.Done(t.Context(), Result{}))
			if j := state(t, q, newer.ID, Queued); j.Tasks[0].Attempts != 0 {
				t.Errorf("%+v", j)
			}
			// A cancelled job ends, whoever sees it.
			_, err := q.Cancel(t.Context(), newer.ID)
			check(t, err)
			state(t, q, newer.ID, Cancelled)
		})
	}
}

// TestOlderRecords reads the records and messages that earlier versions wrote
// (testdata/VERSION-NAME.json) and does what is left of their jobs.
func TestOlderRecords(t *testing.T) {
	t.Parallel()
	records, err := filepath.Glob("testdata/*-record-*.json")
	if err != nil || len(records) == 0 {
		t.Fatalf("no records: %v", err)
	}
	for _, path := range records {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			q := open(t, Options{})
			record, err := os.ReadFile(path)
			check(t, err)
			message, err := os.ReadFile(strings.Replace(path, "-record-", "-message-", 1))
			check(t, err)
			var old struct {
				ID    string
				Tasks []struct{ Sequence int }
			}
			check(t, json.Unmarshal(record, &old))
			// The message gets the sequence number that the record names.
			for range old.Tasks[len(old.Tasks)-1].Sequence {
				_, err := q.js.Publish(t.Context(), workSubject+"preview.normal", message)
				check(t, err)
			}
			_, err = q.jobs.Create(t.Context(), old.ID, record)
			check(t, err)
			l := mustTake(t, q, "w")
			if l.Job.ID != old.ID || !l.Job.understood() || l.Job.Video.Name == "" || l.Job.Spec.Name == "" {
				t.Fatalf("%+v", l.Job)
			}
			check(t, l.Done(t.Context(), Result{Name: "a.mp4"}))
			state(t, q, old.ID, Done)
		})
	}
}

func TestReplicas(t *testing.T) {
	t.Parallel()
	lead := open(t, Options{Listen: "127.0.0.1:0"})
	_, err := Open(t.Context(), Options{URL: lead.Address(), Lead: true, Replicas: 3})
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Field != "replicas" || !strings.Contains(err.Error(), "3 copies need as many NATS servers in one cluster") || f.Hint == "" {
		t.Errorf("one server for three replicas: %v", err)
	}
	for _, o := range []Options{{Dir: t.TempDir(), Replicas: 3}, {Dir: t.TempDir(), Replicas: -1}, {URL: lead.Address(), Replicas: 6}} {
		o.Lead = true
		if _, err := Open(t.Context(), o); fault.KindOf(err) != fault.Usage {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestSilentConsumer removes the consumer of somebody who follows a job, as the loss of a
// NATS server may do: the rest of the events has to arrive.
func TestSilentConsumer(t *testing.T) {
	t.Parallel()
	q := open(t, Options{})
	j := submit(t, q, "")
	l := mustTake(t, q, "w")
	check(t, l.Event(t.Context(), lipstream.Event{Type: lipstream.EventStart}))
	var types []string
	check(t, q.Events(t.Context(), j.ID, 0, func(e Event) error {
		var v lipstream.Event
		check(t, json.Unmarshal(e.Data, &v))
		if types = append(types, v.Type); len(types) == 1 {
			names := q.events.ConsumerNames(t.Context())
			for name := range names.Name() {
				check(t, q.events.DeleteConsumer(t.Context(), name))
			}
			check(t, names.Err())
			check(t, l.Done(t.Context(), Result{}))
		}
		return nil
	}))
	if got := strings.Join(types, " "); got != "start done" {
		t.Error(got)
	}
}

// TestUnreachable checks that an error does not show the password in an address.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	_, err := Open(t.Context(), Options{URL: "nats://me:secret@127.0.0.1:1,nats://me:secret@127.0.0.1:2", Lead: true})
	if fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), "nats://127.0.0.1:1,nats://127.0.0.1:2") || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

// TestNoServerYet checks the message when a worker starts before the server.
func TestNoServerYet(t *testing.T) {
	t.Parallel()
	lead := open(t, Options{Listen: "127.0.0.1:0"})
	check(t, lead.js.DeleteKeyValue(t.Context(), aboutBucket))
	if _, err := Open(t.Context(), Options{URL: lead.Address()}); fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), "no lipstream server has used these NATS servers yet") {
		t.Error(err)
	}
}
