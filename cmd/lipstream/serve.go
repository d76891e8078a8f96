package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/certificate"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/internal/server"
	"github.com/lipstream/lipstream/internal/store"
	"github.com/lipstream/lipstream/internal/web"
	"github.com/lipstream/lipstream/internal/worker"
)

type serveCmd struct {
	Listen    string   `default:"127.0.0.1:8448" placeholder:"HOST:PORT" help:"Address of the web page and the API. All but loopback addresses need --token-file."`
	TokenFile string   `env:"LIPSTREAM_TOKEN_FILE" placeholder:"FILE" help:"File with the token that clients and workers must send."`
	Data      string   `env:"LIPSTREAM_DATA_DIR" placeholder:"FOLDER" help:"Folder for uploads, jobs and results. Default: lipstream/server in the user's cache folder."`
	Root      []string `placeholder:"FOLDER" help:"Let jobs use files in this folder without uploading them; may be repeated."`
	AllowHost []string `placeholder:"HOST" help:"Accept this host name too, such as that of a reverse proxy; may be repeated."`

	TLSCert     string `name:"tls-cert" placeholder:"FILE" help:"Certificate for HTTPS and for --workers-listen, with its chain (PEM). It is read again when the file changes."`
	TLSKey      string `name:"tls-key" placeholder:"FILE" help:"Key of --tls-cert (PEM)."`
	TLSClientCA string `name:"tls-client-ca" placeholder:"FILE" help:"Accept only clients and workers with a certificate of these authorities (PEM)."`

	Nats          string `placeholder:"URL,..." help:"Use these NATS servers (with JetStream) instead of the built-in one."`
	NatsCA        string `name:"nats-ca" placeholder:"FILE" help:"With --nats: trust these authorities instead of those of the system (PEM)."`
	NatsCert      string `name:"nats-cert" placeholder:"FILE" help:"With --nats: certificate of this client, if the servers want one (PEM)."`
	NatsKey       string `name:"nats-key" placeholder:"FILE" help:"Key of --nats-cert (PEM)."`
	Replicas      int    `default:"1" placeholder:"N" help:"With --nats: how many servers keep a copy of each job and object; 3 survive the loss of one."`
	WorkersListen string `placeholder:"HOST:PORT" help:"Accept workers on other machines at this address. All but loopback addresses need --token-file."`
	Media         string `placeholder:"URL" help:"Storage for media: dir:/path, objects: (in NATS) or s3://bucket/prefix?endpoint=HOST. Default: a folder in --data; objects: with --nats or --workers-listen."`

	UntilEOF bool `name:"until-eof" help:"Stop when standard input is closed, for programs that start the server and must not leave it behind."`

	workFlags

	MaxUpload   lipstream.Size `default:"8GB" placeholder:"SIZE" help:"Maximum size of an upload."`
	MaxStored   lipstream.Size `default:"100GB" placeholder:"SIZE" help:"Maximum size of all uploads together."`
	MaxQueued   int            `default:"1000" placeholder:"N" help:"Maximum number of waiting jobs."`
	MaxDuration time.Duration  `default:"4h" placeholder:"TIME" help:"Maximum length of an input."`
	MaxPixels   int64          `default:"34000000" placeholder:"N" help:"Maximum number of pixels in a frame. Default: 34000000, enough for 8K."`
	Retention   time.Duration  `default:"168h" placeholder:"TIME" help:"Keep ended jobs, their results and uploads for this long."`
	Lease       time.Duration  `default:"30s" placeholder:"TIME" help:"Consider a worker lost if it is silent for this long."`
	Attempts    int            `default:"3" placeholder:"N" help:"Try a task this often before its job fails."`

	MemoryWarning string `placeholder:"SHARE|SIZE" help:"Warn when this much of a memory (GPU, host, control group) is in use. Default: 62.5%."`
	MemoryAlert   string `placeholder:"SHARE|SIZE" help:"Alert when this much is in use. Default: 75%."`
}

