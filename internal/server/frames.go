package server

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/lipstream/lipstream/internal/media"
)

const (
	// decoders is how many clients may read frames at the same time.
	decoders = 4
	// decoderWait is how long another client waits before it is told to try again.
	decoderWait = 20 * time.Second
)

// jobFrames answers with the frames of the result as raw RGB24: one after the
// other, rows from top to bottom, without padding. For a job with codec ffv1 and a
// video of 8-bit RGB, unchanged pixels are bit for bit those of the input.
func (s *Server) jobFrames(w http.ResponseWriter, r *http.Request) error {
	result, err := s.result(r)
	if err != nil {
		return err
	}
	first, err := within(r, "first", 0, 0, result.Frames)
	if err != nil {
		return err
	}
	count, err := within(r, "count", 0, 0, result.Frames-first)
	if err != nil {
		return err
	}
	count = cmp.Or(count, result.Frames-first)
	path, release, err := s.media.Get(r.Context(), result.Object)
	if err != nil {
		return goneIfMissing(result.Name, err)
	}
	defer release()
	tools, info, err := probe(r.Context(), path, result.Name)
	if err == nil {
		err = info.NeedVideo()
	}
	if err != nil {
		return err
	}
	v := info.Video
	size := count * int64(v.Width) * int64(v.Height) * 3
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	h.Set("Cache-Control", "no-store")
	h.Set("Lipstream-Width", strconv.Itoa(v.Width))
	h.Set("Lipstream-Height", strconv.Itoa(v.Height))
	h.Set("Lipstream-Frames", strconv.FormatInt(result.Frames, 10))
	h.Set("Lipstream-Fps", v.FrameRate.String())
	if r.Method == http.MethodHead || count == 0 {
		return nil
	}
	busy := time.NewTimer(s.decoderWait)
	defer busy.Stop()
	select {
	case s.decoders <- struct{}{}:
		defer func() { <-s.decoders }()
	case <-r.Context().Done():
		return r.Context().Err()
	case <-busy.C:
		h.Set("Retry-After", "5")
		return refuse(http.StatusServiceUnavailable, "as many clients as this server allows are reading frames", "try again later")
	}
	frames, err := media.OpenRGB(r.Context(), tools, path, info, first, count)
	if err != nil {
		return err
	}
	defer func() { _ = frames.Close() }()
	c := http.NewResponseController(w)
	_ = c.SetWriteDeadline(time.Now().Add(idleTimeout))
	_ = c.Flush() // the client learns the size before the first frame is decoded
	n, err := io.Copy(&idleWriter{w, c}, frames)
	if err != nil || n != size {
		if r.Context().Err() == nil {
			s.log.Warn("server: a result's frames ended early", "job", r.PathValue("id"), "bytes", n, "of", size, "error", err)
		}
		panic(http.ErrAbortHandler) // a short answer must not look complete
	}
	return nil
}

// within returns a number of a request's query, or standard if it is not given.
func within(r *http.Request, name string, standard, least, most int64) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return standard, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, refuse(http.StatusBadRequest, name+"="+strconv.Quote(text)+" is out of range", fmt.Sprintf("use %d to %d", least, most))
	}
	return n, nil
}

// idleWriter aborts an answer whose client reads nothing for too long, because others
// wait for its decoder.
type idleWriter struct {
	w io.Writer
	c *http.ResponseController
}

func (p *idleWriter) Write(b []byte) (int, error) {
	_ = p.c.SetWriteDeadline(time.Now().Add(idleTimeout))
	return p.w.Write(b)
}
