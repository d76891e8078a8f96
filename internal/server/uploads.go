package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/queue"
)

// uploads stores the files that clients send: each in a folder of its own, with the
// content in data.<extension> and the rest in info.json. Names from clients are
// only shown, never used as paths.
type uploads struct {
	dir       string
	maxUpload int64
	maxStored int64
	log       *slog.Logger

	mu     sync.Mutex
	stored int64           // bytes promised to all uploads
	busy   map[string]bool // being written to
}

// upload is the content of info.json.
type upload struct {
	ID      string     `json:"id"`
	Name    string     `json:"name"`
	Ext     string     `json:"ext"`
	Size    int64      `json:"size"`
	Created time.Time  `json:"created"`
	Media   *MediaInfo `json:"media,omitempty"`
}

// MediaInfo describes a complete upload, as ffprobe sees it.
type MediaInfo struct {
	Kind     string  `json:"kind"` // video, picture or audio
	Width    int     `json:"width,omitempty"`
	Height   int     `json:"height,omitempty"`
	FPS      float64 `json:"fps,omitempty"`
	Duration float64 `json:"duration,omitempty"` // seconds
	Frames   int64   `json:"frames,omitempty"`
	Codec    string  `json:"codec,omitempty"`
	HasAudio bool    `json:"has_audio"`
}

func newUploads(dir string, maxUpload, maxStored int64, log *slog.Logger) (*uploads, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.Output.Wrap("make the folder "+dir, fault.WithoutPath(err))
	}
	u := &uploads{dir: dir, maxUpload: maxUpload, maxStored: maxStored, log: log, busy: map[string]bool{}}
	for _, i := range u.all() {
		u.stored += i.Size
	}
	return u, nil
}

var uploadID = regexp.MustCompile(`^[0-9a-z]{18}$`)

func (u *uploads) folder(id string) string   { return filepath.Join(u.dir, id) }
func (u *uploads) data(i upload) string      { return filepath.Join(u.dir, i.ID, "data"+i.Ext) }
func (u *uploads) infoFile(id string) string { return filepath.Join(u.dir, id, "info.json") }

// find returns an upload's info and the number of bytes received.
func (u *uploads) find(id string) (i upload, offset int64, err error) {
	if !uploadID.MatchString(id) {
		return i, 0, errNoUpload
	}
	b, err := os.ReadFile(u.infoFile(id))
	if err == nil {
		err = json.Unmarshal(b, &i)
	}
	var st fs.FileInfo
	if err == nil {
		st, err = os.Stat(u.data(i))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return i, 0, errNoUpload
	}
	if err != nil {
		return i, 0, fault.Internal.Wrap("read upload "+id, fault.WithoutPath(err))
	}
	return i, st.Size(), nil
}

func (u *uploads) all() []upload {
	var all []upload
	entries, _ := os.ReadDir(u.dir)
	for _, e := range entries {
		if i, _, err := u.find(e.Name()); err == nil {
			all = append(all, i)
		}
	}
	return all
}

var extForm = regexp.MustCompile(`^\.[a-z0-9]{1,5}$`)

// create reserves space for a file. A size of -1 reserves the maximum.
func (u *uploads) create(name string, size int64) (upload, error) {
	if size < 0 {
		size = u.maxUpload
	}
	if size > u.maxUpload {
		return upload{}, refuse(http.StatusRequestEntityTooLarge, fmt.Sprintf("the file has %d bytes, and %d are allowed", size, u.maxUpload),
			"make it smaller, or ask the operator for a larger `max_upload`")
	}
	i := upload{ID: queue.NewID(), Name: cleanName(name), Ext: extOf(cleanName(name)), Size: size, Created: time.Now().UTC()}
	u.mu.Lock()
	full := u.stored+size > u.maxStored
	if !full {
		u.stored += size
	}
	u.mu.Unlock()
	if full {
		return upload{}, refuse(http.StatusInsufficientStorage, "all uploads together would exceed the server's limit", "remove jobs and uploads that are no longer needed, or ask the operator for a larger `max_stored`")
	}
	err := os.Mkdir(u.folder(i.ID), 0o700)
	if err == nil {
		err = os.WriteFile(u.data(i), nil, 0o600)
	}
	if err == nil {
		err = u.write(i)
	}
	if err != nil {
		u.remove(i)
	}
	return i, keepFault(i, err)
}

