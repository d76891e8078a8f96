package server

import (
	"cmp"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/queue"
)

// goneIfMissing returns err, or an error of status 410 if err means that the file no
// longer exists.
func goneIfMissing(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(http.StatusGone, name+" is no longer kept", "upload it again")
	}
	return err
}

// serveFile answers with a file. It supports ranges and sets the headers that a
// browser needs to show the file.
func serveFile(w http.ResponseWriter, r *http.Request, path, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return goneIfMissing(name, fault.Internal.Wrap("read "+name, fault.WithoutPath(err)))
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
	// A browser might run other types, so it only downloads them.
	h.Set("Content-Type", cmp.Or(contentTypes[strings.ToLower(filepath.Ext(name))], "application/octet-stream"))
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

// contentTypes are the types of the files that a browser plays or shows.
var contentTypes = map[string]string{
	".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".webm": "video/webm", ".mkv": "video/x-matroska",
	".wav": "audio/wav", ".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".ogg": "audio/ogg", ".opus": "audio/ogg",
	".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp",
}

// result returns the result of the job in a request.
func (s *Server) result(r *http.Request) (*queue.Result, error) {
	j, err := s.o.Queue.Job(r.Context(), r.PathValue("id"))
	if err == nil && j.Result == nil {
		err = refuse(http.StatusConflict, "the job is "+string(j.State)+": it has no result", "wait until it is done")
	}
	return j.Result, err
}

func (s *Server) jobResult(w http.ResponseWriter, r *http.Request) error {
	result, err := s.result(r)
	if err != nil {
		return err
	}
	return s.serveObject(w, r, result.Object, result.Name)
}

// serveObject answers with an object of the store.
func (s *Server) serveObject(w http.ResponseWriter, r *http.Request, object, name string) error {
	path, release, err := s.media.Get(r.Context(), object)
	if err != nil {
		return goneIfMissing(name, err)
	}
	defer release()
	return serveFile(w, r, path, name)
}

// jobMedia answers with one of a job's inputs.
func (s *Server) jobMedia(which func(queue.Job) queue.Media) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		j, err := s.o.Queue.Job(r.Context(), r.PathValue("id"))
		if err != nil {
			return err
		}
		m := which(j)
		if m.Path == "" {
			return s.serveObject(w, r, m.Object, m.Name)
		}
		return serveFile(w, r, m.Path, m.Name)
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
