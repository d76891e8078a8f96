// Package certificate makes TLS configurations from PEM files, and reads the files
// again when they change.
package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

// Files names the PEM files of one side of a connection. The names of the fields'
// settings are Prefix and "cert", "key" or "ca".
type Files struct {
	Cert, Key string // the certificate of this side, with its chain; both or neither
	CA        string // the authorities that the other side's certificate must come from
	Prefix    string // "tls_" or "nats_"
}

// Server returns the configuration of a server, or nil if no file is set. If CA is
// set, clients need a certificate. When files change, new connections use the new
// ones; a change that cannot be used is reported to changed, and the old files stay in
// use.
func (f Files) Server(changed func(error)) (*tls.Config, error) {
	if f.Cert == "" && f.Key == "" && f.CA == "" {
		return nil, nil
	}
	if f.Cert == "" {
		return nil, fault.Field(f.Prefix+"cert", "", "is missing", "a server needs a certificate: set `"+f.Prefix+"cert` and `"+f.Prefix+"key`")
	}
	w, err := f.watch(changed)
	if err != nil {
		return nil, err
	}
	build := func(p *pems) *tls.Config {
		c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{p.pair}, ClientCAs: p.pool}
		if p.pool != nil {
			c.ClientAuth = tls.RequireAndVerifyClientCert
		}
		return c
	}
	c := build(w.get())
	c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		now := build(w.get())
		now.NextProtos = c.NextProtos // net/http adds its own
		return now, nil
	}
	return c, nil
}

// Client returns the configuration of a client, or nil if no file is set. If CA is
// set, only these authorities are trusted, otherwise those of the system. When the
// certificate changes, new connections use the new one; CA is read only once.
func (f Files) Client(changed func(error)) (*tls.Config, error) {
	if f.Cert == "" && f.Key == "" && f.CA == "" {
		return nil, nil
	}
	w, err := f.watch(changed)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.Cert != "" {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair := w.get().pair
			return &pair, nil
		}
	}
	c.RootCAs = w.get().pool
	return c, nil
}

// pems is the content of Files.
type pems struct {
	pair tls.Certificate
	pool *x509.CertPool // nil: no CA
}

func (f Files) load() (*pems, error) {
	p := &pems{}
	for _, missing := range []struct{ name, file, other string }{{"cert", f.Cert, f.Key}, {"key", f.Key, f.Cert}} {
		if missing.file == "" && missing.other != "" {
			return nil, fault.Field(f.Prefix+missing.name, "", "is missing", "set both `"+f.Prefix+"cert` and `"+f.Prefix+"key`")
		}
	}
	if f.Cert != "" {
		var err error
		if p.pair, err = tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
			return nil, fault.Usage.Wrap("read the certificate "+f.Cert+" with the key "+f.Key, err, "both must be PEM files, and the key must be that of the first certificate")
		}
		if end := p.pair.Leaf.NotAfter; time.Now().After(end) {
			return nil, fault.Usage.New("read the certificate "+f.Cert, "it expired on "+end.Format(time.DateOnly), "renew it")
		}
	}
	if f.CA != "" {
		b, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fault.Usage.Wrap("read the certificate authorities "+f.CA, fault.WithoutPath(err))
		}
		if p.pool = x509.NewCertPool(); !p.pool.AppendCertsFromPEM(b) {
			return nil, fault.Usage.New("read the certificate authorities "+f.CA, "the file has no certificate in PEM form", "choose the file with the certificate of the authority")
		}
	}
	return p, nil
}

// watcher holds the content of files, and reads them again when they have changed.
type watcher struct {
	f       Files
	changed func(error)

	mu    sync.Mutex
	state string
	p     *pems
}

func (f Files) watch(changed func(error)) (*watcher, error) {
	w := &watcher{f: f, changed: changed, state: f.state()}
	var err error
	w.p, err = f.load()
	return w, err
}

// state describes the files; it differs when they have changed.
func (f Files) state() string {
	var b strings.Builder
	for _, path := range []string{f.Cert, f.Key, f.CA} {
		if st, err := os.Stat(path); err == nil {
			fmt.Fprintln(&b, st.ModTime().UnixNano(), st.Size())
		} else {
			fmt.Fprintln(&b)
		}
	}
	return b.String()
}

// get returns the present content.
func (w *watcher) get() *pems {
	w.mu.Lock()
	defer w.mu.Unlock()
	state := w.f.state()
	if state == w.state {
		return w.p
	}
	w.state = state
	p, err := w.f.load()
	if err == nil {
		w.p = p
	}
	if w.changed != nil {
		w.changed(err)
	}
	return w.p
}

// Hint returns what a client can do about an error of TLS, or "" if err is not one.
// prefix is that of the client's settings; plain and secure are the schemes of addresses without and with TLS.
func Hint(err error, prefix, plain, secure string) string {
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	text := ""
	if err != nil {
		text = err.Error()
	}
	switch {
	case isInvalid && invalid.Reason == x509.Expired:
		return "the certificate of the server has expired or is not valid yet: renew it there, and check the clock of this machine"
	case is[x509.UnknownAuthorityError](err):
		return "if the server has a certificate of your own authority, set `" + prefix + "ca` to the file with the authority's certificate"
	case is[x509.HostnameError](err):
		return "use a host name for which the certificate of the server was made"
	case strings.Contains(text, "certificate required"), strings.Contains(text, "bad certificate"), strings.Contains(text, "unknown certificate"),
		strings.Contains(text, "expired certificate"), strings.Contains(text, "closed by remote after TLS handshake"),
		strings.Contains(text, "client conn could not be established"): // HTTP/2 hides the alert if it comes before the first request
		return "the server wants a certificate of this client: set `" + prefix + "cert` and `" + prefix + "key`, with a certificate that is valid and comes from the server's authority"
	case is[tls.RecordHeaderError](err), strings.Contains(text, "server gave HTTP response to HTTPS client"), strings.Contains(text, "secure connection not available"):
		return "the server does not use TLS: write " + plain + " in its address, and leave out `" + prefix + "ca`, `" + prefix + "cert` and `" + prefix + "key`"
	case strings.Contains(text, "HTTP request to an HTTPS server"), strings.Contains(text, "secure connection required"):
		return "the server uses TLS: write " + secure + " in its address"
	}
	return ""
}

func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}