func keepFault(i upload, err error) error {
	return fault.Output.Wrap("keep upload "+i.Name, fault.WithoutPath(err), "check the free space on the server's disk")
}

func (u *uploads) write(i upload) error {
	b, err := json.Marshal(i)
	if err != nil {
		return err
	}
	return disk.WriteFile(u.infoFile(i.ID), b, 0o600)
}

// remove deletes an upload.
func (u *uploads) remove(i upload) {
	if err := disk.RemoveAll(u.folder(i.ID)); err != nil {
		u.log.Warn("server: an upload could not be removed", "id", i.ID, "error", err)
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stored -= i.Size
}

// claim makes the caller the only writer of an upload until it calls release.
func (u *uploads) claim(id string) (release func(), ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.busy[id] {
		return nil, false
	}
	u.busy[id] = true
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.busy, id)
	}, true
}

// append adds the bytes of r at offset, at most up to the upload's size, and returns
// the new offset. Bytes that arrived before a connection broke are kept.
func (u *uploads) append(i upload, offset int64, r io.Reader) (int64, error) {
	f, err := os.OpenFile(u.data(i), os.O_WRONLY, 0)
	if err != nil {
		return offset, keepFault(i, err)
	}
	n, err := io.Copy(io.NewOffsetWriter(f, offset), io.LimitReader(r, i.Size-offset))
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		err = keepFault(i, err) // of the disk, not of the connection
	}
	if err == nil {
		if more, _ := r.Read(make([]byte, 1)); more > 0 {
			err = refuse(http.StatusRequestEntityTooLarge, "the file is longer than its Upload-Length", "")
		}
	}
	if closeErr := f.Close(); err == nil {
		err = keepFault(i, closeErr)
	}
	return offset + n, err
}

// cleanName makes a name safe to show: one line, no folders, at most 150 bytes.
func cleanName(name string) string {
	name = strings.ToValidUTF8(name, "?")
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, name))
	for len(name) > 150 {
		_, n := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-n]
	}
	if name == "" || name == "." || name == ".." {
		return "file"
	}
	return name
}

const tusVersion = "1.0.0"

func tusHeaders(w http.ResponseWriter) {
	w.Header().Set("Tus-Resumable", tusVersion)
	w.Header().Set("Cache-Control", "no-store")
}

// tus returns a handler that lets f answer only requests of the protocol.
func tus(f handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		tusHeaders(w)
		if r.Header.Get("Tus-Resumable") != tusVersion {
			w.Header().Set("Tus-Version", tusVersion)
			return refuse(http.StatusPreconditionFailed, "the header Tus-Resumable: 1.0.0 is missing", "uploads follow tus.io 1.0")
		}
		return f(w, r)
	}
}

func (s *Server) uploadOptions(w http.ResponseWriter, _ *http.Request) error {
	tusHeaders(w)
	w.Header().Set("Tus-Version", tusVersion)
	w.Header().Set("Tus-Extension", "creation,termination")
	w.Header().Set("Tus-Max-Size", strconv.FormatInt(s.o.MaxUpload, 10))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// number returns the size in a header.
func number(r *http.Request, name string) (int64, error) {
	n, err := strconv.ParseInt(r.Header.Get(name), 10, 64)
	if err != nil || n < 0 {
		return 0, refuse(http.StatusBadRequest, "the header "+name+" is not a size", "uploads follow tus.io 1.0")
	}
	return n, nil
}

// fileName returns the name in Upload-Metadata: "filename base64,other base64".
func fileName(metadata string) (name string, err error) {
	for pair := range strings.SplitSeq(metadata, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(pair), " ")
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
		if err != nil {
			return "", refuse(http.StatusBadRequest, "Upload-Metadata is not base64", "uploads follow tus.io 1.0")
		}
		if key == "filename" {
			name = string(b)
		}
	}
	return name, nil
}

