package models

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

// vaeConfig is vae/config.json as published, to check its sum in the table.
const vaeConfig = `{
  "_class_name": "AutoencoderKL",
  "_diffusers_version": "0.4.2",
  "act_fn": "silu",
  "block_out_channels": [
    128,
    256,
    512,
    512
  ],
  "down_block_types": [
    "DownEncoderBlock2D",
    "DownEncoderBlock2D",
    "DownEncoderBlock2D",
    "DownEncoderBlock2D"
  ],
  "in_channels": 3,
  "latent_channels": 4,
  "layers_per_block": 2,
  "norm_num_groups": 32,
  "out_channels": 3,
  "sample_size": 256,
  "up_block_types": [
    "UpDecoderBlock2D",
    "UpDecoderBlock2D",
    "UpDecoderBlock2D",
    "UpDecoderBlock2D"
  ]
}
`

func TestVAEConfigSum(t *testing.T) {
	sum := sha256.Sum256([]byte(vaeConfig))
	if k := bySum(hex.EncodeToString(sum[:])); k == nil || k.path != "config.json" || k.size != int64(len(vaeConfig)) {
		t.Errorf("%x, %d bytes", sum, len(vaeConfig))
	}
}

// content is the file on the test's server, long enough for several breaks.
var content = bytes.Repeat([]byte("weights "), 100_000)

func fakeFile(data []byte) known {
	sum := sha256.Sum256(data)
	return known{name: "test UNet", kind: UNet, version: Version{Name: "1.6", Resolution: 512}, part: "1.6",
		repo: "ByteDance/LatentSync-1.6", path: "latentsync_unet.pt", place: "latentsync-1.6/latentsync_unet.pt",
		size: int64(len(data)), sha256: hex.EncodeToString(sum[:])}
}

// pullFrom pulls the fake file from a handler, without a network and without the
// real clock.
func pullFrom(t *testing.T, dir string, h http.HandlerFunc, change func(*PullOptions)) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o := PullOptions{BaseURL: "http://hub.test", files: []known{fakeFile(content)}, transport: inProcess{h}}
		if change != nil {
			change(&o)
		}
		_, err = Pull(t.Context(), "1.6", dir, o)
	})
	return err
}

