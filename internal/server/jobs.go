package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/queue"
)

// find returns a job's view. It asks the queue if the board does not have the job.
func (s *Server) find(ctx context.Context, id string) (jobView, error) {
	if v, ok := s.board.get(id); ok {
		return v, nil
	}
	j, err := s.o.Queue.Job(ctx, id)
	if err != nil {
		return jobView{}, err
	}
	s.board.set(id, &j)
	v, _ := s.board.get(id)
	return v, nil
}

func (s *Server) getJob(w http.ResponseWriter, r *http.Request) error {
	v, err := s.find(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, v)
}

const defaultLimit, maxLimit = 100, 1000

func (s *Server) listJobs(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	limit := defaultLimit
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			return refuse(http.StatusBadRequest, "limit="+strconv.Quote(text)+" is out of range", "use 1 to "+strconv.Itoa(maxLimit))
		}
		limit = n
	}
	state := q.Get("state")
	if state != "" && !slices.Contains([]queue.State{queue.Queued, queue.Running, queue.Done, queue.Failed, queue.Cancelled}, queue.State(state)) {
		return refuse(http.StatusBadRequest, "state="+strconv.Quote(state)+" is not known", "use queued, running, done, failed or cancelled")
	}
	return answer(w, http.StatusOK, map[string]any{"jobs": s.board.list(state, q.Get("before"), limit)})
}

func (s *Server) createJob(w http.ResponseWriter, r *http.Request) error {
	if s.draining.Load() {
		return refuse(http.StatusServiceUnavailable, "the server is shutting down", "try again when it has restarted")
	}
	n := s.board.count()
	if waiting := n[queue.Queued] + n[queue.Running]; waiting >= s.o.MaxQueued {
		w.Header().Set("Retry-After", "60")
		return refuse(http.StatusTooManyRequests, fmt.Sprintf("%d jobs are waiting, which is the limit of this server", waiting), "try again later")
	}
	var spec queue.Spec
	var made []upload
	kind, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var err error
	switch kind {
	case "application/json":
		err = readJSON(w, r, &spec)
	case "multipart/form-data":
		spec, made, err = s.readForm(r, params["boundary"])
	default:
		err = refuse(http.StatusUnsupportedMediaType, "the Content-Type is not application/json or multipart/form-data", "see /v1/openapi.json")
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // a form may end before its body does
	var j queue.Job
	if err == nil {
		j, err = s.prepare(r.Context(), spec)
	}
	if err == nil {
		j, err = s.o.Queue.Submit(r.Context(), j)
	}
	if err != nil {
		for _, i := range made {
			s.uploads.remove(i)
		}
		return err
	}
	s.board.set(j.ID, &j)
	w.Header().Set("Location", "/v1/jobs/"+j.ID)
	v, _ := s.board.get(j.ID)
	return answer(w, http.StatusCreated, v)
}

// readForm reads the files and the specification of a form in any order.
func (s *Server) readForm(r *http.Request, boundary string) (spec queue.Spec, made []upload, err error) {
	form := multipart.NewReader(r.Body, boundary)
	seen := map[string]bool{}
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return spec, made, nil
		}
		if err != nil {
			return spec, made, refuse(http.StatusBadRequest, "the form cannot be read: "+err.Error(), "")
		}
		name := part.FormName()
		if seen[name] {
			return spec, made, refuse(http.StatusBadRequest, "the field "+strconv.Quote(name)+" appears twice", "send it once")
		}
		seen[name] = true
		switch name {
		case "spec":
			d := json.NewDecoder(io.LimitReader(part, maxJSON))
			d.DisallowUnknownFields()
			video, audio := spec.Video, spec.Audio
			if err := d.Decode(&spec); err != nil {
				return spec, made, refuse(http.StatusBadRequest, "the field spec is not a valid job: "+err.Error(), "see /v1/openapi.json")
			}
			if video.Upload != "" {
				spec.Video = video
			}
			if audio.Upload != "" {
				spec.Audio = audio
			}
		case "video", "audio":
			i, err := s.receive(part)
			if err != nil {
				return spec, made, err
			}
			made = append(made, i)
			if name == "video" {
				spec.Video = queue.Source{Upload: i.ID}
			} else {
				spec.Audio = queue.Source{Upload: i.ID}
			}
		default:
			return spec, made, refuse(http.StatusBadRequest, "the field "+strconv.Quote(name)+" is not known", "the fields are video, audio and spec")
		}
	}
}