// workFlags are the flags for running tasks.
type workFlags struct {
	Slots       int            `default:"-1" placeholder:"N" help:"Number of tasks to run at the same time; 0 (only for serve) leaves all tasks to other workers. Default: by processors and memory."`
	MemoryLimit lipstream.Size `placeholder:"SIZE" help:"Maximum memory of all tasks together. Default: what is free."`
	Split       time.Duration  `default:"60s" placeholder:"TIME" help:"Split long videos into parts of about this length."`
	Grace       time.Duration  `default:"30s" placeholder:"TIME" help:"On shutdown, wait this long for running tasks before returning them to the queue."`
	JSONLog     bool           `name:"log-json" help:"Write the log as JSON lines."`
	LogLevel    string         `default:"info" enum:"debug,info,warn,error" placeholder:"debug|info|warn|error" help:"Log messages of this level and above."`
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

// dataDir returns the folder of --data, or its default.
func dataDir(given, variable, name string) (string, error) {
	if given == "" {
		return disk.UserDir(variable, name)
	}
	dir, err := filepath.Abs(given)
	return dir, fault.Internal.Wrap("find the folder "+given, err)
}

// check reports flags that would be unsafe or cannot work.
func (s *serveCmd) check(token string) error {
	for _, a := range []struct{ flag, address string }{{"listen", s.Listen}, {"workers_listen", s.WorkersListen}} {
		if a.address == "" {
			continue
		}
		host, _, err := net.SplitHostPort(a.address)
		if err != nil {
			return fault.Field(a.flag, strconv.Quote(a.address), "is not of the form HOST:PORT", "write it like 127.0.0.1:8448")
		}
		local := host == "localhost" || net.ParseIP(host).IsLoopback()
		if !local && token == "" {
			return fault.Field(a.flag, a.address, "can be reached from other machines without a token",
				"write a long random word into a file, such as the output of openssl rand -hex 32, and set `token_file` to it")
		}
	}
	for _, f := range []struct{ flag, file string }{{"nats_ca", s.NatsCA}, {"nats_cert", s.NatsCert}, {"nats_key", s.NatsKey}} {
		if s.Nats == "" && f.file != "" {
			return fault.Field(f.flag, "", "is only for NATS servers of your own", "set `nats`, or use `tls_cert` and `tls_key` for this server")
		}
	}
	if s.Nats != "" && s.WorkersListen != "" {
		return fault.Field("workers_listen", "", "cannot be used with `nats`", "connect the workers to those NATS servers")
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
	dir, err := dataDir(s.Data, "LIPSTREAM_DATA_DIR", "server")
	if err != nil {
		return err
	}
	if s.UntilEOF {
		ended, end := context.WithCancel(ctx)
		defer end()
		// The goroutine ends with the process at the latest.
		go func() { _, _ = io.Copy(io.Discard, os.Stdin); end() }()
		ctx = ended
	}
	log := s.logger(c)
	page, err := web.Handler()
	if err != nil {
		return err
	}
	secure, err := s.secure(log)
	if err != nil {
		return err
	}
	toNats, err := certificate.Files{Cert: s.NatsCert, Key: s.NatsKey, CA: s.NatsCA, Prefix: "nats_"}.Client(renewed(log))
	if err != nil {
		return err
	}
	q, err := queue.Open(ctx, queue.Options{
		URL: s.Nats, Dir: filepath.Join(dir, "queue"), Listen: s.WorkersListen, Token: token, Replicas: s.Replicas, TLS: toNats, ServerTLS: secure,
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
	objects, err := store.Open(ctx, media, q.JetStream(), s.Replicas)
	if err != nil {
		return err
	}
	if err := q.Share(ctx, "media", objects.URL()); err != nil {
		return err
	}
	warning, critical, err := memory.ParseThresholds(memory.Setting{Name: "memory_warning", Text: s.MemoryWarning}, memory.Setting{Name: "memory_alert", Text: s.MemoryAlert})
	if err != nil {
		return err
	}
	monitor := memory.NewMonitor(memory.Probe{}, memory.MonitorOptions{
		Warning: warning, Critical: critical, OnAlert: func(a memory.Alert) { log.Warn("memory", "alert", a.String()) },
	})
	monitor.Start(ctx)
	defer monitor.Stop()

	allowed := s.AllowHost
	if secure != nil { // the names in the certificate are ours
		leaf := secure.Certificates[0].Leaf
		allowed = append(allowed, leaf.DNSNames...)
		for _, ip := range leaf.IPAddresses {
			allowed = append(allowed, ip.String())
		}
	}
	limits := lipstream.Limits{Pixels: s.MaxPixels, Duration: s.MaxDuration, Rate: 240}
	options := server.Options{
		Queue: q, Store: objects, Dir: dir, Listen: s.Listen, Token: token, Roots: s.Root, AllowHosts: allowed,
		MaxUpload: int64(s.MaxUpload), MaxStored: int64(s.MaxStored), MaxQueued: s.MaxQueued, Retention: s.Retention,
		Monitor: monitor, Warning: warning, Critical: critical, Page: page, Log: log, Version: lipstream.Version(),
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
	return s.run(ctx, c, srv, w, q, secure, log)
}

// secure returns the TLS configuration of the listeners, or nil.
func (s *serveCmd) secure(log *slog.Logger) (*tls.Config, error) {
	config, err := certificate.Files{Cert: s.TLSCert, Key: s.TLSKey, CA: s.TLSClientCA, Prefix: "tls_"}.Server(renewed(log))
	if config != nil {
		config.NextProtos = []string{"h2", "http/1.1"}
	}
	return config, err
}

// worker creates the worker of this machine.
func (f workFlags) worker(ctx context.Context, q *queue.Queue, s *store.Store, dir string, limits lipstream.Limits, log *slog.Logger) (*worker.Worker, error) {
	return worker.New(ctx, worker.Options{
		Queue: q, Store: s, Dir: dir, Slots: max(0, f.Slots), Memory: int64(f.MemoryLimit), Split: f.Split, Limits: limits, Grace: f.Grace, Log: log,
	})
}

// run serves until ctx ends. Then the server takes no new jobs, the worker waits for
// its tasks as long as the grace allows, and the listener closes.
func (s *serveCmd) run(ctx context.Context, c *console, srv *server.Server, w *worker.Worker, q *queue.Queue, secure *tls.Config, log *slog.Logger) error {
	listener, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return fault.Output.Wrap("listen on "+s.Listen, err, "choose another address with `listen`; a different program may be using this one")
	}
	address := listener.Addr().String()
	h := &http.Server{Handler: srv.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		TLSConfig: secure, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	g, ctx := errgroup.WithContext(ctx)
	// The server outlives the worker, to show how its tasks end.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g.Go(func() error { return srv.Run(serving) })
	g.Go(func() error {
		serve := h.Serve
		if secure != nil {
			serve = func(l net.Listener) error { return h.ServeTLS(l, "", "") }
		}
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
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
		if w != nil {
			w.Run(ctx)
		}
		<-ctx.Done()
		stop()
		closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if h.Shutdown(closing) != nil {
			_ = h.Close() // streams of events do not end by themselves
		}
		return nil
	})
	line := "Lipstream is listening on http://" + address
	if secure != nil {
		line = "Lipstream is listening on https://" + address
	}
	if q.Address() != "" {
		line += ", for workers on " + q.Address()
	}
	fmt.Fprintln(c.Out, line)
	return g.Wait()
}
