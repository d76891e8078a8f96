package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/internal/server"
	"github.com/lipstream/lipstream/internal/store"
	"github.com/lipstream/lipstream/internal/web"
	"github.com/lipstream/lipstream/internal/worker"
)

type serveCmd struct {
	Listen    string   `default:"127.0.0.1:8448" placeholder:"HOST:PORT" help:"Address of the API and the page. Other than loopback needs --token-file."`
	TokenFile string   `env:"LIPSTREAM_TOKEN_FILE" placeholder:"FILE" help:"File with the token that clients and workers have to show."`
	Data      string   `env:"LIPSTREAM_DATA_DIR" placeholder:"FOLDER" help:"Where uploads, jobs and results are kept. Default: lipstream/server in the user's cache folder."`
	Root      []string `placeholder:"FOLDER" help:"Jobs may name files in this folder as inputs; may be repeated. Default: none, inputs are uploaded."`
	AllowHost []string `placeholder:"HOST" help:"A further name under which the server is reached, behind a proxy."`

	Nats          string `placeholder:"URL" help:"Use these NATS servers with JetStream, instead of the one built in."`
	WorkersListen string `placeholder:"HOST:PORT" help:"Let workers of other machines in here; needs --token-file unless it is loopback."`
	Media         string `placeholder:"URL" help:"Where media are kept: a folder (dir:/path), objects: (in the queue's NATS) or s3://bucket/prefix?endpoint=HOST. Default: a folder under --data, or objects: where workers of other machines are let in."`

	UntilEOF bool `name:"until-eof" help:"End when standard input does: for a program that starts this one and shall not leave it behind."`

	workFlags

	MaxUpload   lipstream.Size `default:"8GB" placeholder:"SIZE" help:"The largest file that may be uploaded."`
	MaxStored   lipstream.Size `default:"100GB" placeholder:"SIZE" help:"All uploads together."`
	MaxQueued   int            `default:"1000" placeholder:"N" help:"Jobs that may wait."`
	MaxDuration time.Duration  `default:"4h" placeholder:"TIME" help:"The longest input."`
	MaxPixels   int64          `default:"34000000" placeholder:"N" help:"The largest frame, in pixels; the default is 8K."`
	Retention   time.Duration  `default:"168h" placeholder:"TIME" help:"Jobs that have ended, their results and uploads are kept so long."`
	Lease       time.Duration  `default:"30s" placeholder:"TIME" help:"A worker that is silent so long is taken for dead."`
	Attempts    int            `default:"3" placeholder:"N" help:"A job is given up after so many."`

	MemoryWarning string `placeholder:"SHARE|SIZE" help:"Warn when so much of a memory is in use. Default: 62.5%."`
	MemoryAlert   string `placeholder:"SHARE|SIZE" help:"Alert when so much of it is. Default: 75%."`
}

// workFlags say how a machine works on jobs.
type workFlags struct {
	Slots       int            `default:"-1" placeholder:"N" help:"Tasks at a time. Default: by processors and memory; 0 with serve: this machine does none."`
	MemoryLimit lipstream.Size `placeholder:"SIZE" help:"The most memory that tasks may use together. Default: what is free."`
	Split       time.Duration  `default:"60s" placeholder:"TIME" help:"Long videos are worked on in parts of about this length."`
	Grace       time.Duration  `default:"30s" placeholder:"TIME" help:"When told to end, wait so long for tasks at work; then they are given back."`
	JSONLog     bool           `name:"log-json" help:"Write the log as JSON lines."`
	LogLevel    string         `default:"info" enum:"debug,info,warn,error" placeholder:"LEVEL" help:"debug, info, warn or error."`
}

func (w workFlags) logger(c *console) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(w.LogLevel)) // kong has checked it
	o := &slog.HandlerOptions{Level: level}
	if w.JSONLog {
		return slog.New(slog.NewJSONHandler(c.Err, o))
	}
	return slog.New(slog.NewTextHandler(c.Err, o))
}

