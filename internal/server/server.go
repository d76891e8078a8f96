// Package server is the HTTP API and the web page of lipstream serve.
// docs/api.md describes the API; /v1/openapi.json is its formal description.
package server

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/internal/store"
)

// Options configures a Server. Queue, Store, Dir and Monitor are required.
type Options struct {
	Queue *queue.Queue
	Store *store.Store
	Dir   string // for uploads and copies of results

	Listen     string   // host:port of the server
	AllowHosts []string // more host names that the server answers to
	Token      string   // that clients must send; empty: none
	Roots      []string // folders in which jobs may name files

	MaxUpload int64         // bytes of a file
	MaxStored int64         // bytes of all uploads together
	MaxQueued int           // jobs that have not ended
	Retention time.Duration // of ended jobs and of uploads

	// Estimate estimates a job; nil: this machine has no worker.
	Estimate func(context.Context, lipstream.Job) (lipstream.Estimate, error)
	Monitor  *memory.Monitor
	// Warning and Critical are the monitor's thresholds.
	Warning, Critical memory.Threshold
	Page              http.Handler // nil: none
	Log               *slog.Logger
	Version           string
}

// Server is the HTTP API. Use its Handler while Run runs.
type Server struct {
	o           Options
	log         *slog.Logger
	board       *board
	hub         *hub
	uploads     *uploads
	media       *store.Cache
	metrics     *metrics
	hosts       map[string]bool
	keyLocks    keyLocks
	estimate    chan struct{} // one at a time
	decoders    chan struct{} // see decoders
	decoderWait time.Duration // see decoderWait
	draining    atomic.Bool
	handler     http.Handler
}

// New returns a server and creates its folders.
func New(o Options) (*Server, error) {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.MaxUpload = cmp.Or(o.MaxUpload, 8<<30)
	o.MaxStored = cmp.Or(o.MaxStored, 100<<30)
	o.MaxQueued = cmp.Or(o.MaxQueued, 1000)
	o.Retention = cmp.Or(o.Retention, 7*24*time.Hour)
	s := &Server{o: o, log: o.Log, board: newBoard(), keyLocks: keyLocks{locks: map[string]*keyLock{}}, estimate: make(chan struct{}, 1), decoders: make(chan struct{}, decoders), decoderWait: decoderWait}
	var err error
	if s.uploads, err = newUploads(filepath.Join(o.Dir, "uploads"), o.MaxUpload, o.MaxStored, o.Log); err != nil {
		return nil, err
	}
	if s.media, err = store.NewCache(filepath.Join(o.Dir, "results"), o.Store); err != nil {
		return nil, err
	}
	s.hub = newHub(s.events)
	s.metrics = newMetrics(s)
	s.hosts = allowedHosts(o)
	s.handler = s.routes()
	return s, nil
}

// Handler returns the handler of the API and the page.
func (s *Server) Handler() http.Handler { return s.handler }

// Drain makes the server refuse new jobs and report that it is not ready.
func (s *Server) Drain() { s.draining.Store(true) }

// Run follows the queue and removes jobs and uploads older than the retention,
// until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	var g sync.WaitGroup
	g.Go(func() { s.repeat(ctx, time.Second, func() error { return s.o.Queue.Watch(ctx, s.board.set) }) })
	g.Go(func() { s.repeat(ctx, time.Second, func() error { return s.o.Queue.Follow(ctx, s.board.event) }) })
	g.Go(func() {
		s.repeat(ctx, sweepEvery, func() error { s.sweep(ctx, time.Now().Add(-s.o.Retention)); return nil })
	})
	<-ctx.Done()
	s.hub.close()
	g.Wait()
	return nil
}

// repeat calls f until ctx ends, with a pause between two calls.
func (s *Server) repeat(ctx context.Context, pause time.Duration, f func() error) {
	for ctx.Err() == nil {
		if err := f(); err != nil && ctx.Err() == nil {
			s.log.Error("server: the queue does not answer, trying again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// handler answers a request, or returns the error to answer with.
type handler func(http.ResponseWriter, *http.Request) error

// route is a route of the API.
type route struct {
	pattern string
	handle  handler
	open    bool // also without the token
}

// table returns all routes of the API.
func (s *Server) table() []route {
	return []route{
		{"POST /v1/uploads", tus(s.createUpload), false},
		{"OPTIONS /v1/uploads", s.uploadOptions, false},
		{"HEAD /v1/uploads/{id}", tus(s.headUpload), false},
		{"GET /v1/uploads/{id}", s.getUpload, false},
		{"PATCH /v1/uploads/{id}", tus(s.patchUpload), false},
		{"DELETE /v1/uploads/{id}", s.deleteUpload, false},
		{"GET /v1/uploads/{id}/content", s.uploadContent, false},
		{"POST /v1/jobs", s.createJob, false},
		{"GET /v1/jobs", s.listJobs, false},
		{"GET /v1/jobs/{id}", s.getJob, false},
		{"DELETE /v1/jobs/{id}", s.deleteJob, false},
		{"POST /v1/jobs/{id}/retry", s.retryJob, false},
		{"GET /v1/jobs/{id}/events", s.jobEvents, false},
		{"GET /v1/jobs/{id}/result", s.jobResult, false},
		{"GET /v1/jobs/{id}/frames", s.jobFrames, false},
		{"GET /v1/jobs/{id}/preview", s.jobPreview, false},
		{"GET /v1/jobs/{id}/video", s.jobMedia(func(j queue.Job) queue.Media { return j.Video }), false},
		{"GET /v1/jobs/{id}/audio", s.jobMedia(func(j queue.Job) queue.Media { return j.Heard() }), false},
		{"GET /v1/events", s.listEvents, false},
		{"POST /v1/estimate", s.makeEstimate, false},
		{"GET /v1/devices", s.devices, false},
		{"GET /v1/memory", s.memoryHistory, false},
		{"GET /v1/options", s.options, false},
		{"POST /v1/session", s.createSession, true},
		{"DELETE /v1/session", s.deleteSession, true},
		{"GET /v1/openapi.json", s.openAPI, true},
		{"GET /metrics", s.metrics.serve, false},
		{"GET /healthz", s.healthz, true},
		{"GET /readyz", s.readyz, true},
	}
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.table() {
		mux.Handle(r.pattern, s.metrics.measure(r.pattern, s.wrap(r)))
	}
	mux.Handle("/v1/", s.wrap(route{handle: func(http.ResponseWriter, *http.Request) error { return errNoRoute }}))
	if s.o.Page != nil {
		mux.Handle("/", s.o.Page)
	}
	return s.guard(mux)
}
