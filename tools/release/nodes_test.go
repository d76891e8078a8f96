package main

import (
	"archive/zip"
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

	"github.com/lipstream/lipstream/comfyui"
)

// TestNodes installs the package of ComfyUI's nodes as ComfyUI-Manager does: it is
// unpacked, and install.py fetches the program of the release.
func TestNodes(t *testing.T) {
	t.Parallel()
	python, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output() // python3 may be a script
	if err != nil || runtime.GOOS == "windows" {
		t.Skip("this test needs python3, and a program that is a script")
	}
	const name, script = "lipstream-x", "#!/bin/sh\necho v1.2.3\n"
	archive, err := tarGz(name, []file{{"lipstream", 0o755, []byte(script)}}, moment)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1.2.3/"+name+".tar.gz" {
			_, _ = w.Write(archive)
		} else {
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	r := release{out: t.TempDir(), time: moment, nodes: comfyui.Binaries{URL: server.URL + "/v1.2.3/", Platforms: map[string]comfyui.Binary{
		runtime.GOOS + "/" + runtime.GOARCH: {
			Name: name + ".tar.gz", Size: int64(len(archive)), SHA256: fmt.Sprintf("%x", sha256.Sum256(archive)), Program: name + "/lipstream",
		},
	}}}
	if err := r.writeNodes(); err != nil {
		t.Fatal(err)
	}
	z, err := zip.OpenReader(filepath.Join(r.out, nodesName))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	custom := filepath.Join(t.TempDir(), "custom nodes")
	if err := os.CopyFS(custom, z); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), strings.TrimSpace(string(python)), "-B", "-s", "install.py")
	cmd.Dir = filepath.Join(custom, comfyui.Folder)
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+t.TempDir(), "PATH=/nowhere", "LIPSTREAM_BINARY=", "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	program := strings.TrimPrefix(lines[len(lines)-1], "lipstream: ")
	if b, err := os.ReadFile(program); err != nil || string(b) != script {
		t.Errorf("%v: %q\n%s", err, b, out)
	}
	if said, err := exec.Command(program).Output(); err != nil || string(said) != "v1.2.3\n" {
		t.Errorf("%v: %q", err, said)
	}
}