// dataDir is where lipstream serve keeps everything.
func (s *serveCmd) dataDir() (string, error) {
	if s.Data != "" {
		return filepath.Abs(s.Data)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fault.Missing.Wrap("find the folder for uploads and jobs", err, "say --data")
	}
	return filepath.Join(cache, "lipstream", "server"), nil
}

// loopback tells whether an address is reached from this machine only.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// check refuses what would be unsafe or cannot work.
func (s *serveCmd) check(token string) error {
	for _, a := range []struct{ option, address string }{{"--listen", s.Listen}, {"--workers-listen", s.WorkersListen}} {
		if a.address == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(a.address); err != nil {
			return fault.Usage.Wrap("option "+a.option+" "+a.address, err, "write host:port, such as 127.0.0.1:8448")
		}
		if !loopback(a.address) && token == "" {
			return fault.Usage.New("option "+a.option+" "+a.address, "others could reach it without a token",
				"make one (openssl rand -hex 32 > token) and say --token-file token")
		}
	}
	if s.Nats != "" && s.WorkersListen != "" {
		return fault.Usage.New("option --workers-listen", "makes no sense with --nats", "workers reach those NATS servers themselves")
	}
	return nil
}

// Run implements lipstream serve. An interrupt is its normal end.
func (s *serveCmd) Run(ctx context.Context, c *console) error {
	token, err := readToken(s.TokenFile)
	if err != nil {
		return err
	}
	if err := s.check(token); err != nil {
		return err
	}
	dir, err := s.dataDir()
	if err != nil {
		return err
	}
	if s.UntilEOF {
		ended, end := context.WithCancel(ctx)
		defer end()
		// A read of standard input ends with the process at the latest.
		go func() { _, _ = io.Copy(io.Discard, os.Stdin); end() }()
		ctx = ended
	}
	log := s.logger(c)
	page, err := web.Handler()
	if err != nil {
		return err
	}
	q, err := queue.Open(ctx, queue.Options{
		URL: s.Nats, Dir: filepath.Join(dir, "queue"), Listen: s.WorkersListen, Token: token,
		Lead: true, Version: lipstream.Version(), Lease: s.Lease, Attempts: s.Attempts, Log: log,
	})
	if err != nil {
		return err
	}
	defer func() { _ = q.Close() }()
	media := s.Media
	if media == "" {
		media = "dir:" + filepath.Join(dir, "media")
		if s.Nats != "" || s.WorkersListen != "" {
			media = "objects:"
		}
	}
	objects, err := store.Open(ctx, media, q.JetStream())
	if err != nil {
		return err
	}
	defer func() { _ = objects.Close() }()
	if err := q.Share(ctx, "media", objects.URL()); err != nil {
		return err
	}
	thresholds, err := s.thresholds(log)
	if err != nil {
		return err
	}
	monitor := memory.NewMonitor(memory.Probe{}, thresholds)
	monitor.Start(ctx)
	defer monitor.Stop()

	limits := lipstream.Limits{Pixels: s.MaxPixels, Duration: s.MaxDuration, Rate: 240}
	options := server.Options{
		Queue: q, Store: objects, Dir: dir, Listen: s.Listen, Token: token, Roots: s.Root, AllowHosts: s.AllowHost,
		MaxUpload: int64(s.MaxUpload), MaxStored: int64(s.MaxStored), MaxQueued: s.MaxQueued, Retention: s.Retention,
		Limits: limits, Monitor: monitor, Warning: thresholds.Warning, Critical: thresholds.Critical, Page: page, Log: log, Version: lipstream.Version(),
	}
	var w *worker.Worker
	if s.Slots != 0 {
		if w, err = s.worker(ctx, q, objects, filepath.Join(dir, "worker"), limits, log); err != nil {
			return err
		}
		options.Estimate = w.Estimate
	}
	srv, err := server.New(options)
	if err != nil {
		return err
	}
	return s.run(ctx, c, srv, w, q, log)
}

