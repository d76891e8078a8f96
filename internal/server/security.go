package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	cookieName = "lipstream_session"
	// maxJSON bounds the JSON body of a request, in bytes.
	maxJSON = 1 << 20
	// idleTimeout is how long a client may neither send nor read.
	idleTimeout = time.Minute
)

// allowedHosts returns the host names that the server answers to. This stops DNS
// rebinding: a foreign page whose name points here has another host name.
func allowedHosts(o Options) map[string]bool {
	hosts := map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true}
	if host, _, err := net.SplitHostPort(o.Listen); err == nil && host != "" {
		hosts[strings.ToLower(host)] = true
	}
	for _, h := range o.AllowHosts {
		hosts[strings.ToLower(h)] = true
	}
	return hosts
}

func (s *Server) hostAllowed(hostPort string) bool {
	host := hostPort
	if h, _, err := net.SplitHostPort(hostPort); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if s.hosts[host] {
		return true
	}
	if label, parent, ok := strings.Cut(host, "."); ok && label != "" && s.hosts["*."+parent] {
		return true
	}
	// With a token, a server on all addresses accepts any IP address: a rebound
	// page has no token. Unknown names are still refused.
	listen, _, err := net.SplitHostPort(s.o.Listen)
	return err == nil && s.o.Token != "" && net.ParseIP(host) != nil && (listen == "" || net.ParseIP(listen).IsUnspecified())
}

// guard checks the host and the origin of every request.
func (s *Server) guard(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
		if !s.hostAllowed(r.Host) {
			s.fail(w, r, refuse(http.StatusMisdirectedRequest, "this server does not answer to the name "+r.Host, "use the address that lipstream serve printed, or add the name to `allow_host`"))
			return
		}
		if err := cross.Check(r); err != nil {
			s.fail(w, r, refuse(http.StatusForbidden, "the request comes from another site's page", ""))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// wrap returns the handler of a route. It checks the token, sets deadlines and
// writes errors.
func (s *Server) wrap(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !rt.open && !s.authorised(r) {
			s.fail(w, r, refuse(http.StatusUnauthorized, "the token is missing or wrong", "send the header Authorization: Bearer TOKEN with the server's token"))
			return
		}
		r.Body = &idleReader{r.Body, http.NewResponseController(w)}
		if err := rt.handle(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// idleReader aborts a request whose client sends nothing for too long.
type idleReader struct {
	io.ReadCloser
	c *http.ResponseController
}

func (p *idleReader) Read(b []byte) (int, error) {
	_ = p.c.SetReadDeadline(time.Now().Add(idleTimeout))
	n, err := p.ReadCloser.Read(b)
	if err != nil {
		// The body is complete; the work itself has no deadline.
		_ = p.c.SetReadDeadline(time.Time{})
	}
	return n, err
}

// authorised checks the token, in the header or as the page's cookie.
func (s *Server) authorised(r *http.Request) bool {
	if s.o.Token == "" {
		return true
	}
	if given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return s.isToken(given)
	}
	c, err := r.Cookie(cookieName)
	return err == nil && subtle.ConstantTimeCompare([]byte(c.Value), []byte(s.session())) == 1
}

// isToken compares in constant time, whatever the length of the token.
func (s *Server) isToken(given string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(s.o.Token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// sessionKey signs the cookies of this process. After a restart the page asks for
// the token again.
var sessionKey = []byte(rand.Text())

// session returns the cookie's value. It proves the token without containing it.
func (s *Server) session() string {
	m := hmac.New(sha256.New, sessionKey)
	m.Write([]byte(s.o.Token))
	return hex.EncodeToString(m.Sum(nil))
}

func (s *Server) createSession(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Token string `json:"token"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	if s.o.Token != "" && !s.isToken(body.Token) {
		return refuse(http.StatusUnauthorized, "the token is wrong", "ask the operator of the server for the token")
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: s.session(), Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil})
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) deleteSession(w http.ResponseWriter, _ *http.Request) error {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", HttpOnly: true, MaxAge: -1, SameSite: http.SameSiteStrictMode})
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// readJSON decodes the body of a request.
func readJSON(w http.ResponseWriter, r *http.Request, to any) error {
	return decode("the body", http.MaxBytesReader(w, r.Body, maxJSON), to)
}

// decode decodes what r holds. Unknown fields are errors.
func decode(what string, r io.Reader, to any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return refuse(http.StatusRequestEntityTooLarge, what+" is too large", "")
		}
		return refuse(http.StatusBadRequest, what+" is not valid JSON for this request: "+err.Error(), "see /v1/openapi.json")
	}
	if d.More() {
		return refuse(http.StatusBadRequest, what+" has more than one JSON value", "send one")
	}
	return nil
}
