package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/lipstream/lipstream/internal/queue"
)

const (
	keyHeader = "Idempotency-Key"
	maxKey    = 255 // bytes
)

// keyLocks lets requests with the same key wait for each other: the first makes the
// job, the others return it.
type keyLocks struct {
	mu    sync.Mutex
	locks map[string]*keyLock
}

type keyLock struct {
	held  chan struct{}
	users int
}

// lock locks a key until release is called.
func (k *keyLocks) lock(ctx context.Context, key string) (release func(), err error) {
	k.mu.Lock()
	l := k.locks[key]
	if l == nil {
		l = &keyLock{held: make(chan struct{}, 1)}
		k.locks[key] = l
	}
	l.users++
	k.mu.Unlock()
	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.locks, key)
		}
	}
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// keyOf returns the idempotency key of a request, or "".
func keyOf(r *http.Request) (string, error) {
	values := r.Header.Values(keyHeader)
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	if len(values) > 1 || key == "" || len(key) > maxKey || strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c > '~' }) {
		return "", refuse(http.StatusBadRequest, "the header "+keyHeader+" is not one key of 1 to 255 printable ASCII characters", "send a random key, such as a UUID")
	}
	return key, nil
}

// fingerprint returns a checksum of a request for a job. The files of a form count by
// their names and contents.
func fingerprint(spec queue.Spec, sums map[string]string) (string, error) {
	blank := func(s queue.Source, name string) queue.Source {
		if sums[name] != "" {
			return queue.Source{}
		}
		return s
	}
	spec.Video, spec.Audio = blank(spec.Video, "video"), blank(spec.Audio, "audio")
	if spec.Soundtrack != nil {
		spec.Soundtrack = new(blank(*spec.Soundtrack, "soundtrack"))
	}
	if spec.Mask != nil {
		spec.Mask = new(blank(*spec.Mask, "mask"))
	}
	spec.Speakers = slices.Clone(spec.Speakers)
	for i, s := range spec.Speakers {
		spec.Speakers[i].Audio = blank(s.Audio, speakerField+s.Face)
	}
	b, err := json.Marshal(struct {
		Spec queue.Spec
		Sums map[string]string
	}{spec, sums})
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), err
}
