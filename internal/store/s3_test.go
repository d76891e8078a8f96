package store_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/store"
	"github.com/lipstream/lipstream/internal/store/storetest"
)

// TestRealS3 runs the conformance suite on a real S3 server.
func TestRealS3(t *testing.T) {
	if os.Getenv("LIPSTREAM_LONG") == "" {
		t.Skip("builds an S3 server, which takes minutes; set LIPSTREAM_LONG=1")
	}
	server := storetest.NewS3(t)
	for name, value := range storetest.Credentials {
		t.Setenv(name, value)
	}
	s, err := store.Open(t.Context(), server.URL("some/prefix"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	conform(t, s)
	conformReplaced(t, s)

	// The server is away for a while.
	content := bytes.Repeat([]byte("0123456789abcdef"), 3<<20) // three parts
	server.Stop()
	stored := make(chan error)
	go func() { stored <- s.Put(t.Context(), "jobs/a/result.mp4", bytes.NewReader(content)) }()
	server.Start()
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "result.mp4")
	server.Stop()
	fetched := make(chan error)
	go func() { fetched <- s.Fetch(t.Context(), "jobs/a/result.mp4", path) }()
	server.Start()
	if err := <-fetched; err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, content) {
		t.Errorf("%d bytes, %v", len(b), err)
	}

	refused := func(what, address, want string) {
		t.Helper()
		_, err := store.Open(t.Context(), address, nil, 0)
		if fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), want) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v; hint: %s", what, err, fault.HintOf(err))
		}
	}
	refused("no bucket", strings.Replace(server.URL(""), storetest.Bucket, "other", 1), "the bucket does not exist")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	refused("wrong secret", server.URL(""), "signature")
	t.Setenv("AWS_ACCESS_KEY_ID", "nobody")
	refused("wrong key", server.URL(""), "access key")
}
