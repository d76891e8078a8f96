package client

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

const (
	piece   = 8 << 20 // bytes of an upload in one request
	retries = 5
)

var tus = http.Header{"Tus-Resumable": {"1.0.0"}}

// Upload sends a file and returns its ID. After a broken connection it continues
// where the server stopped. It reports the bytes sent to progress, which may be nil.
func (c *Client) Upload(ctx context.Context, path string, progress func(sent, size int64)) (id string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fault.Input.Wrap("read "+path, fault.WithoutPath(err))
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return "", fault.Input.Wrap("read "+path, fault.WithoutPath(err))
	}
	if !st.Mode().IsRegular() {
		return "", fault.Input.New("read "+path, "it is not a regular file")
	}
	h := tus.Clone()
	h.Set("Upload-Length", strconv.FormatInt(st.Size(), 10))
	h.Set("Upload-Metadata", "filename "+base64.StdEncoding.EncodeToString([]byte(filepath.Base(path))))
	answer, err := c.do(ctx, http.MethodPost, "/v1/uploads", h, nil)
	if err != nil {
		return "", err
	}
	_ = answer.Body.Close()
	location := answer.Header.Get("Location")
	if id = location[strings.LastIndex(location, "/")+1:]; id == "" {
		return "", fault.Internal.New(op+" /v1/uploads", "the answer has no Location")
	}
	place := "/v1/uploads/" + id
	if progress == nil {
		progress = func(int64, int64) {}
	}
	for sent, failed := int64(0), 0; sent < st.Size(); {
		progress(sent, st.Size())
		h := tus.Clone()
		h.Set("Content-Type", "application/offset+octet-stream")
		h.Set("Upload-Offset", strconv.FormatInt(sent, 10))
		next, err := c.offset(ctx, http.MethodPatch, place, h, io.NewSectionReader(f, sent, min(piece, st.Size()-sent)))
		if err == nil {
			sent, failed = next, 0
			continue
		}
		if failed++; failed > retries || Status(err) != 0 && Status(err) != http.StatusConflict || !pause(ctx, time.Duration(failed)*200*time.Millisecond) {
			return "", err
		}
		if next, err := c.offset(ctx, http.MethodHead, place, tus, nil); err == nil {
			sent = next
		}
	}
	progress(st.Size(), st.Size())
	return id, nil
}

// offset sends a request about an upload and returns how many bytes the server has.
func (c *Client) offset(ctx context.Context, method, place string, h http.Header, body io.Reader) (int64, error) {
	answer, err := c.do(ctx, method, place, h, body)
	if err != nil {
		return 0, err
	}
	_ = answer.Body.Close()
	n, err := strconv.ParseInt(answer.Header.Get("Upload-Offset"), 10, 64)
	return n, fault.Internal.Wrap(op+" /v1/uploads", err)
}
