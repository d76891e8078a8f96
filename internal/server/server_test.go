package server

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/client"
	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/testdata/demo"
)

// TestSession does everything that a client does with a job, and checks each answer
// against the document.
func TestSession(t *testing.T) {
	r := newRig(t, nil)
	j := r.submit()
	if j.State != queue.Queued || j.Engine != "preview" || j.Spec.Name != "face-lipstream.mp4" || j.Video.Name != "face.png" || j.Video.Path != "" || j.Video.Object != "" {
		t.Errorf("%+v", j)
	}
	if b := r.status(200, "GET", "/v1/uploads/"+j.Spec.Video.Upload, ""); !strings.Contains(b, `"kind":"picture"`) || !strings.Contains(b, `"complete":true`) {
		t.Error(b)
	}
	r.check(r.c.Get(t.Context(), "/v1/uploads/"+j.Spec.Video.Upload, io.Discard))
	for _, path := range []string{"/v1/memory", "/v1/options", "/v1/devices", "/healthz", "/readyz", "/v1/openapi.json", "/v1/jobs?state=queued", "/v1/jobs/" + j.ID + "/video"} {
		r.check(r.c.Get(t.Context(), path, io.Discard))
	}
	r.status(409, "GET", "/v1/jobs/"+j.ID+"/result", "")
	r.status(409, "DELETE", "/v1/uploads/"+j.Spec.Video.Upload, "")
	l := r.take()
	r.check(l.Frame(t.Context(), queue.Frame{Index: 3, JPEG: []byte("\xff\xd8\xff")}))
	r.check(r.c.Get(t.Context(), "/v1/jobs/"+j.ID+"/preview", io.Discard))
	r.finish(l, 5)
	var types []string
	r.check(r.c.Events(t.Context(), j.ID, "", func(e client.Event) error {
		if e.Type != "state" {
			types = append(types, e.Type)
		}
		return nil
	}))
	if got := strings.Join(types, " "); got != "progress progress progress progress progress done" {
		t.Error(got)
	}
	r.untilState(j.ID, queue.Done)
	if j, err := r.c.Job(t.Context(), j.ID); err != nil || j.State != queue.Done || j.Result.Frames != 5 || j.Result.Object != "" {
		t.Errorf("%+v, %v", j, err)
	}
	a, b := r.get("GET", "/v1/jobs/"+j.ID+"/result?download=1", "", "Range: bytes=2-4")
	if a.StatusCode != 206 || b != "234" || a.Header.Get("Content-Range") != "bytes 2-4/10" || a.Header.Get("Content-Type") != "video/mp4" ||
		a.Header.Get("Content-Disposition") != `attachment; filename="h_user _x_.mp4"; filename*=UTF-8''h%C3%A4user%20%22x%22.mp4` {
		t.Errorf("%d %q %v", a.StatusCode, b, a.Header)
	}
	out := filepath.Join(t.TempDir(), "r.mp4")
	r.check(r.c.Fetch(t.Context(), j.ID, out, false))
	if b, err := os.ReadFile(out); err != nil || string(b) != "0123456789" {
		t.Errorf("%q, %v", b, err)
	}
	if err := r.c.Retry(t.Context(), j.ID); client.Status(err) != 409 {
		t.Error(err)
	}
	r.check(r.c.Delete(t.Context(), j.ID))
	r.status(404, "GET", "/v1/jobs/"+j.ID, "")
	if left, err := r.s.o.Store.List(t.Context(), ""); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}

	j = r.submit()
	r.check(r.c.Delete(t.Context(), j.ID)) // cancels
	r.check(r.c.Retry(t.Context(), j.ID))
	if l := r.take(); l.Job.ID != j.ID || l.Job.Generation != 1 {
		t.Errorf("%+v", l.Job)
	}
	r.until(func() bool {
		b := r.status(200, "GET", "/metrics", "")
		return strings.Contains(b, `lipstream_jobs{state="running"} 1`) && strings.Contains(b, "lipstream_memory_used_bytes{")
	})
}

