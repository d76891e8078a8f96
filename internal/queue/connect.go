package queue

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	neturl "net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lipstream/lipstream/internal/certificate"
	"github.com/lipstream/lipstream/internal/cluster"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/store"
)

// secrets matches the user and the password in a list of addresses.
var secrets = regexp.MustCompile(`(^|,|://)[^/,]*@`)

// Redact returns the addresses of NATS servers without users, passwords and tokens.
func Redact(urls string) string { return secrets.ReplaceAllString(urls, "$1") }

// connect starts the embedded server, unless a URL is set, and connects.
func (q *Queue) connect() (err error) {
	options := []nats.Option{
		nats.Name("lipstream " + q.o.Version), nats.Timeout(connecting),
		nats.MaxReconnects(-1), nats.ReconnectWait(500 * time.Millisecond),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				q.log.Warn("queue: the connection is lost, trying again", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { q.log.Info("queue: connected again") }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { q.log.Warn("queue", "error", err) }),
	}
	if q.o.Token != "" {
		options = append(options, nats.Token(q.o.Token))
	}
	if q.o.TLS != nil {
		options = append(options, nats.Secure(q.o.TLS))
	}
	url, prefix, hint := q.o.URL, "tls_", "start lipstream serve --workers-listen there, and give its token"
	if q.o.Lead {
		prefix, hint = "nats_", "check that NATS servers run there"
	}
	if url == "" {
		if q.o.Dir == "" {
			return fault.Usage.New("start the queue", "it needs a folder")
		}
		// Two servers would corrupt each other's files.
		if q.lock, err = store.Own(q.o.Dir); err != nil {
			return err
		}
		if q.server, err = embed(q.o); err != nil {
			return err
		}
		options, url = append(options, nats.InProcessServer(q.server)), nats.DefaultURL
	}
	if q.nc, err = nats.Connect(url, options...); err != nil {
		if wrong, ok := errors.AsType[*neturl.Error](err); ok { // it names the address
			err = wrong.Err
		}
		return fault.Missing.Wrap("reach the queue at "+Redact(url), err, cmp.Or(certificate.Hint(err, prefix, "nats://", "tls://"), hint))
	}
	return nil
}

// embed starts NATS with JetStream in this process.
func embed(o Options) (*server.Server, error) {
	c := &server.Options{
		ServerName: "lipstream", JetStream: true, StoreDir: o.Dir, NoSigs: true, NoLog: true, NoSystemAccount: true,
		DontListen: o.Listen == "", SyncInterval: 10 * time.Second, Authorization: o.Token, DisableJetStreamBanner: true,
	}
	if o.ServerTLS != nil {
		c.TLS, c.TLSConfig, c.TLSTimeout = true, o.ServerTLS, connecting.Seconds()
		c.TLSVerify = o.ServerTLS.ClientAuth == tls.RequireAndVerifyClientCert
	}
	if o.Listen != "" {
		host, port, err := net.SplitHostPort(o.Listen)
		if err == nil {
			c.Port, err = strconv.Atoi(port)
		}
		if err != nil {
			return nil, fault.Usage.Wrap("listen for workers on "+o.Listen, err, "write host:port, such as 0.0.0.0:4222")
		}
		if c.Host = host; c.Port == 0 {
			c.Port = server.RANDOM_PORT
		}
	}
	s, err := server.NewServer(c)
	if err != nil {
		return nil, fault.Internal.Wrap("start the queue in "+o.Dir, err)
	}
	// Start does not report why it could not listen.
	go s.Start()
	if !s.ReadyForConnections(2 * connecting) {
		s.Shutdown()
		s.WaitForShutdown()
		hint := "check the free space on the disk"
		if o.Listen != "" {
			hint = "check whether another program uses " + o.Listen
		}
		return nil, fault.Output.New("start the queue in "+o.Dir, "it does not start", hint)
	}
	return s, nil
}

// publish sends a message to a stream and waits until it is stored.
func (q *Queue) publish(ctx context.Context, m *nats.Msg, o ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ack, err := cluster.Persist(ctx, func(ctx context.Context) (*jetstream.PubAck, error) { return q.js.PublishMsg(ctx, m, o...) })
	return ack, q.failure(err)
}

// failure turns an error of NATS into a fault.
func (q *Queue) failure(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	if cluster.Full(err) {
		return fault.Output.Wrap(op, err, "free some space on the disk of the NATS servers")
	}
	if q.o.Replicas > 1 && cluster.TooSmall(err) {
		return &fault.Error{Kind: fault.Usage, Field: "replicas", Err: fmt.Errorf("%d copies need as many NATS servers in one cluster (%w)", q.o.Replicas, err),
			Hint: "start more NATS servers with JetStream, or set `replicas` to a smaller number"}
	}
	return fault.Missing.Wrap(op, err, "check that the NATS servers run and have JetStream enabled")
}
