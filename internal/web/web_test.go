package web

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/lipstream/lipstream/internal/web/bundle"
)

// What is embedded has to be what the sources make.
func TestDistIsFresh(t *testing.T) {
	files, err := bundle.Build("src")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := dist.ReadFile("dist/" + name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("dist/%s is stale (%v): run go generate ./internal/web", name, err)
		}
	}
}

func TestHandler(t *testing.T) {
	h, err := Handler()
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, path, tag string) *httptest.ResponseRecorder {
		r, w := httptest.NewRequest(method, path, nil), httptest.NewRecorder()
		r.Header.Set("If-None-Match", tag)
		h.ServeHTTP(w, r)
		return w
	}
	page := ask("GET", "/", "")
	if page.Code != http.StatusOK || page.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("GET /: %d %v", page.Code, page.Header())
	}
	for _, c := range []struct {
		method, path, tag string
		want              int
	}{
		{"GET", "/app.js", "", 200}, {"GET", "/app.css", "", 200}, {"HEAD", "/", "", 200},
		{"GET", "/", page.Header().Get("ETag"), 304},
		{"GET", "/../web.go", "", 404}, {"GET", "/nothing", "", 404}, {"POST", "/", "", 405},
	} {
		if got := ask(c.method, c.path, c.tag).Code; got != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, got, c.want)
		}
	}
}