func (s *Server) createUpload(w http.ResponseWriter, r *http.Request) error {
	size, err := number(r, "Upload-Length")
	if err != nil {
		return err
	}
	name, err := fileName(r.Header.Get("Upload-Metadata"))
	if err != nil {
		return err
	}
	if size == 0 {
		return refuse(http.StatusBadRequest, "the file is empty", "choose another file")
	}
	i, err := s.uploads.create(name, size)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/uploads/"+i.ID)
	w.Header().Set("Upload-Offset", "0")
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (s *Server) headUpload(w http.ResponseWriter, r *http.Request) error {
	i, offset, err := s.uploads.find(r.PathValue("id"))
	if err != nil {
		return err
	}
	w.Header().Set("Upload-Offset", strconv.FormatInt(offset, 10))
	w.Header().Set("Upload-Length", strconv.FormatInt(i.Size, 10))
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) patchUpload(w http.ResponseWriter, r *http.Request) error {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/offset+octet-stream" {
		return refuse(http.StatusUnsupportedMediaType, "the Content-Type is not application/offset+octet-stream", "uploads follow tus.io 1.0")
	}
	at, err := number(r, "Upload-Offset")
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	release, ok := s.uploads.claim(id)
	if !ok {
		return refuse(http.StatusConflict, "somebody else is writing to this upload", "ask for the offset with HEAD and continue there")
	}
	defer release()
	i, offset, err := s.uploads.find(id)
	if err != nil {
		return err
	}
	if at != offset {
		w.Header().Set("Upload-Offset", strconv.FormatInt(offset, 10))
		return refuse(http.StatusConflict, fmt.Sprintf("the upload is at %d, not at %d", offset, at), "continue at that offset")
	}
	next, err := s.uploads.append(i, offset, r.Body)
	s.metrics.received.Add(float64(next - offset))
	if err != nil {
		return err
	}
	w.Header().Set("Upload-Offset", strconv.FormatInt(next, 10))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// uploadView is an upload's JSON.
type uploadView struct {
	ID       string     `json:"id"`
	Name     string     `json:"name"`
	Size     int64      `json:"size"`
	Offset   int64      `json:"offset"`
	Complete bool       `json:"complete"`
	Expires  time.Time  `json:"expires"`
	Media    *MediaInfo `json:"media,omitempty"`
}

func (s *Server) getUpload(w http.ResponseWriter, r *http.Request) error {
	i, offset, err := s.uploads.find(r.PathValue("id"))
	if err != nil {
		return err
	}
	if offset == i.Size && i.Media == nil {
		if i.Media, err = s.describe(r.Context(), s.uploads.data(i), i.Name); err != nil {
			return err
		}
		if err := s.uploads.write(i); err != nil {
			s.log.Warn("server: the description of an upload could not be stored", "error", err)
		}
	}
	return answer(w, http.StatusOK, uploadView{i.ID, i.Name, i.Size, offset, offset == i.Size, i.Created.Add(s.o.Retention), i.Media})
}

// probe runs ffprobe on a file. Errors use the client's name for it.
func probe(ctx context.Context, path, name string) (media.Tools, *media.Info, error) {
	tools, err := media.FindTools(ctx)
	if err != nil {
		return tools, nil, err
	}
	info, err := media.Probe(ctx, tools, path)
	if e, ok := errors.AsType[*fault.Error](err); ok && strings.HasSuffix(e.Op, path) {
		named := *e
		named.Op = strings.TrimSuffix(e.Op, path) + name
		err = &named
	}
	return tools, info, err
}

// describe returns the description of an upload.
func (s *Server) describe(ctx context.Context, path, name string) (*MediaInfo, error) {
	_, info, err := probe(ctx, path, name)
	if err != nil {
		return nil, err
	}
	m := &MediaInfo{Kind: "audio", Duration: info.Duration.Seconds(), HasAudio: len(info.Audio) > 0}
	if v := info.Video; v != nil {
		m.Kind, m.Width, m.Height, m.FPS, m.Frames, m.Codec = "video", v.Width, v.Height, v.FrameRate.Float(), v.Frames, v.Codec
		if v.IsPicture {
			m.Kind, m.FPS, m.Frames, m.Duration = "picture", 0, 1, 0
		}
	}
	return m, nil
}

func (s *Server) uploadContent(w http.ResponseWriter, r *http.Request) error {
	i, offset, err := s.uploads.find(r.PathValue("id"))
	if err != nil {
		return err
	}
	if offset != i.Size {
		return refuse(http.StatusConflict, "the upload is not complete", "")
	}
	return serveFile(w, r, s.uploads.data(i), i.Name)
}

func (s *Server) deleteUpload(w http.ResponseWriter, r *http.Request) error {
	tusHeaders(w)
	i, _, err := s.uploads.find(r.PathValue("id"))
	if err != nil {
		return err
	}
	if s.inUse()[i.ID] {
		return refuse(http.StatusConflict, "a job that has not ended uses this upload", "cancel it first")
	}
	s.uploads.remove(i)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
