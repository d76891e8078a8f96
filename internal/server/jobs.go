package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
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
	"github.com/lipstream/lipstream/internal/job"
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
	key, err := keyOf(r)
	if err == nil && key == "" { // otherwise submit checks it
		err = s.full()
	}
	if err != nil {
		return err
	}
	var spec queue.Spec
	var made []upload
	sums := map[string]string{} // of the files of a form
	kind, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch kind {
	case "application/json":
		err = readJSON(w, r, &spec)
	case "multipart/form-data":
		spec, made, err = s.readForm(r, params["boundary"], sums)
	default:
		err = refuse(http.StatusUnsupportedMediaType, "the Content-Type is not application/json or multipart/form-data", "see /v1/openapi.json")
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // a form may end before its body does
	var j queue.Job
	again := false
	if err == nil {
		j, again, err = s.submit(r.Context(), spec, key, sums)
	}
	if err != nil || again {
		for _, i := range made {
			s.uploads.remove(i)
		}
	}
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/jobs/"+j.ID)
	if again {
		w.Header().Set("Idempotency-Replayed", "true")
		return answer(w, http.StatusOK, s.show(j))
	}
	return answer(w, http.StatusCreated, s.show(j))
}

// full returns an error when no more jobs may wait.
func (s *Server) full() error {
	n := s.board.count()
	if waiting := n[queue.Queued] + n[queue.Running]; waiting >= s.o.MaxQueued {
		return refuse(http.StatusTooManyRequests, fmt.Sprintf("%d jobs are waiting, which is the limit of this server", waiting), "try again later")
	}
	return nil
}

// submit queues a job. If a request with the same key has made it already, again is
// true.
func (s *Server) submit(ctx context.Context, spec queue.Spec, key string, sums map[string]string) (j queue.Job, again bool, err error) {
	if key == "" {
		if j, err = s.prepare(ctx, spec); err == nil {
			j, err = s.o.Queue.Submit(ctx, j)
		}
		return j, false, err
	}
	request, err := fingerprint(spec, sums)
	if err != nil {
		return j, false, err
	}
	release, err := s.keyLocks.lock(ctx, key)
	if err != nil {
		return j, false, err
	}
	defer release()
	// Before the rest: the uploads may have been removed since, and the queue may be full.
	if j, again, err = s.o.Queue.Submitted(ctx, key, request); err != nil || again {
		return j, again, err
	}
	if err := s.full(); err != nil {
		return j, false, err
	}
	if j, err = s.prepare(ctx, spec); err != nil {
		return j, false, err
	}
	return s.o.Queue.SubmitOnce(ctx, key, request, j)
}

// readForm reads the files and the specification of a form in any order. It puts the
// checksums of the files into sums.
func (s *Server) readForm(r *http.Request, boundary string, sums map[string]string) (spec queue.Spec, made []upload, err error) {
	form := multipart.NewReader(r.Body, boundary)
	seen, speakers := map[string]queue.Source{}, 0
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			fill(&spec, seen)
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
		kind := name
		if strings.HasPrefix(name, speakerField) {
			kind = "audio"
			if speakers++; speakers > job.MaxSpeakers {
				return spec, made, refuse(http.StatusBadRequest, fmt.Sprintf("the form has more than %d speakers", job.MaxSpeakers), "make the video in several jobs")
			}
		}
		switch kind {
		case "spec":
			err = decode("the field spec", io.LimitReader(part, maxJSON), &spec)
		case "video", "audio", "mask", "soundtrack":
			sum := sha256.New()
			if i, err = s.receive(part.FileName(), io.TeeReader(part, sum)); err == nil {
				made, sums[name] = append(made, i), i.Name+" "+hex.EncodeToString(sum.Sum(nil))
			}
		default:
			err = refuse(http.StatusBadRequest, "the field "+strconv.Quote(name)+" is not known", "the fields are video, audio, speaker.FACE, soundtrack, mask and spec")
		}
		if err != nil {
			return spec, made, err
		}
		seen[name] = queue.Source{Upload: i.ID}
	}
}

// speakerField is the beginning of the name of a form's field for the voice of a speaker;
// what follows is the face.
const speakerField = "speaker."

// fill puts the files of a form into its specification. Speakers come in the order of
// their faces, as a form has none, unless the specification names them.
func fill(spec *queue.Spec, files map[string]queue.Source) {
	spec.Video, spec.Audio = cmp.Or(files["video"], spec.Video), cmp.Or(files["audio"], spec.Audio)
	if s, ok := files["soundtrack"]; ok {
		spec.Soundtrack = &s
	}
	if s, ok := files["mask"]; ok {
		spec.Mask = &s
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		who, ok := strings.CutPrefix(name, speakerField)
		if !ok {
			continue
		}
		i := slices.IndexFunc(spec.Speakers, func(s queue.Speaker) bool { return s.Face == who })
		if i < 0 {
			i = len(spec.Speakers)
			spec.Speakers = append(spec.Speakers, queue.Speaker{Face: who})
		}
		spec.Speakers[i].Audio = files[name]
	}
}

// receive stores a file of a form.
func (s *Server) receive(name string, content io.Reader) (upload, error) {
	u := s.uploads
	i, err := u.create(name, -1)
	if err != nil {
		return i, err
	}
	n, err := u.append(i, 0, content)
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
	video, _, err := s.input("video", spec.Video)
	if err != nil {
		return j, err
	}
	if spec.Name == "" {
		stem := strings.TrimSuffix(video.Name, filepath.Ext(video.Name))
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
	made := spec.Job(nil)
	made.Output = j.Spec.Name
	if err := made.Check(); err != nil {
		return j, err
	}
	// Only now are the inputs copied to where the workers can read them.
	var inputs []queue.Media
	for _, in := range spec.Inputs() {
		m, err := s.publish(ctx, in.What, *in.Source)
		if err != nil {
			return j, err
		}
		inputs = append(inputs, m)
	}
	j.SetInputs(inputs)
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
	var paths, names []string
	for _, in := range spec.Inputs() {
		m, _, err := s.input(in.What, *in.Source)
		if err != nil {
			return err
		}
		paths, names = append(paths, m.Path), append(names, m.Path, m.Name)
	}
	job := spec.Job(paths)
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

// inUse returns the uploads of jobs that have not ended.
func (s *Server) inUse() map[string]bool {
	used := map[string]bool{}
	for _, j := range s.board.all() {
		if !j.State.Ended() {
			for _, in := range j.Spec.Inputs() {
				used[in.Upload] = true
			}
		}
	}
	return used
}
