package models

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/download"
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

// Pull downloads the checkpoints of LatentSync ("1.6" or "1.5") or MuseTalk ("musetalk"): a
// UNet, with Whisper and the VAE. Or it downloads "whisper", "vae" or "taesd" alone. It
// puts them into a models folder, and returns the paths of the files.
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
		withOthers := what == version15 || what == version16 || what == engines[MuseTalk].pull
		if k.part == what || withOthers && (k.part == "whisper" || k.part == "vae") {
			files = append(files, k)
		}
	}
	if len(files) == 0 || what == "" {
		return nil, fault.Usage.New(opPull+" "+what, "there is no checkpoint of this name", "choose one of 1.6, 1.5, musetalk, vae, whisper, taesd")
	}
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	for _, k := range files {
		path := filepath.Join(dir, filepath.FromSlash(k.place))
		d := &pull{PullOptions: o, known: k, url: base.JoinPath(k.repo, "resolve", "main", k.path), file: partial{
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

// pull is the download of one file.
type pull struct {
	PullOptions
	known
	url  *url.URL
	file partial
}

func (d *pull) fault(kind fault.Kind, cause, hint string) error {
	return kind.New(opPull+" "+d.url.Redacted(), cause, hint)
}

// run downloads the file, unless it already exists.
func (d *pull) run(ctx context.Context) error {
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
	if err := d.remote().Fetch(ctx); err != nil {
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
func (d *pull) keepSum() error {
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
func (d *pull) exists(ctx context.Context) (bool, error) {
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
func (d *pull) checkSpace() error {
	need := d.size + spare
	if st, err := os.Stat(d.file.part); err == nil {
		need -= min(st.Size(), d.size)
	}
	return enough(d.free, filepath.Dir(d.file.path), need, d.file.path, "", "free some space, or set `dir` to another folder")
}

// remote returns the file on the server.
func (d *pull) remote() *download.File {
	f := &download.File{
		URL: d.url, Name: d.known.name, Size: d.size, Part: d.file.part,
		Check: d.checkLinked, Reject: notTheFile, WriteFault: d.file.fault,
		Hints: download.Hints{
			Elsewhere: elsewhere,
			Denied:    "set HF_TOKEN to a token with access to it, or `base_url` to another server",
			NotFound:  "check `base_url`: the server must have the paths of huggingface.co",
		},
		Progress: d.Progress, Notify: d.Notify, Transport: d.transport,
	}
	if d.url.Scheme+"://"+d.url.Host == HubURL {
		f.Token = d.Token
	}
	return f
}

// elsewhere is the hint for a server with another file.
const elsewhere = "set `base_url` to another server"

// checkLinked compares the SHA-256 that the hub sends with the known one. The server to
// which the hub redirects does not send it.
func (d *pull) checkLinked(r *http.Response) error {
	sum := strings.Trim(strings.TrimPrefix(r.Header.Get("X-Linked-Etag"), "W/"), `"`)
	if isSum(sum) && !strings.EqualFold(sum, d.sha256) {
		return d.fault(fault.Input, "the server has a file with SHA-256 "+sum+", and that of the published file is "+d.sha256,
			"set `base_url` to another server, or use a newer Lipstream")
	}
	return nil
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
