package e2e_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/certificate/certificatetest"
)

// TestTLS runs a server with HTTPS, a worker over TLS and clients with certificates, all
// with a private authority, and renews the certificate of the running server.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := certificatetest.NewAuthority(t, dir, "ca")
	foreign := certificatetest.NewAuthority(t, dir, "foreign")
	pair, mine, strange := ca.Issue("server", certificatetest.Valid), ca.Issue("client", certificatetest.Valid), foreign.Issue("strange", certificatetest.Valid)
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("a-token-for-the-tls-test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, dir, "serve", "--listen", "127.0.0.1:0", "--workers-listen", "127.0.0.1:0", "--token-file", token, "--slots", "0",
		"--data", filepath.Join(dir, "data"), "--tls-cert", pair.Cert, "--tls-key", pair.Key, "--tls-client-ca", ca.File)
	files := []string{"--token-file", token, "--tls-ca", ca.File, "--tls-cert", mine.Cert, "--tls-key", mine.Key}
	queueURL := d.address("tls://")
	w := startDaemon(t, dir, append([]string{"worker", "--server", queueURL, "--data", filepath.Join(dir, "worker"), "--slots", "1"}, files...)...)
	server := "--server=" + d.address("https://")
	lipstreamCommand(t, dir, append([]string{"submit", server, "--video", in("head.mp4"), "--audio", in("short.wav"), "-o", "out.mp4", "--engine", "preview", "-q"}, files...)...)

	// A second server, for which the first one's queue is a NATS server with TLS.
	second := startDaemon(t, dir, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "second"), "--token-file", token, "--slots", "0",
		"--nats", queueURL, "--nats-ca", ca.File, "--nats-cert", mine.Cert, "--nats-key", mine.Key)
	waitUntil(t, func() bool {
		return strings.Contains(lipstreamCommand(t, dir, "jobs", "--server="+second.address("http://"), "--token-file", token), "out.mp4")
	})
	second.signal(syscall.SIGTERM)
	if out := failing(t, dir, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "second"), "--token-file", token, "--nats", queueURL); !strings.Contains(out, "set --nats-ca to the file") {
		t.Errorf("no authority for NATS: %s", out)
	}

	plain := strings.Replace(server, "https:", "http:", 1)
	for _, c := range []struct {
		name string
		args []string
		want string // in the message with its hint
	}{
		{"no authority", []string{"jobs", server, "--token-file", token}, "set --tls-ca to the file"},
		{"wrong authority", []string{"jobs", server, "--token-file", token, "--tls-ca", foreign.File}, "set --tls-ca to the file"},
		{"no certificate", []string{"jobs", server, "--token-file", token, "--tls-ca", ca.File}, "set --tls-cert and --tls-key"},
		{"wrong certificate", []string{"jobs", server, "--token-file", token, "--tls-ca", ca.File, "--tls-cert", strange.Cert, "--tls-key", strange.Key}, "set --tls-cert and --tls-key"},
		{"plain client", []string{"jobs", plain, "--token-file", token}, "write https:// in its address"},
		{"no key", []string{"jobs", server, "--tls-cert", mine.Cert}, "--tls-key: is missing"},
		{"worker without an authority", []string{"worker", "--server", queueURL, "--token-file", token, "--data", filepath.Join(dir, "w2")}, "set --tls-ca to the file"},
		{"worker without a certificate", []string{"worker", "--server", queueURL, "--token-file", token, "--data", filepath.Join(dir, "w2"), "--tls-ca", ca.File}, "set --tls-cert and --tls-key"},
		{"worker with the wrong authority", []string{"worker", "--server", queueURL, "--token-file", token, "--data", filepath.Join(dir, "w2"), "--tls-ca", foreign.File}, "set --tls-ca to the file"},
	} {
		if out := failing(t, dir, c.args...); !strings.Contains(out, c.want) {
			t.Errorf("%s: %q is not in %s", c.name, c.want, out)
		}
	}

	serial := func() string {
		t.Helper()
		client, err := tls.LoadX509KeyPair(mine.Cert, mine.Key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := tls.Dial("tcp", strings.TrimPrefix(d.address("https://"), "https://"), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{client}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	ca.Issue("server", certificatetest.Valid)
	later := time.Now().Add(time.Second) // the clock of a file system may be coarse
	for _, path := range []string{pair.Cert, pair.Key} {
		if err := os.Chtimes(path, later, later); err != nil {
			t.Fatal(err)
		}
	}
	if serial() == before {
		t.Error("the renewed certificate is not in use")
	}
	lipstreamCommand(t, dir, append([]string{"submit", server, "--video", in("head.mp4"), "--audio", in("short.wav"), "-o", "again.mp4", "--engine", "preview", "-q"}, files...)...)
	for _, x := range []*daemon{w, d} {
		x.signal(syscall.SIGTERM)
		if x.err != nil {
			t.Errorf("%v\n%s", x.err, x.stderr)
		}
	}
	if !strings.Contains(d.stderr.String(), "the changed certificate is in use") {
		t.Errorf("the log of the server:\n%s", d.stderr)
	}
	// An expired certificate, and a client that wants TLS from a server without it.
	old := ca.Issue("old", certificatetest.Expired)
	if out := failing(t, dir, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data2"), "--tls-cert", old.Cert, "--tls-key", old.Key); !strings.Contains(out, "it expired on") {
		t.Error(out)
	}
	d = startDaemon(t, dir, "serve", "--listen", "127.0.0.1:0", "--workers-listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data2"), "--slots", "0")
	if out := failing(t, dir, "jobs", "--server="+strings.Replace(d.address("http://"), "http:", "https:", 1)); !strings.Contains(out, "write http:// in its address") {
		t.Error(out)
	}
	if out := failing(t, dir, "worker", "--server", strings.Replace(d.address("nats://"), "nats:", "tls:", 1), "--data", filepath.Join(dir, "w2")); !strings.Contains(out, "write nats:// in its address") {
		t.Error(out)
	}
}
