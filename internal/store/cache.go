package store

import (
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
)

// cacheLimit bounds the files of a cache that are not in use, in bytes.
const cacheLimit = 20 << 30

// Cache keeps objects of a store as files on this machine. Objects never change, so
// a file stays valid.
type Cache struct {
	dir   string
	limit int64 // see cacheLimit
	store *Store

	mu   sync.Mutex
	used map[string]*entry
}

type entry struct {
	mu    sync.Mutex // held while it is fetched
	users int
}

// NewCache returns a cache in a folder, which it creates if necessary.
func NewCache(dir string, s *Store) (*Cache, error) {
	err := os.MkdirAll(dir, 0o700)
	return &Cache{dir: dir, limit: cacheLimit, store: s, used: map[string]*entry{}}, fault.Output.Wrap("make the folder "+dir, fault.WithoutPath(err))
}

// name returns the name of an object's file. ffmpeg needs the extension to recognise
// files without a header.
func (c *Cache) name(object string) string {
	sum := sha256.Sum256([]byte(object))
	return hex.EncodeToString(sum[:16]) + filepath.Ext(object)
}

// Get returns a file with an object. The caller calls release when it no longer uses
// the file.
func (c *Cache) Get(ctx context.Context, object string) (path string, release func(), err error) {
	if path := c.store.Path(object); path != "" {
		_, err := c.store.Stat(ctx, object)
		return path, func() {}, err
	}
	name := c.name(object)
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
	if err := c.store.Fetch(ctx, object, path); err != nil {
		release()
		return "", nil, err
	}
	return path, release, nil
}

// Remove removes the file of an object that no longer exists.
func (c *Cache) Remove(object string) { _ = os.Remove(filepath.Join(c.dir, c.name(object))) }

// evict removes the oldest unused files until the rest fits the limit.
func (c *Cache) evict() {
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
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, st := range files {
		if total <= c.limit {
			return
		}
		if os.Remove(filepath.Join(c.dir, st.Name())) == nil {
			total -= st.Size()
		}
	}
}
