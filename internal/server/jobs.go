package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
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
	return s.show(j), nil
}

// show puts the record of a job on the board and returns its view.
func (s *Server) show(j queue.Job) jobView {
	s.board.set(j.ID, &j)
	v, _ := s.board.get(j.ID)
	return v
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
	limit, err := within(r, "limit", defaultLimit, 1, maxLimit)
	if err != nil {
		return err
	}
	state := q.Get("state")
	if state != "" && !slices.Contains([]queue.State{queue.Queued, queue.Running, queue.Done, queue.Failed, queue.Cancelled}, queue.State(state)) {
		return refuse(http.StatusBadRequest, "state="+strconv.Quote(state)+" is not known", "use queued, running, done, failed or cancelled")
	}
	return answer(w, http.StatusOK, map[string]any{"jobs": s.board.list(state, q.Get("before"), int(limit))})
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
	w.Header().Set("Location", "/v1/jobs/"+j.ID)
	return answer(w, http.StatusCreated, s.show(j))
}

// readForm reads the files and the specification of a form in any order.
func (s *Server) readForm(r *http.Request, boundary string) (spec queue.Spec, made []upload, err error) {
	form := multipart.NewReader(r.Body, boundary)
	seen := map[string]queue.Source{}
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			spec.Video, spec.Audio = cmp.Or(seen["video"], spec.Video), cmp.Or(seen["audio"], spec.Audio)
			return spec, made, nil
		}
		if err != nil {
			return spec, made, refuse(http.StatusBadRequest, "the form cannot be read: "+err.Error(), "")
		}
		name := part.FormName()
		if _, ok := seen[name]; ok {
			return spec, made, refuse(http.StatusBadRequest, "the field "+strconv.Quote(name)+" appears twice", "send it once")
		}
		var i upload
		switch name {
		case "spec":
			err = decode("the field spec", io.LimitReader(part, maxJSON), &spec)
		case "video", "audio":
			if i, err = s.receive(part); err == nil {
				made = append(made, i)
			}
		default:
			err = refuse(http.StatusBadRequest, "the field "+strconv.Quote(name)+" is not known", "the fields are video, audio and spec")
		}
		if err != nil {
			return spec, made, err
		}
		seen[name] = queue.Source{Upload: i.ID}
	}
}

// receive stores a file of a form.
func (s *Server) receive(part *multipart.Part) (upload, error) {
	u := s.uploads
	i, err := u.create(part.FileName(), -1)
	if err != nil {
		return i, err
	}
	n, err := u.append(i, 0, part)
	s.metrics.received.Add(float64(n))
	if err == nil && n == 0 {
		err = refuse(http.StatusBadRequest, "the file "+strconv.Quote(i.Name)+" is empty", "choose another file")
	}
	u.mu.Lock()
	u.stored -= i.Size - n // now that the size is known
	u.mu.Unlock()
	i.Size = n
	if err == nil {
		err = keepFault(i, u.write(i))
	}
	if err != nil {
		u.remove(i)
	}
	return i, err
}

// prepare checks a specification and returns its job, with the inputs where the
// workers can read them.
func (s *Server) prepare(ctx context.Context, spec queue.Spec) (queue.Job, error) {
	j := queue.Job{ID: queue.NewID(), Priority: cmp.Or(spec.Priority, queue.Normal), Spec: spec}
	if !slices.Contains([]queue.Priority{queue.High, queue.Normal, queue.Low}, j.Priority) {
		return j, refuse(http.StatusBadRequest, fmt.Sprintf("priority %q is not known", spec.Priority), "use high, normal or low")
	}
	var err error
	if j.Video, err = s.publish(ctx, "video", spec.Video); err != nil {
		return j, err
	}
	if j.Audio, err = s.publish(ctx, "audio", spec.Audio); err != nil {
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

// engine resolves auto: the best engine that a worker has.
func (s *Server) engine(ctx context.Context, asked string) (string, error) {
	if asked != "" && asked != lipstream.EngineAuto {
		return asked, nil
	}
	workers, err := s.o.Queue.Workers(ctx)
	if err != nil {
		return "", err
	}
	for _, e := range slices.Backward(lipstream.Engines()) {
		if slices.ContainsFunc(workers, func(w queue.Worker) bool { return slices.Contains(w.Engines, e.Name) }) {
			return e.Name, nil
		}
	}
	return lipstream.EnginePreview, nil
}

// input returns an input of a request as a file on this machine, and the name that
// its object has if workers need a copy.
func (s *Server) input(what string, src queue.Source) (m queue.Media, object string, err error) {
	switch {
	case (src.Upload == "") == (src.Path == ""):
		return m, "", refuse(http.StatusBadRequest, what+" needs either an upload or a path", "upload the file: POST /v1/uploads")
	case src.Path != "":
		path, st, err := s.underRoot(src.Path)
		if err != nil {
			return m, "", err
		}
		sum := sha256.Sum256(fmt.Append(nil, path, st.Size(), st.ModTime()))
		return queue.Media{Name: cleanName(filepath.Base(src.Path)), Path: path, Size: st.Size()}, "paths/" + hex.EncodeToString(sum[:16]) + extOf(path), nil
	}
	i, offset, err := s.uploads.find(src.Upload)
	if err == nil && offset != i.Size {
		err = refuse(http.StatusConflict, fmt.Sprintf("%s: only %d of %d bytes have been uploaded", i.Name, offset, i.Size), "complete the upload first")
	}
	return queue.Media{Name: i.Name, Path: s.uploads.data(i), Size: i.Size}, "uploads/" + i.ID + i.Ext, err
}

func extOf(path string) string {
	if ext := strings.ToLower(filepath.Ext(path)); extForm.MatchString(ext) {
		return ext
	}
	return ""
}

// publish returns an input of a job. It puts the file into the store if workers
// cannot read it from this machine.
func (s *Server) publish(ctx context.Context, what string, src queue.Source) (queue.Media, error) {
	m, object, err := s.input(what, src)
	if err != nil || s.o.Store.Path(object) != "" {
		return m, err
	}
	if st, err := s.o.Store.Stat(ctx, object); err != nil || st.Size != m.Size {
		f, err := os.Open(m.Path)
		if err != nil {
			return m, fault.Input.Wrap("read "+m.Name, fault.WithoutPath(err))
		}
		defer func() { _ = f.Close() }()
		if err := s.o.Store.Put(ctx, object, f); err != nil {
			return m, err
		}
	}
	m.Object, m.Path = object, ""
	return m, nil
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
		return answer(w, http.StatusAccepted, s.show(j))
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
		s.media.Remove(o.Name)
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
	return answer(w, http.StatusAccepted, s.show(j))
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
	video, _, err := s.input("video", spec.Video)
	if err != nil {
		return err
	}
	audio, _, err := s.input("audio", spec.Audio)
	if err != nil {
		return err
	}
	job := spec.Job()
	job.Video, job.Audio = video.Path, audio.Path
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
		named.Err = errors.New(strings.NewReplacer(video.Path, video.Name, audio.Path, audio.Name).Replace(f.Err.Error()))
		return &named
	}
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, plan)
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