// inProcess is a transport to a handler in this process.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	body, out := io.Pipe()
	context.AfterFunc(r.Context(), func() { _ = out.CloseWithError(context.Cause(r.Context())) })
	w := &answer{header: http.Header{}, out: out, head: make(chan *http.Response, 1), body: body, request: r}
	go func() {
		defer func() {
			if recover() != nil { // http.ErrAbortHandler
				_ = out.CloseWithError(io.ErrUnexpectedEOF)
			}
		}()
		p.ServeHTTP(w, r)
		w.WriteHeader(http.StatusOK)
		_ = out.Close()
	}()
	select {
	case resp := <-w.head:
		return resp, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// answer is the http.ResponseWriter of inProcess.
type answer struct {
	header  http.Header
	started bool
	out     *io.PipeWriter
	head    chan *http.Response
	body    *io.PipeReader
	request *http.Request
}

func (a *answer) Header() http.Header { return a.header }
func (a *answer) Flush()              {}

func (a *answer) WriteHeader(status int) {
	if a.started {
		return
	}
	a.started = true
	length, err := strconv.ParseInt(a.header.Get("Content-Length"), 10, 64)
	if err != nil {
		length = -1
	}
	a.head <- &http.Response{
		Status: fmt.Sprint(status, " ", http.StatusText(status)), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header, Body: a.body, ContentLength: length, Request: a.request,
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.out.Write(b)
}

// serve serves content with Range and an ETag.
func serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"one"`)
	http.ServeContent(w, r, "x.pt", time.Time{}, bytes.NewReader(content))
}

// breaking ends every answer after n bytes of its body.
func breaking(n int, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { h(&breaker{w, n}, r) }
}

type breaker struct {
	http.ResponseWriter
	left int
}

func (b *breaker) Write(p []byte) (int, error) {
	if len(p) < b.left {
		b.left -= len(p)
		return b.ResponseWriter.Write(p)
	}
	_, _ = b.ResponseWriter.Write(p[:b.left])
	b.ResponseWriter.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func pulled(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "latentsync-1.6", "latentsync_unet.pt")
	if !bytes.Equal(readFile(t, path), content) {
		t.Fatal("the file differs")
	}
	v, err := Identify(t.Context(), path)
	if err != nil || v.Name != "1.6" || v.Resolution != 512 {
		t.Errorf("%+v, %v", v, err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 2 { // and latentsync.json
		t.Errorf("%v, %v", left, err)
	}
}

func TestPullBreaks(t *testing.T) {
	ownCache(t)
	var ranges []string
	counted := func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		if r.URL.Path != "/ByteDance/LatentSync-1.6/resolve/main/latentsync_unet.pt" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		serve(w, r)
	}
	dir := t.TempDir()
	if err := pullFrom(t, dir, breaking(90_000, counted), nil); err != nil {
		t.Fatal(err)
	}
	pulled(t, dir)
	if len(ranges) < 8 || ranges[0] != "" || ranges[1] == "" {
		t.Errorf("ranges %q", ranges)
	}
	n := len(ranges)
	// The second time there is no request.
	if err := pullFrom(t, dir, counted, nil); err != nil || len(ranges) != n {
		t.Errorf("%v, ranges %q", err, ranges[n:])
	}
	// With the redirect of the hub, to a server without Range: from the start each time.
	dir = t.TempDir()
	first := true
	if err := pullFrom(t, dir, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/cdn" {
			w.Header().Set("X-Linked-Etag", `"`+fakeFile(content).sha256+`"`)
			http.Redirect(w, r, "/cdn", http.StatusFound)
			return
		}
		whole := func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			_, _ = w.Write(content)
		}
		if first {
			first = false
			whole = breaking(300_000, whole)
		}
		whole(w, r)
	}, nil); err != nil {
		t.Fatal(err)
	}
	pulled(t, dir)
	// The file on the server changed between two connections.
	dir = t.TempDir()
	part := filepath.Join(dir, "latentsync-1.6", "latentsync_unet.pt.part")
	err := pullFrom(t, dir, breaking(0, serve), nil)
	wantFault(t, err, fault.Missing, "run the same command again")
	writeFile(t, part, "old bytes")
	if err := pullFrom(t, dir, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"two"`)
		http.ServeContent(w, r, "x.pt", time.Time{}, bytes.NewReader(content))
	}, nil); err != nil {
		t.Fatal(err)
	}
	pulled(t, dir)
}

