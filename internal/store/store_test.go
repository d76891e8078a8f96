package store_test

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // an ETag of S3
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/disk/disktest"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/store"
)

func TestDir(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(t.Context(), "dir:"+dir, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	conform(t, s)
	if disktest.ReplacesOpenFiles() {
		conformReplaced(t, s)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".incoming", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := s.Put(t.Context(), "a/b", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(s.Path("a/b")); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestLinkedFolder uses a store with a subfolder that is elsewhere.
func TestLinkedFolder(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	link := filepath.Join(dir, "jobs")
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Skip(err)
	}
	if _, err := os.Lstat(link); err != nil { // Wine 10 makes no links, and says it did
		t.Skip(err)
	}
	s, err := store.Open(t.Context(), "dir:"+dir, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"jobs/a/x", "jobs/b/x"} {
		if err := s.Put(t.Context(), name, strings.NewReader(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(t.Context(), "jobs/a/x"); err != nil {
		t.Fatal(err)
	}
	r, _, err := s.Open(t.Context(), "jobs/b/x")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if b, err := io.ReadAll(r); err != nil || string(b) != "jobs/b/x" {
		t.Errorf("%q, %v", b, err)
	}
	if list, err := s.List(t.Context(), "jobs/"); err != nil || len(list) != 1 || list[0].Name != "jobs/b/x" {
		t.Errorf("list: %+v, %v", list, err)
	}
	if left, err := os.ReadDir(elsewhere); err != nil || len(left) != 1 || left[0].Name() != "b" {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestS3(t *testing.T) {
	f := &fakeS3{objects: map[string]object{}, uploads: map[string]map[int][]byte{}}
	web := httptest.NewServer(f)
	defer web.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	address := "s3://media/some/prefix?endpoint=" + strings.TrimPrefix(web.URL, "http://") + "&tls=false"
	s, err := store.Open(t.Context(), address, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if s.URL() != address {
		t.Error(s.URL())
	}
	conform(t, s)
	if _, err := store.Open(t.Context(), strings.Replace(address, "media", "other", 1), nil, 0); fault.KindOf(err) != fault.Missing {
		t.Errorf("no bucket: %v", err)
	}
}

func TestOpen(t *testing.T) {
	for _, address := range []string{"", "file:/x", "ftp://x", "s3://%zz"} {
		if _, err := store.Open(context.Background(), address, nil, 0); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// fakeS3 is the part of S3 that minio's client uses for a Store.
type fakeS3 struct {
	mu      sync.Mutex
	objects map[string]object
	uploads map[string]map[int][]byte
	n       int
}

type object struct {
	b  []byte
	at time.Time
}

func (o object) tag() string {
	sum := md5.Sum(o.b) //nolint:gosec
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// body undoes the streaming signature: chunks "<hex size>;...\r\n<bytes>\r\n".
func body(r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil || !strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		return b, err
	}
	var out []byte
	for len(b) > 0 {
		head, rest, ok := bytes.Cut(b, []byte("\r\n"))
		size, _, _ := strings.Cut(string(head), ";")
		n, err := strconv.ParseInt(size, 16, 64)
		if !ok || err != nil || int64(len(rest)) < n {
			return nil, io.ErrUnexpectedEOF
		}
		if n == 0 {
			break
		}
		out = append(out, rest[:n]...)
		b = rest[n+2:]
	}
	return out, nil
}

func (f *fakeS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	q := r.URL.Query()
	f.mu.Lock()
	defer f.mu.Unlock()
	if bucket != "media" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	switch {
	case key == "" && r.Method == http.MethodHead:
	case key == "" && r.Method == http.MethodGet:
		f.list(w, q.Get("prefix"))
	case r.Method == http.MethodPost && q.Has("uploads"):
		f.n++
		id := strconv.Itoa(f.n)
		f.uploads[id] = map[int][]byte{}
		fmt.Fprintf(w, `<InitiateMultipartUploadResult><Bucket>media</Bucket><Key>%s</Key><UploadId>%s</UploadId></InitiateMultipartUploadResult>`, key, id)
	case r.Method == http.MethodPut && q.Has("uploadId"):
		b, err := body(r)
		n, _ := strconv.Atoi(q.Get("partNumber"))
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		f.uploads[q.Get("uploadId")][n] = b
		w.Header().Set("ETag", object{b: b}.tag())
	case r.Method == http.MethodPost && q.Has("uploadId"):
		var whole []byte
		parts := f.uploads[q.Get("uploadId")]
		for n := 1; n <= len(parts); n++ {
			whole = append(whole, parts[n]...)
		}
		f.objects[key] = object{whole, time.Now()}
		fmt.Fprintf(w, `<CompleteMultipartUploadResult><Bucket>media</Bucket><Key>%s</Key><ETag>"x-1"</ETag></CompleteMultipartUploadResult>`, key)
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		delete(f.uploads, q.Get("uploadId"))
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPut:
		b, err := body(r)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		o := object{b, time.Now()}
		f.objects[key] = o
		w.Header().Set("ETag", o.tag())
	case r.Method == http.MethodDelete:
		delete(f.objects, key)
		w.WriteHeader(http.StatusNoContent)
	default:
		o, ok := f.objects[key]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("ETag", o.tag())
		http.ServeContent(w, r, "", o.at, strings.NewReader(string(o.b)))
	}
}

func (f *fakeS3) list(w http.ResponseWriter, prefix string) {
	type entry struct {
		Key          string
		Size         int
		LastModified string
	}
	answer := struct {
		XMLName     xml.Name `xml:"ListBucketResult"`
		Name        string
		IsTruncated bool
		Contents    []entry
	}{Name: "media"}
	for key, o := range f.objects {
		if strings.HasPrefix(key, prefix) {
			answer.Contents = append(answer.Contents, entry{key, len(o.b), o.at.UTC().Format(time.RFC3339)})
		}
	}
	slices.SortFunc(answer.Contents, func(a, b entry) int { return strings.Compare(a.Key, b.Key) })
	_ = xml.NewEncoder(w).Encode(answer)
}
