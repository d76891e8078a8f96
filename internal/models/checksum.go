package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
)

// remembered is the SHA-256 of a file as it was computed once. It is valid as long as
// size and time of the file do not change.
type remembered struct {
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	SHA256   string    `json:"sha256"`
}

// noteOf returns the file that stores the sum of path.
func noteOf(path string) (note string, err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	dir, err := disk.UserDir("", "checksums")
	key := sha256.Sum256([]byte(abs))
	return filepath.Join(dir, hex.EncodeToString(key[:16])+".json"), err
}

// recall returns the stored SHA-256 of a file, without reading the file.
func recall(path string, st fs.FileInfo) (sum string, ok bool) {
	var r remembered
	if note, err := noteOf(path); err != nil || readJSON(note, &r) != nil || r.Size != st.Size() || !r.Modified.Equal(st.ModTime()) {
		return "", false
	}
	return r.SHA256, isSum(r.SHA256)
}

// remember stores a sum. If that fails, it must be computed again.
func remember(path string, st fs.FileInfo, sum string) {
	if note, err := noteOf(path); err == nil {
		_ = writeJSON(note, remembered{st.Size(), st.ModTime(), sum})
	}
}

// fileSum returns the SHA-256 of a file, the stored one if it is valid. progress may be
// nil; it is called with the number of bytes read.
func fileSum(ctx context.Context, path string, progress func(done int64)) (string, error) {
	if st, err := os.Stat(path); err == nil {
		if sum, ok := recall(path, st); ok {
			return sum, nil
		}
	}
	return hashFile(ctx, path, progress)
}

// hashFile reads a file and returns its SHA-256, which it also stores.
func hashFile(ctx context.Context, path string, progress func(done int64)) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", readFault(path, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", readFault(path, err)
	}
	h := sha256.New()
	_, err = io.CopyBuffer(io.MultiWriter(h, &counter{progress: progress}), disk.Reader(ctx, f), make([]byte, 1<<20))
	if err != nil && ctx.Err() != nil {
		return "", fault.Cancelled.Wrap("check "+path, err)
	}
	if err != nil {
		return "", readFault(path, err)
	}
	sum := hex.EncodeToString(h.Sum(nil))
	if after, err := f.Stat(); err == nil && after.Size() == st.Size() && after.ModTime().Equal(st.ModTime()) {
		remember(path, st, sum)
	}
	return sum, nil
}

// counter counts the bytes that are written to it. progress may be nil.
type counter struct {
	done     int64
	progress func(done int64)
}

func (c *counter) Write(b []byte) (int, error) {
	if c.done += int64(len(b)); c.progress != nil {
		c.progress(c.done)
	}
	return len(b), nil
}

func readFault(path string, err error) error {
	kind, hint := fault.Input, "check that it is a file and that you have permission to read it"
	if errors.Is(err, fs.ErrNotExist) {
		kind, hint = fault.Missing, "check the path, or download the checkpoint"
	}
	return kind.Wrap("read "+path, fault.WithoutPath(err), hint)
}

// isSum reports whether s can be a SHA-256 in hexadecimal digits.
func isSum(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// writeJSON replaces a small file in one step. It makes the folder.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return disk.WriteFile(path, append(data, '\n'), 0o644)
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}