func TestBadRequests(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxQueued = 1; o.MaxUpload = 10_000_000 })
	video, audio := r.upload("a.png", demo.Portrait), r.upload("b.wav", demo.Speech)
	spec := func(more string) string {
		return fmt.Sprintf(`{"video":{"upload":%q},"audio":{"upload":%q}%s}`, video, audio, more)
	}
	const kind = "Content-Type: application/json"
	for body, want := range map[string]int{
		"":                            400,
		"[]":                          400,
		"{}":                          400,
		spec("") + "{}":               400,
		spec(`,"sieve":1`):            400,
		spec(`,"steps":1000`):         400,
		spec(`,"engine":"magic"`):     400,
		spec(`,"name":"../../x.mp4"`): 400,
		spec(`,"name":"x.exe"`):       400,
		spec(`,"priority":"urgent"`):  400,
		spec(`,"face":"nobody"`):      400,
		`{"video":{"path":"/etc/passwd"},"audio":{"upload":"` + audio + `"}}`:                 400,
		`{"video":{"upload":"../../../etc/passwd"},"audio":{"upload":"` + audio + `"}}`:       404,
		`{"video":{"upload":"` + video + `","path":"/x"},"audio":{"upload":"` + audio + `"}}`: 400,
	} {
		r.status(want, "POST", "/v1/jobs", body, kind)
	}
	r.status(415, "POST", "/v1/jobs", spec(""), "Content-Type: text/plain")
	r.status(413, "POST", "/v1/jobs", `{"name":"`+strings.Repeat("x", maxJSON)+`"}`, kind)
	r.status(503, "POST", "/v1/estimate", spec(""), kind)
	for _, path := range []string{"/v1/jobs/none", "/v1/jobs/none/events", "/v1/jobs/%2e%2e%2fx/result", "/v1/jobs/none/preview", "/v1/uploads/none", "/v1/nothing"} {
		r.status(404, "GET", path, "")
	}
	r.status(400, "GET", "/v1/jobs?limit=0", "")
	r.status(400, "GET", "/v1/jobs?state=lost", "")
	r.status(201, "POST", "/v1/jobs", spec(""), kind)
	r.status(429, "POST", "/v1/jobs", spec(""), kind)
	r.s.Drain()
	r.status(503, "POST", "/v1/jobs", spec(""), kind)
	r.status(503, "GET", "/readyz", "")
}

