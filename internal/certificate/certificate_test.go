package certificate_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/certificate"
	"github.com/lipstream/lipstream/internal/certificate/certificatetest"
	"github.com/lipstream/lipstream/internal/fault"
)

// server starts a server with TLS whose files may change.
func server(t *testing.T, f certificate.Files, changed func(error)) *httptest.Server {
	t.Helper()
	config, err := f.Server(changed)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	s.Listener = tls.NewListener(s.Listener, config)
	s.Config.SetKeepAlivesEnabled(false)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// get requests a page and returns the server's certificate.
func get(t *testing.T, s *httptest.Server, scheme string, f certificate.Files) (*tls.ConnectionState, error) {
	t.Helper()
	config, err := f.Client(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	a, err := c.Get(scheme + "://" + s.Listener.Addr().String())
	if err != nil {
		return nil, err
	}
	defer func() { _ = a.Body.Close() }()
	b, err := io.ReadAll(a.Body)
	if err == nil && string(b) != "hello" {
		err = errors.New(string(b))
	}
	return a.TLS, err
}

func TestConnections(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, foreign := certificatetest.NewAuthority(t, dir, "ca"), certificatetest.NewAuthority(t, dir, "foreign")
	good := ca.Issue("server", certificatetest.Valid)
	open := server(t, certificate.Files{Cert: good.Cert, Key: good.Key}, nil)
	strict := server(t, certificate.Files{Cert: good.Cert, Key: good.Key, CA: ca.File}, nil)
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	elsewhere := ca.Issue("elsewhere", certificatetest.OtherHost)
	other := server(t, certificate.Files{Cert: elsewhere.Cert, Key: elsewhere.Key}, nil)
	client := ca.Issue("client", certificatetest.Valid)
	stranger := foreign.Issue("stranger", certificatetest.Valid)
	for _, c := range []struct {
		name   string
		server *httptest.Server
		scheme string
		files  certificate.Files
		hint   string // part of it; empty: no error
	}{
		{"private authority", open, "https", certificate.Files{CA: ca.File}, ""},
		{"system's authorities", open, "https", certificate.Files{}, "set `tls_ca` to the file"},
		{"wrong authority", open, "https", certificate.Files{CA: foreign.File}, "set `tls_ca` to the file"},
		{"wrong host", other, "https", certificate.Files{CA: ca.File}, "use a host name"},
		{"plain client", open, "http", certificate.Files{}, "write https://"},
		{"plain server", plain, "https", certificate.Files{CA: ca.File}, "write http://"},
		{"client certificate", strict, "https", certificate.Files{CA: ca.File, Cert: client.Cert, Key: client.Key}, ""},
		{"no client certificate", strict, "https", certificate.Files{CA: ca.File}, "set `tls_cert` and `tls_key`"},
		{"wrong client certificate", strict, "https", certificate.Files{CA: ca.File, Cert: stranger.Cert, Key: stranger.Key}, "set `tls_cert` and `tls_key`"},
	} {
		_, err := get(t, c.server, c.scheme, c.files)
		if c.hint == "" && err != nil || c.hint != "" && !strings.Contains(certificate.Hint(err, "tls_", "http://", "https://"), c.hint) {
			t.Errorf("%s: %v; hint: %s", c.name, err, certificate.Hint(err, "tls_", "http://", "https://"))
		}
	}
	if certificate.Hint(nil, "", "", "") != "" || certificate.Hint(io.EOF, "", "", "") != "" {
		t.Error("an error that is not about TLS has a hint")
	}
}

// TestExpired connects to a server whose certificate has expired while it ran.
func TestExpired(t *testing.T) {
	t.Parallel()
	ca := certificatetest.NewAuthority(t, t.TempDir(), "ca")
	old := ca.Issue("old", certificatetest.Expired)
	pair, err := tls.LoadX509KeyPair(old.Cert, old.Key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.StartTLS()
	defer s.Close()
	_, err = get(t, s, "https", certificate.Files{CA: ca.File})
	if hint := certificate.Hint(err, "tls_", "http://", "https://"); !strings.Contains(hint, "has expired") {
		t.Errorf("%v; hint: %s", err, hint)
	}
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := certificatetest.NewAuthority(t, dir, "ca")
	a, b, old := ca.Issue("a", certificatetest.Valid), ca.Issue("b", certificatetest.Valid), ca.Issue("old", certificatetest.Expired)
	text, none := filepath.Join(dir, "text"), filepath.Join(dir, "none")
	if err := os.WriteFile(text, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]certificate.Files{
		"`tls_key`: is missing":      {Cert: a.Cert},
		"`tls_cert`: is missing":     {Key: a.Key},
		"private key does not match": {Cert: a.Cert, Key: b.Key},
		"open " + none + ": ":        {Cert: none, Key: a.Key},
		"failed to find any PEM":     {Cert: text, Key: a.Key},
		"it expired on":              {Cert: old.Cert, Key: old.Key},
		"no certificate in PEM":      {Cert: a.Cert, Key: a.Key, CA: text},
	} {
		f.Prefix = "tls_"
		_, server := f.Server(nil)
		_, client := f.Client(nil)
		for _, err := range []error{server, client} {
			if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), want) || fault.HintOf(err) == "" {
				t.Errorf("%+v: %v; hint: %s", f, err, fault.HintOf(err))
			}
		}
	}
	if _, err := (certificate.Files{CA: ca.File, Prefix: "tls_"}).Server(nil); fault.KindOf(err) != fault.Usage {
		t.Errorf("a server without a certificate: %v", err)
	}
}

// TestRenewal replaces the files of a running server and client.
func TestRenewal(t *testing.T) {
	t.Parallel()
	ca := certificatetest.NewAuthority(t, t.TempDir(), "ca")
	files := ca.Issue("server", certificatetest.Valid)
	var changes []error
	s := server(t, certificate.Files{Cert: files.Cert, Key: files.Key}, func(err error) { changes = append(changes, err) })
	serial := func() string {
		t.Helper()
		state, err := get(t, s, "https", certificate.Files{CA: ca.File})
		if err != nil {
			t.Fatal(err)
		}
		return state.PeerCertificates[0].SerialNumber.String()
	}
	later := time.Now()
	touch := func() { // the clock of a file system may be coarse
		later = later.Add(time.Second)
		for _, path := range []string{files.Cert, files.Key} {
			if err := os.Chtimes(path, later, later); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := serial()
	ca.Issue("server", certificatetest.Valid) // the same files
	touch()
	second := serial()
	if first == second || len(changes) != 1 || changes[0] != nil {
		t.Errorf("serial numbers %s, %s; %v", first, second, changes)
	}
	// A file that cannot be used changes nothing.
	if err := os.WriteFile(files.Key, []byte("half of a ke"), 0o600); err != nil {
		t.Fatal(err)
	}
	touch()
	if third := serial(); third != second || len(changes) != 2 || changes[1] == nil {
		t.Errorf("serial numbers %s, %s; %v", second, third, changes)
	}
	ca.Issue("server", certificatetest.Valid)
	touch()
	if fourth := serial(); fourth == second || len(changes) != 3 || changes[2] != nil {
		t.Errorf("serial numbers %s, %s; %v", second, fourth, changes)
	}
}