func TestPullRefused(t *testing.T) {
	ownCache(t)
	text := func(status int, s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(s)))
			w.WriteHeader(status)
			_, _ = w.Write([]byte(s))
		}
	}
	other := bytes.ToUpper(content)
	tests := []struct {
		name  string
		h     http.HandlerFunc
		kind  fault.Kind
		parts []string
	}{
		{"404", text(404, "none"), fault.Missing, []string{"404", "`base_url`"}},
		{"401", text(401, "no"), fault.Missing, []string{"401", "HF_TOKEN"}},
		{"500", text(500, "no"), fault.Missing, []string{"500", "run the same command again"}},
		{"page", text(200, " <!DOCTYPE html><html>"), fault.Input, []string{"an HTML page"}},
		{"pointer", text(200, "version https://git-lfs.github.com/spec/v1\n"), fault.Input, []string{"a Git LFS pointer"}},
		{"size", text(200, "weights"), fault.Input, []string{"has 7 bytes, and the published one has 800000"}},
		{"sum", text(200, string(other)), fault.Input, []string{fakeFile(content).sha256, fakeFile(other).sha256}},
		{"linked sum", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Linked-Etag", `"`+fakeFile(other).sha256+`"`)
			http.Redirect(w, r, "/cdn", http.StatusFound)
		}, fault.Input, []string{fakeFile(content).sha256, fakeFile(other).sha256}},
		{"scheme", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, fault.Input, []string{"not safe"}},
		{"loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, fault.Missing, []string{"redirects"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			err := pullFrom(t, dir, tt.h, func(o *PullOptions) { o.Token = "secret" })
			wantFault(t, err, tt.kind, tt.parts...)
			left, err := filepath.Glob(filepath.Join(dir, "*", "*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left %v, %v", left, err)
			}
		})
	}
	for _, bad := range []string{"ftp://x", "x", "http://", "https://x?y=1"} {
		_, err := Pull(t.Context(), "1.6", t.TempDir(), PullOptions{BaseURL: bad})
		wantFault(t, err, fault.Usage, bad)
	}
	_, err := Pull(t.Context(), "2.0", t.TempDir(), PullOptions{})
	wantFault(t, err, fault.Usage, "1.6, 1.5, musetalk, vae, whisper, taesd")
	err = pullFrom(t, t.TempDir(), serve, func(o *PullOptions) { o.free = func(string) (int64, error) { return 1000, nil } })
	wantFault(t, err, fault.Output, "1000 B are free")
	// The user's own file is not replaced.
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "latentsync-1.6", "latentsync_unet.pt"), "mine")
	err = pullFrom(t, dir, serve, nil)
	wantFault(t, err, fault.Output, "another file has this name")
}

// TestPullToken: only the hub gets the token.
func TestPullToken(t *testing.T) {
	ownCache(t)
	dir := t.TempDir()
	if err := pullFrom(t, dir, func(w http.ResponseWriter, r *http.Request) {
		if a := r.Header.Get("Authorization"); a != "" {
			t.Errorf("sent %q", a)
		}
		serve(w, r)
	}, func(o *PullOptions) { o.Token = "secret" }); err != nil {
		t.Fatal(err)
	}
	for base, want := range map[string]string{HubURL: "secret", "https://hub.example": ""} {
		d := &pull{PullOptions: PullOptions{Token: "secret"}, known: fakeFile(content), url: mustParse(t, base+"/x")}
		if got := d.remote().Token; got != want {
			t.Errorf("%s: token %q", base, got)
		}
	}
}

// stall is how long a connection may be silent.
const stall = time.Minute

// TestPullSlow: Pull waits for a slow server but not for a silent one, and resumes
// an interrupted download.
func TestPullSlow(t *testing.T) {
	ownCache(t)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		slow := func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"one"`)
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			for i := 0; i < len(content); i += 1000 {
				if _, err := w.Write(content[i : i+1000]); err != nil {
					return
				}
				time.Sleep(stall - time.Second)
			}
		}
		o := PullOptions{BaseURL: "http://hub.test", files: []known{fakeFile(content)}, transport: inProcess{http.HandlerFunc(slow)}}
		o.Progress = func(_ string, done, _ int64) {
			if done > 20_000 {
				cancel()
			}
		}
		o.Notify = func(s string) { t.Errorf("a slow download: %s", s) }
		_, err := Pull(ctx, "1.6", dir, o)
		wantFault(t, err, fault.Cancelled)
		part := filepath.Join(dir, "latentsync-1.6", "latentsync_unet.pt.part")
		if size(t, part) < 20_000 || time.Since(begin) < 10*stall {
			t.Errorf("%d bytes are left to resume from after %v", size(t, part), time.Since(begin))
		}
		// Next, one connection that goes silent.
		var spoken atomic.Bool
		said := ""
		o.Progress, o.Notify = nil, func(s string) { said += s }
		o.transport = inProcess{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.Header.Get("Range"), "bytes=") {
				t.Error("not resumed")
			}
			if !spoken.Swap(true) {
				<-r.Context().Done()
				return
			}
			serve(w, r)
		})}
		if _, err := Pull(t.Context(), "1.6", dir, o); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(said, "nothing came for 1m0s") {
			t.Errorf("said %q", said)
		}
	})
	pulled(t, dir)
}
