package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/certificate"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/internal/store"
	"github.com/lipstream/lipstream/internal/worker"
)

// tlsFlags are the flags for TLS connections to a server.
type tlsFlags struct {
	TLSCA   string `name:"tls-ca" env:"LIPSTREAM_TLS_CA" placeholder:"FILE" help:"Trust these certificate authorities instead of those of the system (PEM)."`
	TLSCert string `name:"tls-cert" env:"LIPSTREAM_TLS_CERT" placeholder:"FILE" help:"Certificate of this client, if the server wants one (PEM)."`
	TLSKey  string `name:"tls-key" env:"LIPSTREAM_TLS_KEY" placeholder:"FILE" help:"Key of --tls-cert (PEM)."`
}

// config returns the TLS configuration, or nil if no flag is set.
func (f tlsFlags) config(changed func(error)) (*tls.Config, error) {
	return certificate.Files{Cert: f.TLSCert, Key: f.TLSKey, CA: f.TLSCA, Prefix: "tls_"}.Client(changed)
}

// renewed returns a function that logs when the files of a certificate have changed.
func renewed(log *slog.Logger) func(error) {
	return func(err error) {
		if err != nil {
			log.Error("tls: the changed certificate cannot be used, the old one stays in use", "error", err, "hint", fault.HintOf(err))
			return
		}
		log.Info("tls: the changed certificate is in use")
	}
}

type workerCmd struct {
	Server    string `required:"" placeholder:"nats://HOST:PORT,..." help:"Address in the server's --workers-listen, or its NATS servers; tls:// for TLS."`
	TokenFile string `env:"LIPSTREAM_TOKEN_FILE" placeholder:"FILE" help:"File with the server's token."`
	Data      string `placeholder:"FOLDER" help:"Folder for media and running tasks. Default: lipstream/worker in the user's cache folder."`

	tlsFlags
	workFlags
}

// Run implements lipstream worker. An interrupt is its normal end.
func (x *workerCmd) Run(ctx context.Context, c *console) error {
	token, err := readToken(x.TokenFile)
	if err != nil {
		return err
	}
	if x.Slots == 0 {
		return fault.Field("slots", "0", "leaves the worker without tasks", "set it to 1 or more, or leave it out")
	}
	dir, err := dataDir(x.Data, "", "worker")
	if err != nil {
		return err
	}
	log := x.logger(c)
	secure, err := x.config(renewed(log))
	if err != nil {
		return err
	}
	q, err := queue.Open(ctx, queue.Options{URL: x.Server, TLS: secure, Token: token, Version: lipstream.Version(), Log: log})
	if err != nil {
		return err
	}
	defer func() { _ = q.Close() }()
	media, err := q.Shared(ctx, "media")
	if err != nil {
		return err
	}
	objects, err := store.Open(ctx, media, q.JetStream(), 0)
	if err != nil {
		return err
	}
	w, err := x.worker(ctx, q, objects, dir, lipstream.Limits{}, log)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.Out, "working for", queue.Redact(x.Server), "as", w.Info().ID)
	w.Run(ctx)
	return nil
}

// taskCmd is the process in which a worker runs one task.
type taskCmd struct{}

// Run implements lipstream task. It reads requests on standard input and writes
// answers to standard output.
func (*taskCmd) Run(ctx context.Context, c *console) error {
	return worker.Serve(ctx, os.Stdin, c.Out)
}
