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
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lipstream/lipstream/internal/cluster"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/settings"
)

// Options configures a Queue.
type Options struct {
	// URL lists the addresses of NATS servers with JetStream, separated by commas. If
	// it is empty, a server runs in this process and keeps its files in Dir.
	URL string
	Dir string
	// Replicas is how many of the NATS servers keep each record, message and object;
	// default 1. Workers do not use it.
	Replicas int
	// Listen is the address on which the embedded server accepts workers. If it is
	// empty, only this process uses the server. Token is what workers must send,
	// and what is sent to the servers at URL; it may be empty.
	Listen string
	Token  string
	// TLS is used for connections to URL; nil means that of the address (tls://), with
	// the system's certificate authorities. ServerTLS is used by the embedded server
	// for connections of workers; nil means none.
	TLS, ServerTLS *tls.Config
	// Lead is set by the server: its options apply.
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
	keyBucket    = "lipstream_keys"

	workSubject  = "lipstream.work."
	eventSubject = "lipstream.events."
	deadSubject  = "lipstream.dead."
	wakeSubject  = "lipstream.wake." // wakes a worker that waits for a task of an engine
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
	workersFor  = 15 * time.Second
	connecting  = 10 * time.Second
	maxReplicas = 5
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
	keys                         jetstream.KeyValue // nil: not the lead
	events, work                 jetstream.Stream
	lines                        map[string]jetstream.Consumer // by engine.priority

	beat  time.Duration // between two heartbeats of a lease
	poll  time.Duration // see pollEvery
	pause time.Duration // before the second attempt of a task; it doubles with every further one

	newer sync.Map // IDs of jobs that were left to newer workers
}

// Open starts or joins a queue. Its errors are of kind Missing (no server answers),
// Usage, or Output (the folder).
func Open(ctx context.Context, o Options) (*Queue, error) {
	o.Lease = cmp.Or(o.Lease, defaultLease)
	o.Attempts = cmp.Or(o.Attempts, defaultAttempts)
	o.Replicas = cmp.Or(o.Replicas, 1)
	if o.Lease < minLease || o.Attempts < 1 {
		return nil, fault.Usage.New(op, fmt.Sprintf("a lease of %v with %d attempts is too small", o.Lease, o.Attempts), "use a lease of at least 1s and at least 1 attempt")
	}
	if o.Replicas < 1 || o.Replicas > maxReplicas {
		return nil, fault.Field("replicas", strconv.Itoa(o.Replicas), fmt.Sprintf("is not a number from 1 to %d", maxReplicas), "set it to 1 or 3")
	}
	if o.Replicas > 1 && o.URL == "" {
		return nil, fault.Field("replicas", strconv.Itoa(o.Replicas), "needs more NATS servers than the built-in one", "start a cluster of NATS servers and set `nats` to their addresses")
	}
	q := &Queue{o: o, log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), poll: pollEvery, pause: time.Second, lines: map[string]jetstream.Consumer{}}
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
	ctx, cancel := context.WithTimeout(ctx, 2*cluster.Patience)
	defer cancel()
	if err := q.agree(ctx); err != nil {
		return err
	}
	q.beat = q.o.Lease / 4
	if err := q.setUp(ctx); err != nil {
		return q.failure(err)
	}
	if q.o.Lead {
		return q.repair(ctx)
	}
	return nil
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
		// Workers of 0.1.0 end when the version is not theirs.
		return errors.Join(q.Share(ctx, "version", q.o.Version), q.Share(ctx, "lease", q.o.Lease.String()), q.Share(ctx, "attempts", strconv.Itoa(q.o.Attempts)))
	}
	lease, err := q.Shared(ctx, "lease")
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return fault.Missing.New(op, "no lipstream server has used these NATS servers yet", "start lipstream serve first")
	}
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

// Shared returns a setting of the server that workers need, such as where the
// media are.
func (q *Queue) Shared(ctx context.Context, key string) (string, error) {
	e, err := cluster.Persist(ctx, func(ctx context.Context) (jetstream.KeyValueEntry, error) { return q.about.Get(ctx, key) })
	if err != nil {
		return "", q.failure(err)
	}
	return string(e.Value()), nil
}

