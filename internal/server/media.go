package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/internal/store"
)

// results caches objects of a remote store as files, for clients that seek in
// them.
type results struct {
	dir   string
	store store.Store
	mu    sync.Mutex
	files map[string]*sync.Mutex // held while a file is fetched
}

func newResults(dir string, s store.Store) (*results, error) {
	// Files of an earlier run are fetched again when they are needed.
	err := os.RemoveAll(dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	return &results{dir: dir, store: s, files: map[string]*sync.Mutex{}}, fault.Output.Wrap("make the folder "+dir, fault.WithoutPath(err))
}

func (c *results) file(object string) string {
	sum := sha256.Sum256([]byte(object))
	return filepath.Join(c.dir, hex.EncodeToString(sum[:16]))
}

// path returns a file with the object.
func (c *results) path(ctx context.Context, object string) (string, error) {
	if p := c.store.Path(object); p != "" {
		return p, nil
	}
	c.mu.Lock()
	m := c.files[object]
	if m == nil {
		m = &sync.Mutex{}
		c.files[object] = m
	}
	c.mu.Unlock()
	m.Lock()
	defer m.Unlock()
	path := c.file(object)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, store.Fetch(ctx, c.store, object, path)
}

// drop removes the cached copy of an object.
func (c *results) drop(object string) {
	if c.store.Path(object) != "" {
		return
	}
	_ = os.Remove(c.file(object))
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.files, object)
}

func gone(name string) error {
	return refuse(http.StatusGone, name+" is no longer kept", "upload it again")
}

// serveFile answers with a file. It supports ranges and sets the headers that a
// browser needs to show the file.
func serveFile(w http.ResponseWriter, r *http.Request, path, name string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return gone(name)
	}
	if err != nil {
		return fault.Internal.Wrap("read "+name, fault.WithoutPath(err))
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return fault.Internal.Wrap("read "+name, fault.WithoutPath(err))
	}
	how := "inline"
	if r.URL.Query().Get("download") == "1" {
		how = "attachment"
	}
	h := w.Header()
	h.Set("Content-Disposition", disposition(how, name))
	h.Set("Content-Type", contentType(name))
	h.Set("ETag", strconv.Quote(strconv.FormatInt(st.ModTime().UnixNano(), 36)+"-"+strconv.FormatInt(st.Size(), 36)))
	h.Set("Cache-Control", "private, no-cache")
	http.ServeContent(w, r, "", st.ModTime(), f)
	return nil
}

// disposition returns a Content-Disposition with the name in ASCII, for old
// clients, and in full (RFC 6266).
func disposition(how, name string) string {
	plain := strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' || r == '%' {
			return '_'
		}
		return r
	}, name)
	return how + `; filename="` + plain + `"; filename*=UTF-8''` + strings.ReplaceAll(url.QueryEscape(name), "+", "%20")
}

// contentType returns a type that a browser plays or downloads, and never one that
// it runs.
func contentType(name string) string {
	switch ext := strings.ToLower(filepath.Ext(name)); ext {
	case ".mp4", ".m4v":
		return "video/mp4"
	case ".mov":
		return "video/quicktime"
	case ".webm":
		return "video/webm"
	case ".mkv":
		return "video/x-matroska"
	case ".wav":
		return "audio/wav"
	case ".mp3":
		return "audio/mpeg"
	case ".m4a":
		return "audio/mp4"
	case ".ogg", ".opus":
		return "audio/ogg"
	case ".png", ".jpg", ".jpeg", ".webp":
		return mime.TypeByExtension(ext)
	}
	return "application/octet-stream"
}

// result returns the result of the job in a request, and its file.
func (s *Server) result(r *http.Request) (*queue.Result, string, error) {
	j, err := s.o.Queue.Job(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, "", err
	}
	if j.Result == nil {
		return nil, "", refuse(http.StatusConflict, "the job is "+string(j.State)+": it has no result", "wait until it is done")
	}
	path, err := s.results.path(r.Context(), j.Result.Object)
	return j.Result, path, err
}

func (s *Server) jobResult(w http.ResponseWriter, r *http.Request) error {
	result, path, err := s.result(r)
	if err != nil {
		return err
	}
	return serveFile(w, r, path, result.Name)
}

// jobMedia answers with one of a job's inputs.
func (s *Server) jobMedia(which func(queue.Job) queue.Media) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		j, err := s.o.Queue.Job(r.Context(), r.PathValue("id"))
		if err != nil {
			return err
		}
		m := which(j)
		path := m.Path
		if path == "" {
			if path, err = s.results.path(r.Context(), m.Object); err != nil {
				return err
			}
		}
		return serveFile(w, r, path, m.Name)
	}
}

func (s *Server) jobPreview(w http.ResponseWriter, r *http.Request) error {
	f, err := s.o.Queue.Frame(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "image/jpeg")
	h.Set("Cache-Control", "no-cache")
	h.Set("Lipstream-Frame", strconv.FormatInt(f.Index, 10))
	tag := strconv.Quote(strconv.FormatInt(f.Index, 10))
	h.Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	_, _ = w.Write(f.JPEG)
	return nil
}