// receive stores a file of a form.
func (s *Server) receive(part *multipart.Part) (upload, error) {
	i, err := s.uploads.create(part.FileName(), -1)
	if err != nil {
		return i, err
	}
	n, err := s.uploads.append(i, 0, part)
	s.metrics.received.Add(float64(n))
	if err == nil && n == 0 {
		err = refuse(http.StatusBadRequest, "the file "+strconv.Quote(i.Name)+" is empty", "choose another file")
	}
	if err == nil {
		i, err = s.uploads.shrink(i, n)
	}
	if err != nil {
		s.uploads.remove(i)
	}
	return i, err
}

// shrink corrects the size of an upload whose size was not known.
func (u *uploads) shrink(i upload, size int64) (upload, error) {
	u.mu.Lock()
	u.stored -= i.Size - size
	u.mu.Unlock()
	i.Size = size
	return i, fault.Output.Wrap("keep upload "+i.Name, u.write(i), "check the free space on the server's disk")
}

// prepare checks a specification and returns its job, with the inputs where the
// workers can read them.
func (s *Server) prepare(ctx context.Context, spec queue.Spec) (queue.Job, error) {
	j := queue.Job{ID: queue.NewID(), Priority: cmp.Or(spec.Priority, queue.Normal), Spec: spec}
	if !slices.Contains([]queue.Priority{queue.High, queue.Normal, queue.Low}, j.Priority) {
		return j, refuse(http.StatusBadRequest, fmt.Sprintf("priority %q is not known", spec.Priority), "use high, normal or low")
	}
	var err error
	if j.Video, err = s.media(ctx, "video", spec.Video); err != nil {
		return j, err
	}
	if j.Audio, err = s.media(ctx, "audio", spec.Audio); err != nil {
		return j, err
	}
	if spec.Name == "" {
		stem := strings.TrimSuffix(j.Video.Name, filepath.Ext(j.Video.Name))
		j.Spec.Name = stem + "-lipstream.mp4"
	} else if j.Spec.Name = cleanName(spec.Name); j.Spec.Name != spec.Name {
		return j, refuse(http.StatusBadRequest, "the name is not a plain file name", "use one such as result.mp4")
	}
	if ext := strings.ToLower(filepath.Ext(j.Spec.Name)); !slices.Contains(media.Containers(), ext) {
		return j, refuse(http.StatusBadRequest, "the name "+strconv.Quote(j.Spec.Name)+" does not have the extension of a video", "let it end in one of "+strings.Join(media.Containers(), ", "))
	}
	if err := spec.CheckRemote(); err != nil {
		return j, err
	}
	job := spec.Job()
	job.Output = j.Spec.Name
	if err := job.Check(); err != nil {
		return j, err
	}
	j.Engine, err = s.engine(ctx, spec.Engine)
	return j, err
}

// engine resolves auto: LatentSync if a worker has it, otherwise the preview.
func (s *Server) engine(ctx context.Context, asked string) (string, error) {
	if asked != "" && asked != lipstream.EngineAuto {
		return asked, nil
	}
	workers, err := s.o.Queue.Workers(ctx)
	if err != nil {
		return "", err
	}
	for _, w := range workers {
		if slices.Contains(w.Engines, lipstream.EngineLatentSync) {
			return lipstream.EngineLatentSync, nil
		}
	}
	return lipstream.EnginePreview, nil
}

// media finds an input and puts it where the workers can read it.
func (s *Server) media(ctx context.Context, what string, src queue.Source) (queue.Media, error) {
	var m queue.Media
	switch {
	case (src.Upload == "") == (src.Path == ""):
		return m, refuse(http.StatusBadRequest, what+" needs either an upload or a path", "upload the file: POST /v1/uploads")
	case src.Path != "":
		path, st, err := s.underRoot(src.Path)
		if err != nil {
			return m, err
		}
		m = queue.Media{Name: cleanName(filepath.Base(src.Path)), Path: path, Size: st.Size()}
		sum := sha256.Sum256(fmt.Append(nil, path, st.Size(), st.ModTime()))
		return m, s.publish(ctx, &m, "paths/"+hex.EncodeToString(sum[:16])+extOf(path))
	}
	i, offset, err := s.uploads.find(src.Upload)
	if err != nil {
		return m, err
	}
	if offset != i.Size {
		return m, refuse(http.StatusConflict, fmt.Sprintf("%s: only %d of %d bytes have been uploaded", i.Name, offset, i.Size), "complete the upload first")
	}
	m = queue.Media{Name: i.Name, Path: s.uploads.data(i), Size: i.Size}
	return m, s.publish(ctx, &m, "uploads/"+i.ID+i.Ext)
}

