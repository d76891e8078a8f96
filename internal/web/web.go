// Package web is the page of lipstream serve.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

//go:generate go run ../../tools/page

//go:embed dist
var dist embed.FS

// Handler returns a handler for the files of the page. It answers 404 to other
// paths.
func Handler() (http.Handler, error) {
	type file struct {
		content   []byte
		kind, tag string
	}
	files := map[string]file{}
	err := fs.WalkDir(dist, "dist", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := dist.ReadFile(name)
		sum := sha256.Sum256(b)
		files["/"+strings.TrimPrefix(name, "dist/")] = file{b, mime.TypeByExtension(path.Ext(name)), strconv.Quote(hex.EncodeToString(sum[:8]))}
		return err
	})
	files["/"] = files["/index.html"]
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := files[r.URL.Path]
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "only GET and HEAD are allowed", http.StatusMethodNotAllowed)
			return
		}
		if !ok {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Type", f.kind)
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", f.tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
	}), err
}
