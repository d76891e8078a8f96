package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
)

// TestInstallScript runs install.sh against a server with a release whose program is
// a script, in each shell that is installed.
func TestInstallScript(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip("install.sh is for Linux and macOS")
	}
	name := "lipstream-" + runtime.GOOS + "-" + runtime.GOARCH
	pack := func(program string) []byte {
		b, err := tarGz(name, []file{{"lipstream", 0o755, []byte("#!/bin/sh\n" + program + "\n")}}, moment)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good, broken := pack("echo v1.2.3"), pack("exit 1")
	list := func(b []byte) []byte { return fmt.Appendf(nil, "%x  %s.tar.gz\n", sha256.Sum256(b), name) }
	tests := []struct {
		name      string
		sums      []byte
		archive   []byte
		arguments []string // relative to the home folder
		installed string   // relative to the home folder; "" if nothing may be
		says      string
	}{
		{"home", list(good), good, nil, ".local/bin/lipstream", "lipstream v1.2.3\n"},
		{"folder", list(good), good, []string{"my programs"}, "my programs/lipstream", "lipstream v1.2.3\n"},
		{"damaged archive", list(good), good[:len(good)-1], nil, "", "the checksum of " + name},
		{"archive not listed", nil, good, nil, "", "SHA256SUMS does not have " + name},
		{"no archive", list(good), nil, nil, "", "cannot download"},
		{"program that does not run", list(broken), broken, nil, "", "does not run on this machine"},
	}
	for _, shell := range []string{"dash", "bash", "busybox"} {
		path, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		for _, tt := range tests {
			t.Run(shell+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				files := fstest.MapFS{"SHA256SUMS": {Data: tt.sums}}
				if tt.archive != nil {
					files[name+".tar.gz"] = &fstest.MapFile{Data: tt.archive}
				}
				server := httptest.NewServer(http.FileServerFS(files))
				defer server.Close()
				home := t.TempDir()
				args := []string{filepath.Join("..", "..", "deploy", "install.sh")}
				if shell == "busybox" {
					args = append([]string{"sh"}, args...)
				}
				for _, a := range tt.arguments {
					args = append(args, filepath.Join(home, a))
				}
				cmd := exec.CommandContext(t.Context(), path, args...)
				cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LIPSTREAM_RELEASE_URL=" + server.URL + "/"}
				said, err := cmd.CombinedOutput()
				if (err == nil) != (tt.installed != "") || !bytes.Contains(said, []byte(tt.says)) {
					t.Errorf("%v\n%s", err, said)
				}
				var found []string
				err = filepath.WalkDir(home, func(path string, d os.DirEntry, err error) error {
					if err == nil && !d.IsDir() {
						path, err = filepath.Rel(home, path)
						found = append(found, path)
					}
					return err
				})
				if got := strings.Join(found, " "); err != nil || got != tt.installed {
					t.Errorf("installed %q, want %q: %v", got, tt.installed, err)
				}
			})
		}
	}
}