// thresholds are those of this machine's memory.
func (s *serveCmd) thresholds(log *slog.Logger) (memory.MonitorOptions, error) {
	o := memory.MonitorOptions{OnAlert: func(a memory.Alert) { log.Warn("memory", "alert", a.String()) }}
	var err error
	for _, t := range []struct {
		value string
		to    *memory.Threshold
	}{{s.MemoryWarning, &o.Warning}, {s.MemoryAlert, &o.Critical}} {
		if t.value == "" {
			continue
		}
		if *t.to, err = memory.ParseThreshold(t.value); err != nil {
			return o, err
		}
	}
	return o, o.Check()
}

// worker makes that of this machine.
func (f workFlags) worker(ctx context.Context, q *queue.Queue, s store.Store, dir string, limits lipstream.Limits, log *slog.Logger) (*worker.Worker, error) {
	return worker.New(ctx, worker.Options{
		Queue: q, Store: s, Dir: dir, Slots: max(0, f.Slots), Memory: int64(f.MemoryLimit), Split: f.Split, Limits: limits, Grace: f.Grace, Log: log,
	})
}

// run serves until ctx ends: then nothing new is taken, what is at work is
// given the grace, and the listener closes.
func (s *serveCmd) run(ctx context.Context, c *console, srv *server.Server, w *worker.Worker, q *queue.Queue, log *slog.Logger) error {
	listener, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return fault.Output.Wrap("listen on "+s.Listen, err, "is another program using that port? choose one with --listen")
	}
	address := listener.Addr().String()
	h := &http.Server{Handler: srv.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	g, ctx := errgroup.WithContext(ctx)
	// The server lives until the worker has ended: it shows how it ends.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g.Go(func() error { return srv.Run(serving) })
	g.Go(func() error {
		if err := h.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fault.Internal.Wrap("serve "+address, err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		srv.Drain()
		return nil
	})
	g.Go(func() error {
		var err error
		if w != nil {
			err = w.Run(ctx)
		}
		<-ctx.Done()
		stop()
		closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if h.Shutdown(closing) != nil {
			_ = h.Close() // streams of events do not end by themselves
		}
		return err
	})
	line := "Lipstream is at http://" + address
	if q.Address() != "" {
		line += ", workers reach it at " + q.Address()
	}
	fmt.Fprintln(c.Out, line)
	return g.Wait()
}

type workerCmd struct {
	Server    string `required:"" placeholder:"nats://HOST:PORT" help:"The server's --workers-listen, or its NATS servers."`
	TokenFile string `env:"LIPSTREAM_TOKEN_FILE" placeholder:"FILE" help:"File with the server's token."`
	Data      string `placeholder:"FOLDER" help:"For media and tasks at work. Default: lipstream/worker in the user's cache folder."`

	workFlags
}

// Run implements lipstream worker. An interrupt is its normal end.
func (x *workerCmd) Run(ctx context.Context, c *console) error {
	token, err := readToken(x.TokenFile)
	if err != nil {
		return err
	}
	if x.Slots == 0 {
		return fault.Usage.New("option --slots 0", "leaves nothing to do", "leave it out, or give at least 1")
	}
	dir := x.Data
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return fault.Missing.Wrap("find the folder for media", err, "say --data")
		}
		dir = filepath.Join(cache, "lipstream", "worker")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return fault.Usage.Wrap("find "+x.Data, err)
	}
	log := x.logger(c)
	q, err := queue.Open(ctx, queue.Options{URL: x.Server, Token: token, Version: lipstream.Version(), Log: log})
	if err != nil {
		return err
	}
	defer func() { _ = q.Close() }()
	media, err := q.Shared(ctx, "media")
	if err != nil {
		return err
	}
	objects, err := store.Open(ctx, media, q.JetStream())
	if err != nil {
		return err
	}
	defer func() { _ = objects.Close() }()
	w, err := x.worker(ctx, q, objects, dir, lipstream.Limits{}, log)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.Out, "working for", cmp.Or(x.Server, "the server"), "as", w.Info().ID)
	return w.Run(ctx)
}

// taskCmd is the process in which a worker does one task.
type taskCmd struct{}

// Run implements lipstream task: requests come on standard input, answers go to
// standard output.
func (*taskCmd) Run(ctx context.Context, c *console) error {
	return worker.Serve(ctx, os.Stdin, c.Out)
}