// Share publishes a setting for workers.
func (q *Queue) Share(ctx context.Context, key, value string) error {
	_, err := cluster.Persist(ctx, func(ctx context.Context) (uint64, error) { return q.about.PutString(ctx, key, value) })
	return q.failure(err)
}

// bucket opens a bucket. The lead creates it if necessary, and gives it its options.
func (q *Queue) bucket(ctx context.Context, c jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	return cluster.Persist(ctx, func(ctx context.Context) (jetstream.KeyValue, error) {
		if !q.o.Lead {
			kv, err := q.js.KeyValue(ctx, c.Bucket)
			if errors.Is(err, jetstream.ErrBucketNotFound) {
				err = fault.Missing.New(op, "no lipstream server has used these NATS servers yet", "start lipstream serve first")
			}
			return cluster.Bucket(q.js, kv), err
		}
		c.Replicas = q.o.Replicas
		kv, err := q.js.CreateOrUpdateKeyValue(ctx, c)
		return cluster.Bucket(q.js, kv), err
	})
}

// stream opens a stream like bucket.
func (q *Queue) stream(ctx context.Context, c jetstream.StreamConfig) (jetstream.Stream, error) {
	return cluster.Persist(ctx, func(ctx context.Context) (jetstream.Stream, error) {
		if !q.o.Lead {
			return q.js.Stream(ctx, c.Name)
		}
		c.Replicas = q.o.Replicas
		return q.js.CreateOrUpdateStream(ctx, c)
	})
}

// line opens the consumer of a line of the work stream like bucket.
func (q *Queue) line(ctx context.Context, engine string, p Priority) (jetstream.Consumer, error) {
	return cluster.Persist(ctx, func(ctx context.Context) (jetstream.Consumer, error) {
		name := engine + "-" + string(p)
		if !q.o.Lead {
			return q.work.Consumer(ctx, name)
		}
		return q.work.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
			Durable: name, FilterSubject: workSubject + engine + "." + string(p),
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: q.o.Lease, MaxAckPending: -1,
		})
	})
}

// setUp opens the streams, buckets and consumers.
func (q *Queue) setUp(ctx context.Context) (err error) {
	bucket := func(c jetstream.KeyValueConfig) (kv jetstream.KeyValue) {
		if err == nil {
			kv, err = q.bucket(ctx, c)
		}
		return kv
	}
	stream := func(c jetstream.StreamConfig) (s jetstream.Stream) {
		if err == nil {
			s, err = q.stream(ctx, c)
		}
		return s
	}
	q.jobs = bucket(jetstream.KeyValueConfig{Bucket: jobBucket})
	q.workers = bucket(jetstream.KeyValueConfig{Bucket: workerBucket, TTL: workersFor, Storage: jetstream.MemoryStorage})
	q.frames = bucket(jetstream.KeyValueConfig{Bucket: frameBucket, TTL: framesFor, Storage: jetstream.MemoryStorage})
	if q.o.Lead {
		q.keys = bucket(jetstream.KeyValueConfig{Bucket: keyBucket, TTL: KeysFor, MaxBytes: keyBytes})
	}
	q.work = stream(jetstream.StreamConfig{Name: workStream, Subjects: []string{workSubject + ">"}, Retention: jetstream.WorkQueuePolicy})
	q.events = stream(jetstream.StreamConfig{Name: eventStream, Subjects: []string{eventSubject + ">"}, MaxMsgsPerSubject: maxEvents, AllowDirect: true})
	stream(jetstream.StreamConfig{Name: deadStream, Subjects: []string{deadSubject + ">"}, MaxAge: deadFor})
	if err != nil {
		return err
	}
	for _, engine := range engines {
		for _, p := range priorities {
			c, err := q.line(ctx, engine, p)
			if errors.Is(err, jetstream.ErrConsumerNotFound) {
				continue // the server is older and does not know the engine
			}
			if err != nil {
				return err
			}
			q.lines[engine+"."+string(p)] = c
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
