package wheels

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/download"
	"github.com/lipstream/lipstream/internal/fault"
)

// IndexVariable is pip's environment variable with the index of packages to use.
const IndexVariable = "PIP_INDEX_URL"

// defaultIndex is Python's package index.
const defaultIndex = "https://pypi.org/simple"

// maxIndex is the most that an index may send about a package, in bytes.
const maxIndex = 64 << 20

// Progress receives what an installation does.
type Progress struct {
	Say   func(line string)                    // a line for each step
	Bytes func(name string, done, total int64) // while a file is downloaded
}

func (p *Progress) defaults() {
	if p.Say == nil {
		p.Say = func(string) {}
	}
	if p.Bytes == nil {
		p.Bytes = func(string, int64, int64) {}
	}
}

// listing is the JSON form of the simple repository API (PEP 691), as far as it is needed.
type listing struct {
	Files []struct {
		Filename string            `json:"filename"`
		URL      string            `json:"url"`
		Hashes   map[string]string `json:"hashes"`
	} `json:"files"`
}

// locate finds the wheel in the index by its sum.
func locate(ctx context.Context, p Package, w wheel) (at *url.URL, name string, err error) {
	index := strings.TrimRight(cmp.Or(os.Getenv(IndexVariable), defaultIndex), "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, index+"/"+p.Project+"/", nil)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("User-Agent", "lipstream")
	req.Header.Set("Accept", "application/vnd.pypi.simple.v1+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("%s answers %s", req.URL.Redacted(), resp.Status)
	}
	var list listing
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxIndex)).Decode(&list); err != nil {
		return nil, "", fmt.Errorf("%s does not answer in JSON: %w", req.URL.Redacted(), err)
	}
	for _, f := range list.Files {
		if f.Hashes["sha256"] != w.sha256 || !filepath.IsLocal(f.Filename) || strings.ContainsAny(f.Filename, `/\`) {
			continue
		}
		ref, err := url.Parse(f.URL)
		if err != nil {
			return nil, "", err
		}
		if at = resp.Request.URL.ResolveReference(ref); at.Scheme == "https" || at.Scheme == "http" {
			return at, f.Filename, nil
		}
	}
	return nil, "", fmt.Errorf("%s does not have the file", req.URL.Redacted())
}

// fetch downloads the wheel into dir, and returns its path. What it has received stays in
// the folder of the installations if it is interrupted, and is resumed the next time.
func fetch(ctx context.Context, p Package, w wheel, dir string, progress Progress) (path string, err error) {
	at, name, err := locate(ctx, p, w)
	if err != nil {
		return "", err
	}
	parent, err := root()
	if err != nil {
		return "", err
	}
	part := filepath.Join(parent, ".download-"+w.sha256[:16])
	lock, err := disk.WaitLock(ctx, part+".lock", func() { progress.Say("waiting for another process that is downloading " + p.Project) })
	if err != nil {
		return "", fault.Output.Wrap("lock "+part, err)
	}
	defer func() { _ = lock.Remove() }()
	f := &download.File{
		URL: at, Name: name, Size: w.size, Part: part,
		WriteFault: func(err error) error { return fault.Output.Wrap("write "+part, err, "free some disk space") },
		Progress:   progress.Bytes, Notify: progress.Say,
	}
	if err := f.Fetch(ctx); err != nil {
		return "", err
	}
	path = filepath.Join(dir, name)
	if err = os.MkdirAll(dir, 0o755); err == nil {
		err = os.Rename(part, path)
	}
	f.Discard() // also the state
	return path, fault.Output.Wrap("move "+part, err)
}
