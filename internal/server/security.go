package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"os"

	"github.com/lipstream/lipstream/internal/fault"
)

const (
	cookieName = "lipstream_session"
	// maxJSON bounds the body of a request that is no upload.
	maxJSON = 1 << 20
	// stall is how long a client may send or take nothing.
	stall = time.Minute
)

// allowedHosts are the names under which the server answers. A page of somebody
// else whose name was made to point here (DNS rebinding) has another one.
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
	// With a token, a server on all addresses may be called by any of them: a
	// rebound page has no token. It is a name that is refused.
	listen, _, err := net.SplitHostPort(s.o.Listen)
	return err == nil && s.o.Token != "" && net.ParseIP(host) != nil && (listen == "" || net.ParseIP(listen).IsUnspecified())
}

// guard is before everything: who is called, and from which page.
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
			s.fail(w, r, refuse(http.StatusMisdirectedRequest, "this server is not called "+r.Host, "use the address that lipstream serve printed, or start it with --allow-host"))
			return
		}
		if err := cross.Check(r); err != nil {
			s.fail(w, r, refuse(http.StatusForbidden, "the request comes from another site's page", ""))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// wrap makes a handler of a route: token, deadlines, errors.
func (s *Server) wrap(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !rt.open && !s.authorised(r) {
			s.fail(w, r, refuse(http.StatusUnauthorized, "the token is missing or wrong", "send Authorization: Bearer TOKEN, with the token of --token-file"))
			return
		}
		r.Body = &patient{readCloser: r.Body, c: http.NewResponseController(w)}
		if err := rt.handle(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// patient ends a request whose client sends nothing for too long.
type patient struct {
	readCloser
	c *http.ResponseController
}

type readCloser = interface {
	Read([]byte) (int, error)
	Close() error
}

func (p *patient) Read(b []byte) (int, error) {
	_ = p.c.SetReadDeadline(time.Now().Add(stall))
	n, err := p.readCloser.Read(b)
	if err != nil {
		// All is there: what the request asks for may take as long as it takes.
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

// isToken compares without telling by its time how much was right, nor how long
// the token is.
func (s *Server) isToken(given string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(s.o.Token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// sessionKey makes the cookies of this process; after a restart the page asks
// for the token again.
var sessionKey = func() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return b
}()

// session is the cookie's value: it proves the token without being it.
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
		return refuse(http.StatusUnauthorized, "the token is wrong", "it is in the file of --token-file")
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

// readJSON reads the body; what is not known in it is an error.
func readJSON(w http.ResponseWriter, r *http.Request, to any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxJSON))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		if statusOf(err) == http.StatusRequestEntityTooLarge {
			return err
		}
		return refuse(http.StatusBadRequest, "the body is no such JSON: "+err.Error(), "see /v1/openapi.json")
	}
	if d.More() {
		return refuse(http.StatusBadRequest, "there is more than one JSON value in the body", "")
	}
	return nil
}

// underRoot gives the real path of a file that a job names, which has to lie in
// one of the folders that are allowed, links followed.
func (s *Server) underRoot(path string) (string, os.FileInfo, error) {
	const op = "use the file"
	not := func() (string, os.FileInfo, error) {
		// The same for a file that is not there: nobody shall find out.
		return "", nil, fault.Usage.New(op+" "+path, "it is not in a folder that this server allows", "upload it, or start lipstream serve with --root")
	}
	if len(s.o.Roots) == 0 || !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
		return not()
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return not()
	}
	for _, root := range s.o.Roots {
		if root, err = filepath.Abs(root); err != nil {
			continue
		}
		if root, err = filepath.EvalSymlinks(root); err != nil {
			continue
		}
		if rel, err := filepath.Rel(root, real); err != nil || !filepath.IsLocal(rel) {
			continue
		}
		st, err := os.Stat(real)
		if err != nil {
			return not()
		}
		if !st.Mode().IsRegular() {
			return "", nil, fault.Usage.New(op+" "+path, "is no file")
		}
		return real, st, nil
	}
	return not()
}
