// Package queue stores jobs and hands their tasks to workers. It uses NATS
// JetStream, embedded in this process or in a cluster elsewhere.
//
// A task is a message in a work stream. The record of its job, in a key-value
// bucket, decides what is valid. A task is handed out again when its worker is
// silent for the time of a lease, so it may be done twice. The record is changed
// with compare-and-swap, so only one of the results counts.
package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/settings"
	"github.com/lipstream/lipstream/internal/store"
)

// Options configures a Queue.
type Options struct {
	// URL is the address of NATS servers with JetStream. If it is empty, a server
	// runs in this process and keeps its files in Dir.
	URL string
	Dir string
	// Listen is the address on which the embedded server accepts workers. If it is
	// empty, only this process uses the server. Token is what workers must send,
	// and what is sent to the servers at URL; it may be empty.
	Listen string
	Token  string
	// Lead is set by the server: its version and its options apply. Workers must
	// have the same version.
	Lead    bool
	Version string
	// Lease is how long a worker may be silent before another gets its tasks;
	// default 30 s, at least 1 s. Workers use the value of the lead.
	Lease time.Duration
	// Attempts is how often a task is tried before the job fails; default 3.
	Attempts int
	Log      *slog.Logger // default: none
}

// Names in NATS.
const (
	workStream   = "LIPSTREAM_WORK"
	eventStream  = "LIPSTREAM_EVENTS"
	deadStream   = "LIPSTREAM_DEAD"
	jobBucket    = "lipstream_jobs"
	workerBucket = "lipstream_workers"
	frameBucket  = "lipstream_frames"
	aboutBucket  = "lipstream_about"

	workSubject  = "lipstream.work."
	eventSubject = "lipstream.events."
	deadSubject  = "lipstream.dead."
	wakeSubject  = "lipstream.wake" // wakes waiting workers
)

const (
	defaultLease    = 30 * time.Second
	minLease        = time.Second
	defaultAttempts = 3
	// maxEvents bounds a job's log; the oldest entries are dropped. At two entries
	// a second, an 8-hour job would have 57,600.
	maxEvents = 20_000
	deadFor   = 30 * 24 * time.Hour
	framesFor = time.Hour
	// workersFor is how long a worker is listed after its last heartbeat.
	workersFor = 15 * time.Second
	connecting = 10 * time.Second
)

// engines lists the engines of jobs. Each has its own line in the queue because
// not every worker has checkpoints.
var engines = settings.Engines()

const op = "use the queue"

// Queue is a connection to the queue. It is safe for concurrent use.
type Queue struct {
	o      Options
	log    *slog.Logger
	server *server.Server // nil: remote
	lock   *disk.Lock     // on its folder
	nc     *nats.Conn
	js     jetstream.JetStream

	jobs, workers, frames, about jetstream.KeyValue
	events, work                 jetstream.Stream
	lines                        map[string]jetstream.Consumer // by engine.priority

	beat  time.Duration // between two heartbeats of a lease
	poll  time.Duration // see pollEvery
	pause time.Duration // before the second attempt of a task; it doubles with every further one

	mu     sync.Mutex
	wakeup chan struct{} // closed and replaced when there may be work
}

// Open starts or joins a queue. Its errors are of kind Missing (no server
// answers, or its version differs), Usage or Output (the folder).
func Open(ctx context.Context, o Options) (*Queue, error) {
	o.Lease = cmp.Or(o.Lease, defaultLease)
	o.Attempts = cmp.Or(o.Attempts, defaultAttempts)
	if o.Lease < minLease || o.Attempts < 1 {
		return nil, fault.Usage.New(op, fmt.Sprintf("a lease of %v with %d attempts is too small", o.Lease, o.Attempts), "use a lease of at least 1s and at least 1 attempt")
	}
	q := &Queue{o: o, log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), poll: pollEvery, pause: time.Second, wakeup: make(chan struct{}), lines: map[string]jetstream.Consumer{}}
	if err := q.open(ctx); err != nil {
		_ = q.Close()
		return nil, err
	}
	return q, nil
}

func (q *Queue) open(ctx context.Context) (err error) {
	if err := q.connect(); err != nil {
		return err
	}
	if q.js, err = jetstream.New(q.nc, jetstream.WithDefaultTimeout(connecting)); err != nil {
		return q.failure(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*connecting)
	defer cancel()
	if err := q.agree(ctx); err != nil {
		return err
	}
	q.beat = q.o.Lease / 4
	if err := q.setUp(ctx); err != nil {
		return q.failure(err)
	}
	if _, err := q.nc.Subscribe(wakeSubject, func(*nats.Msg) { q.wake() }); err != nil {
		return q.failure(err)
	}
	if q.o.Lead {
		return q.repair(ctx)
	}
	return nil
}

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
		nats.ReconnectHandler(func(*nats.Conn) { q.log.Info("queue: connected again"); q.wake() }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { q.log.Warn("queue", "error", err) }),
	}
	if q.o.Token != "" {
		options = append(options, nats.Token(q.o.Token))
	}
	url := q.o.URL
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
		return fault.Missing.Wrap("reach the queue at "+url, err, "start lipstream serve --workers-listen there, and give its token")
	}
	return nil
}

