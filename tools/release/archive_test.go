package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	sample = []file{{"lipstream", 0o755, []byte("program")}, {"man/lipstream.1", 0o644, []byte("page")}, {"LICENSE", 0o644, nil}}
	want   = "a/LICENSE -rw-r--r-- \"\"; a/lipstream -rwxr-xr-x \"program\"; a/man/lipstream.1 -rw-r--r-- \"page\""
	moment = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
)

// TestArchives checks the files in both kinds of archives, and that neither the order
// of the files nor the time zone changes the bytes.
func TestArchives(t *testing.T) {
	reversed := slices.Clone(sample)
	slices.Reverse(reversed)
	for name, kind := range map[string]struct {
		pack func(string, []file, time.Time) ([]byte, error)
		list func([]byte) ([]string, error)
	}{"tar.gz": {tarGz, listTar}, "zip": {zipped, listZip}} {
		t.Run(name, func(t *testing.T) {
			first, err := kind.pack("a", sample, moment)
			if err != nil {
				t.Fatal(err)
			}
			second, err := kind.pack("a", reversed, moment.In(time.FixedZone("far", 3600)))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first, second) {
				t.Error("the bytes differ")
			}
			got, err := kind.list(first)
			if err != nil {
				t.Fatal(err)
			}
			if s := strings.Join(got, "; "); s != want {
				t.Errorf("the archive has\n%s, want\n%s", s, want)
			}
		})
	}
}

func listTar(b []byte) (list []string, err error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(t)
		if err != nil {
			return nil, err
		}
		list = append(list, fmt.Sprintf("%s %s %q", h.Name, h.FileInfo().Mode(), content))
		if !h.ModTime.Equal(moment) || h.Uid != 0 || h.Uname != "" {
			return nil, fmt.Errorf("%s: %v, user %d %s", h.Name, h.ModTime, h.Uid, h.Uname)
		}
	}
}

func listZip(b []byte) (list []string, err error) {
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		list = append(list, fmt.Sprintf("%s %s %q", f.Name, f.Mode(), content))
		if !f.Modified.Equal(moment) {
			return nil, fmt.Errorf("%s: %v", f.Name, f.Modified)
		}
	}
	return list, nil
}
