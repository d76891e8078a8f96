package worker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/store"
)

// cache keeps objects of a store as files. Objects never change, so a file stays
// valid.
type cache struct {
	dir   string
	limit int64 // bytes of files that are not in use
	store store.Store

	mu   sync.Mutex
	used map[string]*entry
}

type entry struct {
	mu    sync.Mutex // held while it is fetched
	users int
}

// get returns a file with an object. The caller calls release when it no longer uses
// the file.
func (c *cache) get(ctx context.Context, object string) (path string, release func(), err error) {
	if path := c.store.Path(object); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", nil, fault.Input.Wrap("read object "+object, fault.WithoutPath(err), "upload it again")
		}
		return path, func() {}, nil
	}
	// ffmpeg needs the extension to recognise files without a header.
	sum := sha256.Sum256([]byte(object))
	name := hex.EncodeToString(sum[:16]) + filepath.Ext(object)
	c.mu.Lock()
	e := c.used[name]
	if e == nil {
		e = &entry{}
		c.used[name] = e
	}
	e.users++
	c.mu.Unlock()
	release = func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if e.users--; e.users == 0 {
			delete(c.used, name)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	path = filepath.Join(c.dir, name)
	if os.Chtimes(path, time.Now(), time.Now()) == nil { // it exists, and is now the youngest
		return path, release, nil
	}
	c.evict()
	if err := store.Fetch(ctx, c.store, object, path); err != nil {
		release()
		return "", nil, err
	}
	return path, release, nil
}

// evict removes the oldest unused files until the rest fits the limit.
func (c *cache) evict() {
	c.mu.Lock()
	defer c.mu.Unlock()
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	var files []fs.FileInfo
	var total int64
	for _, e := range entries {
		if st, err := e.Info(); err == nil && st.Mode().IsRegular() && c.used[e.Name()] == nil && e.Name()[0] != '.' {
			files, total = append(files, st), total+st.Size()
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return cmp.Compare(a.ModTime().UnixNano(), b.ModTime().UnixNano()) })
	for _, st := range files {
		if total <= c.limit {
			return
		}
		if os.Remove(filepath.Join(c.dir, st.Name())) == nil {
			total -= st.Size()
		}
	}
}
