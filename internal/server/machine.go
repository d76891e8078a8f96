package server

import (
	"cmp"
	"context"
	_ "embed"
	"net/http"
	"slices"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/queue"
)

func (s *Server) devices(w http.ResponseWriter, r *http.Request) error {
	workers, err := s.o.Queue.Workers(r.Context())
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, map[string]any{"workers": workers})
}

// memoryHistory answers with the readings of the monitor, including the latest.
func (s *Server) memoryHistory(w http.ResponseWriter, _ *http.Request) error {
	type object map[string]any
	readings := s.o.Monitor.History()
	if now := s.o.Monitor.Now(); !now.Time.IsZero() && (len(readings) == 0 || readings[len(readings)-1].Time.Before(now.Time)) {
		readings = append(slices.Clone(readings), now)
	}
	history := []object{}
	for _, r := range readings {
		watched := []object{}
		for _, m := range r.Watched {
			watched = append(watched, object{"name": m.Name, "used": m.Used, "total": m.Total, "level": m.Level.String()})
		}
		history = append(history, object{"time": r.Time.UTC().Truncate(time.Millisecond), "watched": watched})
	}
	threshold := func(t memory.Threshold) object {
		if t.Bytes > 0 {
			return object{"bytes": t.Bytes}
		}
		return object{"share": t.Fraction}
	}
	return answer(w, http.StatusOK, object{
		"interval_s": memory.DefaultInterval.Seconds(), "history": history,
		"warning": threshold(cmp.Or(s.o.Warning, memory.DefaultWarning)), "critical": threshold(cmp.Or(s.o.Critical, memory.DefaultCritical)),
	})
}

type engineView struct {
	Name        string `json:"name"`
	Available   bool   `json:"available"` // to a worker
	Description string `json:"description"`
	Install     string `json:"install,omitempty"` // the command that installs what it needs
}

// options returns what a client can choose: the engines, the containers, and the
// settings of a job with their help, choices, ranges and defaults.
func (s *Server) options(w http.ResponseWriter, r *http.Request) error {
	workers, err := s.o.Queue.Workers(r.Context())
	if err != nil {
		return err
	}
	engines := []engineView{}
	for _, e := range lipstream.Engines() {
		available := slices.ContainsFunc(workers, func(w queue.Worker) bool {
			return e.Name == lipstream.EngineAuto || slices.Contains(w.Engines, e.Name)
		})
		engines = append(engines, engineView{e.Name, available, e.Description, e.Install})
	}
	return answer(w, http.StatusOK, map[string]any{
		"version": s.o.Version, "engines": engines, "settings": lipstream.RemoteSettings(), "containers": media.Containers(),
		"max_upload": s.o.MaxUpload, "paths_allowed": len(s.o.Roots) > 0, "token_required": s.o.Token != "", "estimates": s.o.Estimate != nil,
	})
}

// API is the version of the HTTP API. It increases when older clients would no
// longer work.
const API = 1

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, http.StatusOK, map[string]any{"status": "ok", "version": s.o.Version, "api": API})
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) error {
	if s.draining.Load() {
		return refuse(http.StatusServiceUnavailable, "the server is shutting down", "")
	}
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if err := s.o.Queue.Health(ctx); err != nil {
		return err
	}
	return answer(w, http.StatusOK, map[string]string{"status": "ready"})
}

// The schema of jobs in the document is generated from the settings.
//
//go:generate go run ../../tools/surfaces openapi.json
//go:embed openapi.json
var openAPI []byte

func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPI)
	return nil
}

// sweepEvery is how often old jobs and uploads are removed.
const sweepEvery = 10 * time.Minute

// sweep removes ended jobs, their results and unused uploads that are older than the
// retention. It touches nothing else.
func (s *Server) sweep(ctx context.Context, before time.Time) {
	for _, j := range s.board.all() {
		if j.State.Ended() && j.Ended.Before(before) && ctx.Err() == nil {
			if err := s.removeJob(ctx, j.ID); err != nil {
				s.log.Warn("server: an old job could not be removed", "job", j.ID, "error", err)
			}
		}
	}
	used := s.inUse()
	for _, i := range s.uploads.all() {
		if i.Created.Before(before) && !used[i.ID] {
			s.uploads.remove(i)
		}
	}
	if s.o.Store.Path("uploads/x") != "" {
		return // workers read uploads where they are
	}
	objects := map[string]bool{}
	for _, j := range s.board.all() {
		for _, in := range j.Inputs() {
			objects[in.Object] = true
		}
	}
	for _, prefix := range []string{"uploads/", "paths/"} {
		list, err := s.o.Store.List(ctx, prefix)
		for _, o := range list {
			if err == nil && o.Modified.Before(before) && !objects[o.Name] {
				err = s.o.Store.Delete(ctx, o.Name)
			}
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("server: old media could not be removed", "error", err)
		}
	}
}
