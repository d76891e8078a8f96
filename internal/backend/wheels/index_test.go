package wheels

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/archive"
	"github.com/lipstream/lipstream/internal/fault"
)

// TestInstallFromIndex downloads the wheel from an index, the second half after the first
// has been left by an interrupted installation.
func TestInstallFromIndex(t *testing.T) {
	data := makeWheel(t, goodWheel)
	stage(t, data)
	sum := table[0].Packages[0].files[thisPlatform].sha256
	var ranges []string
	mux := http.NewServeMux()
	mux.HandleFunc("/simple/stub/", func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept"), "json") {
			t.Errorf("asked for %s", r.Header.Get("Accept"))
		}
		fmt.Fprintf(w, `{"files":[{"filename":"other.whl","url":"../../other.whl","hashes":{"sha256":"00"}},
			{"filename":"../evil.whl","url":"../../files/stub.whl","hashes":{"sha256":%q}},
			{"filename":"stub-1.0.whl","url":"../../files/stub.whl","hashes":{"sha256":%[1]q}}]}`, sum)
	})
	mux.HandleFunc("/files/stub.whl", func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		w.Header().Set("ETag", `"one"`)
		http.ServeContent(w, r, "", time.Unix(1, 0), bytes.NewReader(data))
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	t.Setenv(IndexVariable, server.URL+"/simple/")

	dir, err := archive.Root()
	if err != nil {
		t.Fatal(err)
	}
	part := write(t, filepath.Join(dir, ".download-"+sum[:16]), data[:100], 0o600)
	write(t, part+".json", fmt.Appendf(nil, `{"url":"%s/files/stub.whl","size":%d,"validator":"\"one\""}`, server.URL, len(data)), 0o600)
	var last, total int64
	if _, err := Install(t.Context(), "stub", "", archive.Progress{Bytes: func(name string, done, all int64) {
		if name != "stub-1.0.whl" {
			t.Errorf("progress of %s", name)
		}
		last, total = done, all
	}}); err != nil {
		t.Fatal(err)
	}
	if n := int64(len(data)); last != n || total != n {
		t.Errorf("progress ended at %d of %d, want %d", last, total, n)
	}
	if len(ranges) != 1 || ranges[0] != "bytes=100-" {
		t.Errorf("ranges %q", ranges)
	}
	leftovers(t, "stub-1.0")
}

// TestIndexFails: an index without the file, or of another kind, is no obstacle if a client
// is installed.
func TestIndexFails(t *testing.T) {
	data := makeWheel(t, goodWheel)
	for name, answer := range map[string]string{"no file": `{"files":[]}`, "a page": "<html>", "nothing": ""} {
		t.Run(name, func(t *testing.T) {
			bin := stage(t, data)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if answer == "" {
					w.WriteHeader(http.StatusNotFound)
				}
				_, _ = w.Write([]byte(answer))
			}))
			defer server.Close()
			t.Setenv(IndexVariable, server.URL)
			_, err := Install(t.Context(), "stub", "", archive.Progress{})
			if fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), server.URL) || !strings.Contains(fault.HintOf(err), "--from FILE") {
				t.Errorf("without a client: %v, hint %q", err, fault.HintOf(err))
			}
			fakeClient(t, bin, "pip", write(t, filepath.Join(t.TempDir(), "x"), data, 0o600))
			if _, err := Install(t.Context(), "stub", "", archive.Progress{}); err != nil {
				t.Error(err)
			}
			leftovers(t, "stub-1.0")
		})
	}
}
