package models

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
)

const (
	opPull = "download"
	// HubURL is the default of PullOptions.BaseURL.
	HubURL = "https://huggingface.co"
)

// PullOptions configures Pull. The zero value is valid.
type PullOptions struct {
	BaseURL  string // http or https; "" is HubURL
	Token    string // sent to huggingface.co only
	Progress func(name string, done, total int64)
	Notify   func(text string) // called with a line for each step

	// For tests.
	files     []known
	transport http.RoundTripper
	free      func(dir string) (int64, error)
}

// Pull downloads a version ("1.6" or "1.5": its UNet, with Whisper and the VAE), or
// "whisper" or "vae" alone, into a models folder, and returns the paths of the files.
// It keeps files that already exist and are correct. It resumes interrupted downloads,
// also those of earlier calls: their .part files stay beside the file.
//
// Errors are of kind Usage for a wrong name or address, Missing if the server does not
// have the file, Input if it has another file, Output if the file cannot be written,
// and Cancelled when ctx ends.
func Pull(ctx context.Context, what, dir string, o PullOptions) (paths []string, err error) {
	o.defaults()
	base, err := url.Parse(strings.TrimRight(o.BaseURL, "/"))
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.RawQuery != "" || base.Fragment != "" {
		return nil, fault.Field("base_url", o.BaseURL, "is not an address to download from", "give an address such as "+HubURL)
	}
	var files []known
	for _, k := range o.files {
		isVersion := what == version15 || what == version16
		if k.part == what || isVersion && (k.part == "whisper" || k.part == "vae") {
			files = append(files, k)
		}
	}
	if len(files) == 0 || what == "" {
		return nil, fault.Usage.New(opPull+" "+what, "there is no checkpoint of this name", "choose one of 1.6, 1.5, vae, whisper")
	}
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	for _, k := range files {
		path := filepath.Join(dir, filepath.FromSlash(k.place))
		d := &download{PullOptions: o, known: k, url: base.JoinPath(k.repo, "resolve", "main", k.path), file: partial{
			path: path, part: path + ".part", state: path + ".part.json", folder: "set `dir` to another one",
			full: "free some space, then run the same command again: it resumes the download",
		}}
		if err := d.run(ctx); err != nil {
			return paths, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

func (o *PullOptions) defaults() {
	o.BaseURL = cmp.Or(o.BaseURL, HubURL)
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	if o.Notify == nil {
		o.Notify = func(string) {}
	}
	if o.files == nil {
		o.files = published
	}
}

// download is the download of one file.
type download struct {
	PullOptions
	known
	url  *url.URL
	file partial
}

func (d *download) fault(kind fault.Kind, cause, hint string) error {
	return kind.New(opPull+" "+d.url.Redacted(), cause, hint)
}

// partState describes the file that a part file is the beginning of.
type partState struct {
	URL       string `json:"url"`
	Size      int64  `json:"size"`
	Validator string `json:"validator"` // a strong ETag or a Last-Modified, for If-Range
}

// run downloads the file, unless it already exists.
func (d *download) run(ctx context.Context) error {
	if exists, err := d.exists(ctx); exists || err != nil {
		return err
	}
	unlock, err := d.file.lock(ctx, func() { d.Notify("waiting for another process that is downloading " + d.file.path) })
	if err != nil {
		return err
	}
	defer unlock()
	if exists, err := d.exists(ctx); exists || err != nil { // after waiting for another process
		return err
	}
	if err := d.checkSpace(); err != nil {
		return err
	}
	if err := d.fetch(ctx); err != nil {
		return err
	}
	d.Notify("checking " + filepath.Base(d.file.path))
	sum, err := hashFile(ctx, d.file.part, nil)
	if err != nil {
		return err
	}
	if sum != d.sha256 {
		d.file.discard()
		return d.fault(fault.Input, "its SHA-256 is "+sum+", and that of the published file is "+d.sha256,
			"run the same command again; if that does not help, the server has another file: set `base_url` to another server")
	}
	if err := d.file.commit(); err != nil {
		return err
	}
	return d.keepSum()
}

// keepSum stores the sum that was just verified.
func (d *download) keepSum() error {
	if st, err := os.Stat(d.file.path); err == nil {
		remember(d.file.path, st, d.sha256)
	}
	if d.kind == UNet {
		if err := writeSidecar(d.file.path, d.version, d.sha256); err != nil {
			return d.file.fault(err)
		}
	}
	return nil
}

// exists reports whether the file already exists. It fails if there is another file of
// the same name, because that may be the user's.
func (d *download) exists(ctx context.Context) (bool, error) {
	st, err := os.Stat(d.file.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, d.file.fault(err)
	}
	cause := fmt.Sprintf("another file has this name: it has %d bytes instead of %d", st.Size(), d.size)
	if st.Size() == d.size {
		sum, err := fileSum(ctx, d.file.path, nil)
		if err != nil {
			return false, err
		}
		if sum == d.sha256 {
			d.Notify(d.file.path + " already exists")
			return true, d.keepSum()
		}
		cause = "another file has this name: its SHA-256 is " + sum + " instead of " + d.sha256
	}
	return false, fault.Output.New("write "+d.file.path, cause, "move or delete it, then run the same command again")
}

// checkSpace fails if the file does not fit on the disk.
func (d *download) checkSpace() error {
	need := d.size + spare
	if st, err := os.Stat(d.file.part); err == nil {
		need -= min(st.Size(), d.size)
	}
	return enough(d.free, filepath.Dir(d.file.path), need, d.file.path, "", "free some space, or set `dir` to another folder")
}

const (
	attempts = 6           // connections in a row without a byte until a download fails
	stall    = time.Minute // without a byte until a connection is closed
	backoff  = time.Second // before the second attempt; doubles each time
)

// fetch completes the part file, with as many connections as necessary.
func (d *download) fetch(ctx context.Context) error {
	for failures := 0; ; {
		got, err := d.attempt(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fault.Cancelled.Wrap(opPull+" "+d.url.Redacted(), ctx.Err())
		}
		if _, final := errors.AsType[*fault.Error](err); final {
			return err
		}
		if failures++; got > 0 {
			failures = 1
		}
		if failures >= attempts {
			return fault.Missing.Wrap(opPull+" "+d.url.Redacted(), err, "check the connection, then run the same command again: it resumes the download")
		}
		wait := min(backoff<<(failures-1), 30*backoff)
		d.Notify(fmt.Sprintf("%s: %v; trying again", d.known.name, err))
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// client returns a client that follows redirects to http and https only, never from
// https to http, and sends the token to the hub only.
func (d *download) client() *http.Client {
	return &http.Client{Transport: d.transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		switch {
		case len(via) >= 10:
			return errors.New("more than 10 redirects")
		case req.URL.Scheme != "https" && (req.URL.Scheme != "http" || via[0].URL.Scheme == "https"):
			return d.fault(fault.Input, "it redirects to "+req.URL.Redacted()+", which is not safe", "set `base_url` to another server")
		}
		if req.URL.Scheme+"://"+req.URL.Host != HubURL {
			req.Header.Del("Authorization")
		}
		// The hub sends the sum of the file, the server to which it redirects does not.
		return d.checkLinked(req.Response)
	}}
}

// checkLinked compares the SHA-256 that the hub sends with the known one.
func (d *download) checkLinked(r *http.Response) error {
	if r == nil {
		return nil
	}
	sum := strings.Trim(strings.TrimPrefix(r.Header.Get("X-Linked-Etag"), "W/"), `"`)
	if isSum(sum) && !strings.EqualFold(sum, d.sha256) {
		return d.fault(fault.Input, "the server has a file with SHA-256 "+sum+", and that of the published file is "+d.sha256,
			"set `base_url` to another server, or use a newer Lipstream")
	}
	return nil
}

// offset returns the size of the part file, and the validator to resume it with.
func (d *download) offset() (int64, string) {
	var s partState
	if readJSON(d.file.state, &s) != nil || s.URL != d.url.Redacted() || s.Size != d.size || s.Validator == "" {
		return 0, ""
	}
	st, err := os.Stat(d.file.part)
	if err != nil || st.Size() > d.size {
		return 0, ""
	}
	return st.Size(), s.Validator
}

// attempt makes one connection, and returns how many bytes it has received. It is worth
// another attempt if the error is not a *fault.Error.
func (d *download) attempt(ctx context.Context) (got int64, err error) {
	offset, validator := d.offset()
	if offset == d.size {
		return 0, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(stall, func() { cancel(fmt.Errorf("nothing came for %v", stall)) })
	defer stalled.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url.String(), nil)
	if err != nil {
		return 0, fault.Usage.Wrap(opPull+" "+d.url.Redacted(), err)
	}
	req.Header.Set("User-Agent", "lipstream")
	req.Header.Set("Accept-Encoding", "identity")
	if d.Token != "" && d.url.Scheme+"://"+d.url.Host == HubURL {
		req.Header.Set("Authorization", "Bearer "+d.Token)
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		req.Header.Set("If-Range", validator)
	}
	resp, err := d.client().Do(req)
	if err != nil {
		if f, ok := errors.AsType[*fault.Error](err); ok {
			return 0, f
		}
		if u, ok := errors.AsType[*url.Error](err); ok { // it repeats the address
			err = u.Err
		}
		return 0, errors.Join(context.Cause(ctx), err)
	}
	defer resp.Body.Close()
	if offset, err = d.accept(resp, offset); err != nil {
		return 0, err
	}
	got, err = d.receive(resp, offset, func() { stalled.Reset(stall) })
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return got, err
}

// accept checks the head of a response, and returns at which offset of the file its
// body begins.
func (d *download) accept(resp *http.Response, offset int64) (int64, error) {
	switch resp.StatusCode {
	case http.StatusOK:
		offset = 0
	case http.StatusPartialContent:
		if !strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset)) {
			d.file.discard()
			return 0, fmt.Errorf("the server has sent another range: %s", resp.Header.Get("Content-Range"))
		}
	case http.StatusRequestedRangeNotSatisfiable:
		d.file.discard()
		return 0, errors.New("the file on the server is shorter than the part file")
	default:
		answer := "the server answers " + resp.Status
		switch code := resp.StatusCode; {
		case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
			return 0, errors.New(answer)
		case code == http.StatusUnauthorized, code == http.StatusForbidden:
			return 0, d.fault(fault.Missing, answer, "set HF_TOKEN to a token with access to it, or `base_url` to another server")
		case code == http.StatusNotFound, code == http.StatusGone:
			return 0, d.fault(fault.Missing, answer, "check `base_url`: the server must have the paths of huggingface.co")
		}
		return 0, d.fault(fault.Missing, answer, "set `base_url` to another server")
	}
	return offset, d.checkLinked(resp)
}

// receive writes a body to the part file, from offset on.
func (d *download) receive(resp *http.Response, offset int64, alive func()) (got int64, err error) {
	body := bufio.NewReaderSize(resp.Body, 256<<10)
	if offset == 0 {
		head, err := body.Peek(512)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, err
		}
		if what := notTheFile(head); what != "" {
			return 0, d.fault(fault.Input, "the server sends "+what+" instead of the file", "set `base_url` to another server")
		}
		if resp.ContentLength >= 0 && resp.ContentLength != d.size {
			return 0, d.fault(fault.Input, fmt.Sprintf("the file on the server has %d bytes, and the published one has %d", resp.ContentLength, d.size), "set `base_url` to another server")
		}
	}
	f, err := os.OpenFile(d.file.part, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, d.file.fault(err)
	}
	defer func() {
		if e := errors.Join(f.Sync(), f.Close()); e != nil && err == nil {
			err = d.file.fault(e)
		}
	}()
	if err = f.Truncate(offset); err == nil {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err == nil {
		err = writeJSON(d.file.state, partState{d.url.Redacted(), d.size, validator(resp.Header)})
	}
	if err != nil {
		return 0, d.file.fault(err)
	}
	buf := make([]byte, 256<<10)
	for {
		d.Progress(d.known.name, offset+got, d.size)
		n, err := body.Read(buf)
		if n > 0 {
			alive()
			if offset+got+int64(n) > d.size {
				d.file.discard()
				return got, d.fault(fault.Input, fmt.Sprintf("the server sends more than the %d bytes of the published file", d.size), "set `base_url` to another server")
			}
			if _, err := f.Write(buf[:n]); err != nil {
				return got, d.file.fault(err)
			}
			got += int64(n)
		}
		switch {
		case offset+got == d.size:
			d.Progress(d.known.name, d.size, d.size)
			return got, nil
		case errors.Is(err, io.EOF):
			return got, fmt.Errorf("the connection ended after %d of %d bytes", offset+got, d.size)
		case err != nil:
			return got, err
		}
	}
}

// validator returns the header by which a later request can resume the same file, or ""
// if there is none.
func validator(h http.Header) string {
	if e := h.Get("ETag"); e != "" && !strings.HasPrefix(e, "W/") {
		return e
	}
	return h.Get("Last-Modified")
}

// notTheFile describes a body that begins like a page or a pointer, else it returns "".
// JSON is allowed, because the file may be a configuration.
func notTheFile(head []byte) string {
	stray := checkpoint.Foreign(head)
	if stray == checkpoint.JSONText {
		return ""
	}
	return string(stray)
}