func TestUploads(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxUpload = 1000; o.MaxStored = 1500 })
	const tusHeader, kind = "Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream"
	r.status(412, "POST", "/v1/uploads", "", "Upload-Length: 5")
	r.status(400, "POST", "/v1/uploads", "", tusHeader)
	r.status(400, "POST", "/v1/uploads", "", tusHeader, "Upload-Length: 5", "Upload-Metadata: filename ???")
	r.status(413, "POST", "/v1/uploads", "", tusHeader, "Upload-Length: 1001")
	a, _ := r.get("POST", "/v1/uploads", "", tusHeader, "Upload-Length: 10", "Upload-Metadata: filename Li4vLi4vZXRjL3Bhc3N3ZA==") // ../../etc/passwd
	place := a.Header.Get("Location")
	if a.StatusCode != 201 || place == "" {
		t.Fatal(a.Status, a.Header)
	}
	r.status(204, "PATCH", place, "01234", tusHeader, kind, "Upload-Offset: 0")
	r.status(409, "PATCH", place, "01234", tusHeader, kind, "Upload-Offset: 0")
	r.status(409, "GET", place+"/content", "")
	r.status(415, "PATCH", place, "5", tusHeader, "Upload-Offset: 5")
	if a, _ := r.get("HEAD", place, "", tusHeader); a.Header.Get("Upload-Offset") != "5" || a.Header.Get("Upload-Length") != "10" {
		t.Error(a.Header)
	}
	// What arrived before a connection broke is kept.
	req, err := http.NewRequestWithContext(t.Context(), "PATCH", r.web.URL+place, io.MultiReader(strings.NewReader("56"), broken{}))
	r.check(err)
	req.Header = http.Header{"Tus-Resumable": {"1.0.0"}, "Content-Type": {"application/offset+octet-stream"}, "Upload-Offset": {"5"}}
	if a, err := http.DefaultClient.Do(req); err == nil {
		t.Error(a.Status)
	}
	r.until(func() bool { // the server has noticed it
		release, ok := r.s.uploads.claim(strings.TrimPrefix(place, "/v1/uploads/"))
		if ok {
			release()
		}
		a, _ := r.get("HEAD", place, "", tusHeader)
		return ok && a.Header.Get("Upload-Offset") == "7"
	})
	r.status(413, "PATCH", place, "789and more", tusHeader, kind, "Upload-Offset: 7")
	if b := r.status(200, "GET", place+"/content", ""); b != "0123456789" {
		t.Errorf("%q", b)
	}
	if a, _ := r.get("GET", place+"/content", ""); !strings.Contains(a.Header.Get("Content-Disposition"), `filename="passwd"`) {
		t.Error(a.Header)
	}
	r.status(422, "GET", place, "") // that is no video
	r.status(201, "POST", "/v1/uploads", "", tusHeader, "Upload-Length: 1000")
	r.status(507, "POST", "/v1/uploads", "", tusHeader, "Upload-Length: 1000")
	r.status(204, "DELETE", place, "", tusHeader)
	r.status(404, "HEAD", place, "", tusHeader)
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestForm(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxUpload = 5 << 20; o.MaxStored = 12 << 20 })
	form := func(fields map[string]string) (string, string) {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		for _, name := range []string{"video", "audio", "spec", "other"} {
			content, ok := fields[name]
			if !ok {
				continue
			}
			if name == "spec" {
				r.check(w.WriteField(name, content))
				continue
			}
			f, err := w.CreateFormFile(name, name+".png")
			r.check(err)
			_, err = io.WriteString(f, content)
			r.check(err)
		}
		r.check(w.Close())
		return b.String(), "Content-Type: " + w.FormDataContentType()
	}
	body, kind := form(map[string]string{"video": string(demo.Portrait), "audio": string(demo.Speech), "spec": `{"video":{},"audio":{},"priority":"high","name":"x.mkv"}`})
	if b := r.status(201, "POST", "/v1/jobs", body, kind); !strings.Contains(b, `"priority":"high"`) {
		t.Error(b)
	}
	for _, fields := range []map[string]string{
		{"video": "x"},
		{"video": "x", "audio": "y", "other": "z"},
		{"video": "x", "audio": "", "spec": "{}"},
		{"video": "x", "audio": "y", "spec": `{"nonsense":1}`},
	} {
		body, kind := form(fields)
		r.status(400, "POST", "/v1/jobs", body, kind)
	}
	body, kind = form(map[string]string{"video": strings.Repeat("x", 5<<20+1), "audio": "y"})
	r.status(413, "POST", "/v1/jobs", body, kind)
	if all := r.s.uploads.all(); len(all) != 2 {
		t.Errorf("left of what was refused: %+v", all)
	}
}

func TestGuard(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.AllowHosts = []string{"lips.example", "*.star.example", "192.0.2.7", "2001:db8::7"}
	})
	r.status(200, "GET", "/healthz", "", "Host: localhost:8448")
	r.status(200, "GET", "/healthz", "", "Host: LIPS.example")
	r.status(200, "GET", "/healthz", "", "Host: a.star.example:8448")
	r.status(200, "GET", "/healthz", "", "Host: 192.0.2.7")
	r.status(200, "GET", "/healthz", "", "Host: [2001:db8::7]:8448")
	for _, host := range []string{"star.example", ".star.example", "b.a.star.example", "evil.example"} {
		r.status(421, "GET", "/healthz", "", "Host: "+host)
	}
	r.status(421, "GET", "/v1/jobs", "", "Host: 192.168.1.7:8448")
	const kind = "Content-Type: application/json"
	r.status(403, "POST", "/v1/jobs", "{}", kind, "Sec-Fetch-Site: cross-site")
	r.status(403, "DELETE", "/v1/jobs/x", "", "Origin: https://evil.example")
	r.status(403, "POST", "/v1/jobs", "{}", kind, "Origin: null")
	r.status(400, "POST", "/v1/jobs", "{}", kind, "Origin: "+r.web.URL)
	a, _ := r.get("GET", "/healthz", "")
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "frame-ancestors 'none'"} {
		if !strings.Contains(a.Header.Get(name), want) {
			t.Errorf("%s: %s", name, a.Header.Get(name))
		}
	}
}

