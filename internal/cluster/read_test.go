package cluster

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestBucket compares Get with that of package jetstream, and checks that no replica is asked.
func TestBucket(t *testing.T) {
	t.Parallel()
	js := start(t)
	nc := js.Conn()
	plain, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b"})
	check(t, err)
	replicas, err := nc.SubscribeSync("$JS.API.DIRECT.GET.>")
	check(t, err)
	kv := Bucket(js, plain)
	for range 2 {
		_, err = kv.PutString(t.Context(), "key", "value")
		check(t, err)
	}
	for _, deleted := range []string{"deleted", "purged"} {
		_, err = kv.Create(t.Context(), deleted, []byte("value"))
		check(t, err)
	}
	check(t, kv.Delete(t.Context(), "deleted"))
	check(t, kv.Purge(t.Context(), "purged"))
	got, err := kv.Get(t.Context(), "key")
	check(t, err)
	for _, key := range []string{"deleted", "purged", "missing"} {
		if _, err := kv.Get(t.Context(), key); !errors.Is(err, jetstream.ErrKeyNotFound) {
			t.Errorf("%s: %v", key, err)
		}
	}
	check(t, nc.Flush())
	if n, _, err := replicas.Pending(); n != 0 || err != nil {
		t.Errorf("%d questions to replicas, %v", n, err)
	}
	want, err := plain.Get(t.Context(), "key")
	check(t, err)
	if n, _, err := replicas.Pending(); n != 1 || err != nil {
		t.Errorf("package jetstream does not ask replicas: %d questions, %v", n, err)
	}
	if got.Bucket() != want.Bucket() || got.Key() != want.Key() || string(got.Value()) != string(want.Value()) || got.Revision() != want.Revision() ||
		!got.Created().Equal(want.Created()) || got.Operation() != want.Operation() || got.Delta() != want.Delta() {
		t.Errorf("%+v, want %+v", got, want)
	}
	if _, err := Last(t.Context(), js, "KV_none", "x"); code(err) != jetstream.JSErrCodeStreamNotFound {
		t.Error(err)
	}
}

// TestFollow reads changes that were made before and while it follows.
func TestFollow(t *testing.T) {
	t.Parallel()
	js := start(t)
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b"})
	check(t, err)
	old, err := kv.PutString(t.Context(), "old", "1")
	check(t, err)
	_, err = kv.PutString(t.Context(), "new", "2")
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	check(t, FollowBucket(ctx, js, "b", old, func(key string, e jetstream.KeyValueEntry) {
		if e == nil {
			got = append(got, key+" removed")
			if key == "new" {
				cancel()
			}
			return
		}
		switch got = append(got, key+"="+string(e.Value())); string(e.Value()) {
		case "2":
			_, err := kv.PutString(t.Context(), "later.part", "3")
			check(t, err)
		case "3":
			check(t, kv.Purge(t.Context(), "old"))
			check(t, kv.Delete(t.Context(), "new"))
		}
	}))
	if want := []string{"new=2", "later.part=3", "old removed", "new removed"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	count := 0
	check(t, Follow(t.Context(), js, "KV_b", "$KV.b.>", 0, func(*jetstream.RawStreamMsg) bool { count++; return count < 2 }))
	if count != 2 {
		t.Errorf("%d messages after false", count)
	}
	if err := Follow(t.Context(), js, "KV_none", "x", 0, nil); code(err) != jetstream.JSErrCodeStreamNotFound {
		t.Error(err)
	}
}

// start starts a NATS server.
func start(t *testing.T) jetstream.JetStream {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	check(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	for !s.ReadyForConnections(time.Minute) && t.Context().Err() == nil {
	}
	nc, err := nats.Connect(s.ClientURL())
	check(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	check(t, err)
	return js
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
