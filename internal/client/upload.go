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
	answer, err := c.do(ctx, http.MethodPost, "/v1/uploads", h, nil, 0)
	if err != nil {
		return "", err
	}
	_ = answer.Body.Close()
	place := answer.Header.Get("Location")
	if i := strings.LastIndex(place, "/"); i < 0 || i == len(place)-1 {
		return "", fault.Internal.New(op+" /v1/uploads", "the answer has no Location")
	} else {
		id = place[i+1:]
	}
	place = "/v1/uploads/" + id
	for sent, failed := int64(0), 0; sent < st.Size(); {
		if progress != nil {
			progress(sent, st.Size())
		}
		next, err := c.patch(ctx, place, f, sent, min(piece, st.Size()-sent))
		if err == nil {
			sent, failed = next, 0
			continue
		}
		if failed++; failed > retries || Status(err) != 0 && Status(err) != http.StatusConflict || !pause(ctx, time.Duration(failed)*200*time.Millisecond) {
			return "", err
		}
		if next, err := c.offset(ctx, place); err == nil {
			sent = next
		}
	}
	if progress != nil {
		progress(st.Size(), st.Size())
	}
	return id, nil
}

func (c *Client) patch(ctx context.Context, place string, f io.ReaderAt, from, n int64) (int64, error) {
	h := tus.Clone()
	h.Set("Content-Type", "application/offset+octet-stream")
	h.Set("Upload-Offset", strconv.FormatInt(from, 10))
	answer, err := c.do(ctx, http.MethodPatch, place, h, io.NewSectionReader(f, from, n), n)
	if err != nil {
		return 0, err
	}
	return offsetOf(answer)
}

func (c *Client) offset(ctx context.Context, place string) (int64, error) {
	answer, err := c.do(ctx, http.MethodHead, place, tus.Clone(), nil, 0)
	if err != nil {
		return 0, err
	}
	return offsetOf(answer)
}

func offsetOf(answer *http.Response) (int64, error) {
	_ = answer.Body.Close()
	n, err := strconv.ParseInt(answer.Header.Get("Upload-Offset"), 10, 64)
	return n, fault.Internal.Wrap(op+" /v1/uploads", err)
}