func TestToken(t *testing.T) {
	const token = "a-token-of-some-length"
	r := newRig(t, func(o *Options) { o.Token = token; o.Listen = "0.0.0.0:8448" })
	for _, rt := range r.s.table() {
		method, path, _ := strings.Cut(rt.pattern, " ")
		if rt.open || method == "HEAD" {
			continue
		}
		path = strings.ReplaceAll(path, "{id}", "x")
		r.status(401, method, path, "")
		r.status(401, method, path, "", "Authorization: Bearer a-token-of-some-lengtH")
		r.status(401, method, path, "", "Authorization: Bearer ")
		r.status(401, method, path, "", "Cookie: "+cookieName+"="+token)
	}
	r.status(200, "GET", "/v1/jobs", "", "Authorization: Bearer "+token)
	r.status(200, "GET", "/v1/jobs", "", "Authorization: Bearer "+token, "Host: 192.168.1.7:8448")
	r.status(421, "GET", "/v1/jobs", "", "Authorization: Bearer "+token, "Host: evil.example")
	r.status(200, "GET", "/healthz", "")
	r.status(401, "POST", "/v1/session", `{"token":"wrong"}`)
	a, _ := r.get("POST", "/v1/session", `{"token":"`+token+`"}`)
	cookies := a.Cookies()
	if len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode || strings.Contains(cookies[0].Value, token) {
		t.Fatal(a.Status, cookies)
	}
	r.status(200, "GET", "/v1/jobs", "", "Cookie: "+cookies[0].Name+"="+cookies[0].Value)
}

func TestRoots(t *testing.T) {
	base := t.TempDir()
	root, outside := filepath.Join(base, "root"), filepath.Join(base, "root-not")
	for _, dir := range []string{root, outside} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r := newRig(t, func(o *Options) { o.Roots = []string{root} })
	for path, content := range map[string][]byte{filepath.Join(root, "a.png"): demo.Portrait, filepath.Join(outside, "b.png"): demo.Portrait} {
		r.check(os.WriteFile(path, content, 0o600))
	}
	r.check(os.Symlink(filepath.Join(outside, "b.png"), filepath.Join(root, "link.png")))
	r.check(os.Symlink(outside, filepath.Join(root, "dir")))
	audio := r.upload("b.wav", demo.Speech)
	for path, want := range map[string]int{
		filepath.Join(root, "a.png"):        201,
		filepath.Join(root, "none.png"):     400,
		root:                                400,
		filepath.Join(outside, "b.png"):     400,
		root + "/../root-not/b.png":         400,
		filepath.Join(root, "link.png"):     400,
		filepath.Join(root, "dir", "b.png"): 400,
		"a.png":                             400,
		"http://127.0.0.1/a.png":            400,
		"/proc/self/environ":                400,
	} {
		r.status(want, "POST", "/v1/jobs", fmt.Sprintf(`{"video":{"path":%q},"audio":{"upload":%q}}`, path, audio), "Content-Type: application/json")
	}
}

// TestDocument checks that the document has all routes and no others.
func TestDocument(t *testing.T) {
	r := newRig(t, nil)
	have := map[string]bool{}
	for _, rt := range r.s.table() {
		have[rt.pattern] = true
	}
	for path, item := range document(t).Paths.Map() {
		for method := range item.Operations() {
			if p := method + " " + path; !have[p] {
				t.Errorf("%s is in the document only", p)
			} else {
				delete(have, p)
			}
		}
	}
	for p := range have {
		t.Errorf("%s is not in the document", p)
	}
}