// embed starts NATS with JetStream in this process.
func embed(o Options) (*server.Server, error) {
	c := &server.Options{
		ServerName: "lipstream", JetStream: true, StoreDir: o.Dir, NoSigs: true, NoLog: true, NoSystemAccount: true,
		DontListen: o.Listen == "", SyncInterval: 10 * time.Second, Authorization: o.Token, DisableJetStreamBanner: true,
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

// Close closes the connection and stops the embedded server.
func (q *Queue) Close() error {
	if q.nc != nil {
		q.nc.Close()
	}
	if q.server != nil {
		q.server.Shutdown()
		q.server.WaitForShutdown()
	}
	if q.lock != nil {
		_ = q.lock.Release()
	}
	return nil
}

// agree publishes the version and the shared options, or reads those of the lead.
func (q *Queue) agree(ctx context.Context) (err error) {
	if q.about, err = q.bucket(ctx, jetstream.KeyValueConfig{Bucket: aboutBucket}); err != nil {
		return q.failure(err)
	}
	if q.o.Lead {
		return errors.Join(q.Share(ctx, "version", q.o.Version), q.Share(ctx, "lease", q.o.Lease.String()), q.Share(ctx, "attempts", strconv.Itoa(q.o.Attempts)))
	}
	if err := q.sameVersion(ctx); err != nil {
		return err
	}
	lease, err := q.Shared(ctx, "lease")
	if err == nil {
		q.o.Lease, err = time.ParseDuration(lease)
	}
	attempts := ""
	if err == nil {
		attempts, err = q.Shared(ctx, "attempts")
	}
	if err == nil {
		q.o.Attempts, err = strconv.Atoi(attempts)
	}
	return q.failure(err)
}

// ErrVersion is the cause when the lead has another version.
var ErrVersion = errors.New("the server is another version of Lipstream")

// sameVersion returns an error of kind Missing when the lead has another version.
func (q *Queue) sameVersion(ctx context.Context) error {
	v, err := q.Shared(ctx, "version")
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return fault.Missing.New(op, "no lipstream server has used these NATS servers yet", "start lipstream serve first")
	}
	if err == nil && v != q.o.Version {
		err = fault.Missing.Wrap("work for the server", fmt.Errorf("%w: %s, and this is %s", ErrVersion, v, q.o.Version),
			"install the same version on both")
	}
	return err
}

// Shared returns a setting of the server that workers need, such as where the
// media are.
func (q *Queue) Shared(ctx context.Context, key string) (string, error) {
	e, err := q.about.Get(ctx, key)
	if err != nil {
		return "", q.failure(err)
	}
	return string(e.Value()), nil
}

// Share publishes a setting for workers.
func (q *Queue) Share(ctx context.Context, key, value string) error {
	_, err := q.about.PutString(ctx, key, value)
	return q.failure(err)
}

func (q *Queue) bucket(ctx context.Context, c jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	if kv, err := q.js.KeyValue(ctx, c.Bucket); err == nil && !q.o.Lead {
		return kv, nil
	}
	return q.js.CreateOrUpdateKeyValue(ctx, c)
}

// setUp creates the streams, buckets and consumers.
func (q *Queue) setUp(ctx context.Context) (err error) {
	bucket := func(c jetstream.KeyValueConfig) (kv jetstream.KeyValue) {
		if err == nil {
			kv, err = q.bucket(ctx, c)
		}
		return kv
	}
	stream := func(c jetstream.StreamConfig) (s jetstream.Stream) {
		if err == nil {
			s, err = q.js.CreateOrUpdateStream(ctx, c)
		}
		return s
	}
	q.jobs = bucket(jetstream.KeyValueConfig{Bucket: jobBucket})
	q.workers = bucket(jetstream.KeyValueConfig{Bucket: workerBucket, TTL: workersFor, Storage: jetstream.MemoryStorage})
	q.frames = bucket(jetstream.KeyValueConfig{Bucket: frameBucket, TTL: framesFor, Storage: jetstream.MemoryStorage})
	q.work = stream(jetstream.StreamConfig{Name: workStream, Subjects: []string{workSubject + ">"}, Retention: jetstream.WorkQueuePolicy})
	q.events = stream(jetstream.StreamConfig{Name: eventStream, Subjects: []string{eventSubject + ">"}, MaxMsgsPerSubject: maxEvents, AllowDirect: true})
	stream(jetstream.StreamConfig{Name: deadStream, Subjects: []string{deadSubject + ">"}, MaxAge: deadFor})
	if err != nil {
		return err
	}
	for _, engine := range engines {
		for _, p := range priorities {
			line := engine + "." + string(p)
			c, err := q.work.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
				Durable: engine + "-" + string(p), FilterSubject: workSubject + line,
				AckPolicy: jetstream.AckExplicitPolicy, AckWait: q.o.Lease, MaxAckPending: -1,
			})
			if err != nil {
				return err
			}
			q.lines[line] = c
		}
	}
	return nil
}

// repair writes the last events of ended jobs that a crash of the lead may have
// left out.
func (q *Queue) repair(ctx context.Context) error {
	jobs, err := q.Jobs(ctx)
	for _, j := range jobs {
		if err == nil {
			err = q.end(ctx, j)
		}
	}
	return err
}

// Conn returns the connection to NATS.
func (q *Queue) Conn() *nats.Conn { return q.nc }

// JetStream returns the JetStream context, which an object store of NATS needs.
func (q *Queue) JetStream() jetstream.JetStream { return q.js }

// Address returns where workers reach the embedded server, nats://host:port, or "".
func (q *Queue) Address() string {
	if q.server == nil || q.o.Listen == "" {
		return ""
	}
	return q.server.ClientURL()
}

// Health returns nil when the queue answers.
func (q *Queue) Health(ctx context.Context) error {
	_, err := q.about.Status(ctx)
	return q.failure(err)
}

// wake wakes everybody who waits for work.
func (q *Queue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.wakeup)
	q.wakeup = make(chan struct{})
}

func (q *Queue) woken() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.wakeup
}

// failure turns an error of NATS into a fault.
func (q *Queue) failure(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return fault.Missing.Wrap(op, err, "check that the NATS servers run and have JetStream enabled")
}
