package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/testdata/demo"
)

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	spec := fmt.Sprintf(`{"video":{"upload":%q},"audio":{"upload":%q}}`, r.upload("face.png", demo.Portrait), r.upload("voice.wav", demo.Speech))
	post := func(want int, key, body string) (id string, a *http.Response) {
		t.Helper()
		a, text := r.get("POST", "/v1/jobs", body, "Content-Type: application/json", "Idempotency-Key: "+key)
		if a.StatusCode != want {
			t.Fatalf("%d, want %d: %s", a.StatusCode, want, text)
		}
		var j queue.Job
		r.check(json.Unmarshal([]byte(text), &j))
		return j.ID, a
	}
	id, _ := post(201, "k", spec)
	same, a := post(200, "k", " "+spec) // the same job, written in another way
	if same != id || a.Header.Get("Idempotency-Replayed") != "true" || a.Header.Get("Location") != "/v1/jobs/"+id {
		t.Errorf("%s, not %s: %v", same, id, a.Header)
	}
	if other, _ := post(201, "k2", spec); other == id {
		t.Error("another key returns the same job")
	}
	post(422, "k", strings.Replace(spec, "{", `{"name":"other.mp4",`, 1))
	for _, key := range []string{"", strings.Repeat("x", 256), "häuser"} {
		post(400, key, spec)
	}
	// A request that is refused does not use up its key.
	post(400, "k3", strings.Replace(spec, "{", `{"name":"no-extension",`, 1))
	post(201, "k3", spec)

	r.status(202, "DELETE", "/v1/jobs/"+id, "")
	r.status(204, "DELETE", "/v1/jobs/"+id, "")
	post(410, "k", spec)
}

// TestFullQueue checks that a request whose job is already waiting gets this job, although
// no more jobs may wait.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *Options) { o.MaxQueued = 1 })
	spec := fmt.Sprintf(`{"video":{"upload":%q},"audio":{"upload":%q}}`, r.upload("face.png", demo.Portrait), r.upload("voice.wav", demo.Speech))
	for _, c := range []struct {
		key  string
		want int
	}{{"k", 201}, {"k", 200}, {"k2", 429}} {
		a, text := r.get("POST", "/v1/jobs", spec, "Content-Type: application/json", "Idempotency-Key: "+c.key)
		if a.StatusCode != c.want || (a.Header.Get("Retry-After") != "") != (c.want == 429) {
			t.Errorf("key %s: %d, want %d: %s", c.key, a.StatusCode, c.want, text)
		}
	}
}

// TestIdempotentForm sends a form twice: each time it has another boundary.
func TestIdempotentForm(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	post := func(want int, voice []byte) string {
		t.Helper()
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		for name, b := range map[string][]byte{"video": demo.Portrait, "audio": voice} {
			w, err := form.CreateFormFile(name, name+".bin")
			r.check(err)
			_, err = w.Write(b)
			r.check(err)
		}
		r.check(form.Close())
		var j queue.Job
		r.check(json.Unmarshal([]byte(r.status(want, "POST", "/v1/jobs", body.String(), "Content-Type: "+form.FormDataContentType(), "Idempotency-Key: form")), &j))
		return j.ID
	}
	id := post(201, demo.Speech)
	if same := post(200, demo.Speech); same != id {
		t.Errorf("%s, not %s", same, id)
	}
	post(422, demo.Speech[:len(demo.Speech)-2])
	r.s.uploads.mu.Lock()
	defer r.s.uploads.mu.Unlock()
	if want := int64(len(demo.Portrait) + len(demo.Speech)); r.s.uploads.stored != want {
		t.Errorf("%d bytes of uploads, want %d: those of the refused forms are left", r.s.uploads.stored, want)
	}
}

// TestManyRequestsWithOneKey sends 50 requests at the same time.
func TestManyRequestsWithOneKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	spec := fmt.Sprintf(`{"video":{"upload":%q},"audio":{"upload":%q}}`, r.upload("face.png", demo.Portrait), r.upload("voice.wav", demo.Speech))
	var wait sync.WaitGroup
	var mu sync.Mutex
	statuses, ids := map[int]int{}, map[string]bool{}
	for range 50 {
		wait.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), "POST", r.web.URL+"/v1/jobs", strings.NewReader(spec))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Idempotency-Key", "k")
			a, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = a.Body.Close() }()
			var j queue.Job
			b, err := io.ReadAll(a.Body)
			if err != nil || json.Unmarshal(b, &j) != nil {
				t.Errorf("%s, %v", b, err)
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[a.StatusCode]++
			ids[j.ID] = true
		})
	}
	wait.Wait()
	all, err := r.s.o.Queue.Jobs(t.Context())
	if err != nil || len(all) != 1 || len(ids) != 1 || statuses[201] != 1 || statuses[200] != 49 {
		t.Errorf("%d jobs, %d IDs, statuses %v, %v", len(all), len(ids), statuses, err)
	}
	if len(r.s.keyLocks.locks) != 0 {
		t.Errorf("%d locks are left", len(r.s.keyLocks.locks))
	}
}
