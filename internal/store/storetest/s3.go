// Package storetest runs a real S3 server for tests: Versity's S3 gateway (Apache-2.0),
// which keeps objects in a folder. It is built from its Go module as a program of its
// own and is not part of Lipstream.
package storetest

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/disk"
)

const version = "v1.8.0"

// Credentials are those of the server, by the names of the variables that Lipstream reads.
var Credentials = map[string]string{"AWS_ACCESS_KEY_ID": "lipstream-test", "AWS_SECRET_ACCESS_KEY": "a-secret-for-tests"}

// Bucket is the bucket that exists.
const Bucket = "media"

// S3 is a server that can be stopped and started again.
type S3 struct {
	Endpoint string // host:port

	t      testing.TB
	binary string
	dir    string
	cmd    *exec.Cmd
	ended  chan struct{} // closed when cmd has ended
}

// NewS3 builds and starts a server with an empty bucket. Building takes minutes the
// first time; the program stays in the user's cache folder.
func NewS3(t testing.TB) *S3 {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	s := &S3{t: t, binary: filepath.Join(cache, "lipstream-test", "versitygw-"+version, "versitygw"), dir: t.TempDir()}
	if _, err := os.Stat(s.binary); err != nil {
		s.build()
	}
	for _, dir := range []string{Bucket, "../attributes"} {
		if err := os.MkdirAll(filepath.Join(s.dir, "buckets", dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	const ports = 5 // another program may take a free port first
	for n := 1; ; n++ {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.Endpoint = free.Addr().String()
		_ = free.Close()
		out, ok := s.start()
		if ok {
			t.Cleanup(s.Stop)
			return s
		}
		if n == ports {
			t.Fatalf("versitygw ended: %s", out)
		}
	}
}

func (s *S3) build() {
	s.t.Helper()
	tmp, err := os.MkdirTemp("", "versitygw-")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	cmd := exec.Command("go", "install", "github.com/versity/versitygw/cmd/versitygw@"+version)
	cmd.Dir, cmd.Env = tmp, append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+tmp, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("build versitygw: %v\n%s", err, out)
	}
	if err := os.MkdirAll(filepath.Dir(s.binary), 0o755); err != nil {
		s.t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(tmp, "versitygw"))
	if err != nil {
		s.t.Fatal(err)
	}
	// Several tests may build it at the same time.
	if err := disk.WriteFile(s.binary, b, 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// Start starts the server again, on the same port, and waits until it answers.
func (s *S3) Start() {
	s.t.Helper()
	if out, ok := s.start(); !ok {
		s.t.Fatalf("versitygw ended: %s", out)
	}
}

// start returns false, and what the server printed, if the server ends before it answers.
func (s *S3) start() (out string, ok bool) {
	s.t.Helper()
	s.cmd = exec.Command(s.binary, "--port", s.Endpoint, "--quiet", "--access", Credentials["AWS_ACCESS_KEY_ID"], "--secret", Credentials["AWS_SECRET_ACCESS_KEY"],
		"posix", "--sidecar", filepath.Join(s.dir, "attributes"), filepath.Join(s.dir, "buckets"))
	var printed bytes.Buffer
	s.cmd.Stdout, s.cmd.Stderr = &printed, &printed
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	s.ended = ended
	go func() { _ = s.cmd.Wait(); close(ended) }()
	for {
		select {
		case <-ended:
			return printed.String(), false
		case <-time.After(20 * time.Millisecond):
		}
		if c, err := net.Dial("tcp", s.Endpoint); err == nil {
			_ = c.Close()
			return "", true
		}
	}
}

// Stop kills the server and waits for its end.
func (s *S3) Stop() {
	_ = s.cmd.Process.Kill()
	<-s.ended
}

// URL returns the address of a store in the bucket.
func (s *S3) URL(prefix string) string {
	return "s3://" + Bucket + "/" + prefix + "?endpoint=" + s.Endpoint + "&tls=false"
}
