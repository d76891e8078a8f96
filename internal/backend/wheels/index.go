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

	"github.com/lipstream/lipstream/internal/archive"
)

// IndexVariable is pip's environment variable with the index of packages to use.
const IndexVariable = "PIP_INDEX_URL"

// defaultIndex is Python's package index.
const defaultIndex = "https://pypi.org/simple"

// maxIndex is the most that an index may send about a package, in bytes.
const maxIndex = 64 << 20

// listing is the JSON form of the simple repository API (PEP 691), as far as it is needed.
type listing struct {
	Files []struct {
		Filename string            `json:"filename"`
		URL      string            `json:"url"`
		Hashes   map[string]string `json:"hashes"`
	} `json:"files"`
}

// locate finds the wheel in the index by its sum.
func locate(ctx context.Context, a archive.Archive) (at *url.URL, name string, err error) {
	index := strings.TrimRight(cmp.Or(os.Getenv(IndexVariable), defaultIndex), "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, index+"/"+a.Project+"/", nil)
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
		if f.Hashes["sha256"] != a.SHA256 || !filepath.IsLocal(f.Filename) || strings.ContainsAny(f.Filename, `/\`) {
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