func extOf(path string) string {
	if ext := strings.ToLower(filepath.Ext(path)); extForm.MatchString(ext) {
		return ext
	}
	return ""
}

// publish puts a file into the store if workers cannot read it from this machine.
func (s *Server) publish(ctx context.Context, m *queue.Media, object string) error {
	if s.o.Store.Path(object) != "" {
		return nil
	}
	if st, err := s.o.Store.Stat(ctx, object); err != nil || st.Size != m.Size {
		f, err := os.Open(m.Path)
		if err != nil {
			return fault.Input.Wrap("read "+m.Name, fault.WithoutPath(err))
		}
		defer func() { _ = f.Close() }()
		if _, err := s.o.Store.Put(ctx, object, f); err != nil {
			return err
		}
	}
	m.Object, m.Path = object, ""
	return nil
}

func (s *Server) deleteJob(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	v, err := s.find(r.Context(), id)
	if err != nil {
		return err
	}
	if !v.State.Ended() {
		j, err := s.o.Queue.Cancel(r.Context(), id)
		if err != nil {
			return err
		}
		s.board.set(id, &j)
		v, _ := s.board.get(id)
		return answer(w, http.StatusAccepted, v)
	}
	if err := s.removeJob(r.Context(), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// removeJob removes a job and its objects.
func (s *Server) removeJob(ctx context.Context, id string) error {
	if err := s.o.Queue.Remove(ctx, id); err != nil {
		return err
	}
	s.board.set(id, nil)
	list, err := s.o.Store.List(ctx, "jobs/"+id+"/")
	for _, o := range list {
		err = errors.Join(err, s.o.Store.Delete(ctx, o.Name))
		s.results.drop(o.Name)
	}
	return err
}

func (s *Server) retryJob(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	v, err := s.find(r.Context(), id)
	if err != nil {
		return err
	}
	if v.State != queue.Failed && v.State != queue.Cancelled {
		return refuse(http.StatusConflict, "the job is "+string(v.State), "retry only failed and cancelled jobs")
	}
	j, err := s.o.Queue.Retry(r.Context(), id)
	if err != nil {
		return err
	}
	s.hub.forget(id)
	s.board.set(id, &j)
	v, _ = s.board.get(id)
	return answer(w, http.StatusAccepted, v)
}

func (s *Server) makeEstimate(w http.ResponseWriter, r *http.Request) error {
	if s.o.Estimate == nil {
		return refuse(http.StatusServiceUnavailable, "this server has no worker of its own to estimate with", "submit the job")
	}
	var spec queue.Spec
	if err := readJSON(w, r, &spec); err != nil {
		return err
	}
	if err := spec.CheckRemote(); err != nil {
		return err
	}
	job := spec.Job()
	var err error
	var names []string // pairs of path and name, for a strings.Replacer
	for _, in := range []struct {
		what string
		src  queue.Source
		to   *string
	}{{"video", spec.Video, &job.Video}, {"audio", spec.Audio, &job.Audio}} {
		if *in.to, err = s.localPath(in.what, in.src); err != nil {
			return err
		}
		if i, _, err := s.uploads.find(in.src.Upload); err == nil {
			names = append(names, *in.to, i.Name)
		}
	}
	job.Output = filepath.Join(s.uploads.dir, "estimate"+cmp.Or(strings.ToLower(filepath.Ext(spec.Name)), ".mp4")) // never written
	if err := job.Check(); err != nil {
		return err
	}
	select {
	case s.estimate <- struct{}{}:
		defer func() { <-s.estimate }()
	case <-r.Context().Done():
		return r.Context().Err()
	}
	plan, err := s.o.Estimate(r.Context(), job)
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Err != nil {
		named := *f
		named.Err = errors.New(strings.NewReplacer(names...).Replace(f.Err.Error()))
		return &named
	}
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, plan)
}

// localPath returns an input's file on this machine.
func (s *Server) localPath(what string, src queue.Source) (string, error) {
	if src.Path != "" && src.Upload == "" {
		path, _, err := s.underRoot(src.Path)
		return path, err
	}
	i, offset, err := s.uploads.find(src.Upload)
	if err == nil && offset != i.Size {
		err = refuse(http.StatusConflict, "the upload of the "+what+" is not complete", "complete the upload first")
	}
	return s.uploads.data(i), err
}

// inUse returns the uploads of jobs that have not ended.
func (s *Server) inUse() map[string]bool {
	used := map[string]bool{}
	for _, j := range s.board.all() {
		if !j.State.Ended() {
			used[j.Spec.Video.Upload], used[j.Spec.Audio.Upload] = true, true
		}
	}
	return used
}
