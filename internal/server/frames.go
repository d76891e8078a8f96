package server

import (
	"io"
	"net/http"
	"strconv"

	"github.com/lipstream/lipstream/internal/media"
)

// decoders is how many clients may read frames at a time.
const decoders = 4

// jobFrames answers with the pictures of the result, for clients that want no
// file: RGB24, one after the other, rows from top to bottom, without padding. Of
// a job with codec ffv1 and an RGB video, what was not changed is bit for bit the
// input.
func (s *Server) jobFrames(w http.ResponseWriter, r *http.Request) error {
	j, err := s.o.Queue.Job(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if j.Result == nil {
		return refuse(http.StatusConflict, "the job is "+string(j.State)+": it has no result", "wait until it is done")
	}
	number := func(name string, most int64) (int64, error) {
		text := r.URL.Query().Get(name)
		if text == "" {
			return 0, nil
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || n > most {
			return 0, refuse(http.StatusBadRequest, name+"="+strconv.Quote(text)+" is out of range", "0 to "+strconv.FormatInt(most, 10))
		}
		return n, nil
	}
	first, err := number("first", j.Result.Frames)
	if err != nil {
		return err
	}
	count, err := number("count", j.Result.Frames-first)
	if err != nil {
		return err
	}
	select {
	case s.decoders <- struct{}{}:
		defer func() { <-s.decoders }()
	case <-r.Context().Done():
		return r.Context().Err()
	}
	path, err := s.results.path(r.Context(), j.Result.Object)
	if err != nil {
		return err
	}
	tools, err := media.FindTools(r.Context())
	if err != nil {
		return err
	}
	info, err := media.Probe(r.Context(), tools, path)
	if err != nil {
		return err
	}
	frames, err := media.OpenRGB(r.Context(), tools, path, info, first, count)
	if err != nil {
		return err
	}
	defer func() { _ = frames.Close() }()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("Lipstream-Width", strconv.Itoa(info.Video.Width))
	h.Set("Lipstream-Height", strconv.Itoa(info.Video.Height))
	h.Set("Lipstream-Frames", strconv.FormatInt(j.Result.Frames, 10))
	h.Set("Lipstream-Fps", info.Video.FrameRate.String())
	// A failure on the way must not look like the end.
	if _, err := io.Copy(w, frames); err != nil {
		if r.Context().Err() == nil {
			s.log.Warn("server: a result's frames ended early", "job", j.ID, "error", err)
		}
		panic(http.ErrAbortHandler)
	}
	return nil
}
