package e2e_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lipstream/lipstream/internal/restorer/restorertest"
)

// writeNetworks implements "networks DIR", which writes restoration networks.
func writeNetworks(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: networks DIR")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	for name, network := range map[string][]byte{
		"green":      restorertest.Shift([3]float32{-0.3, 0.3, -0.3}, -1, -1),
		"random":     restorertest.Network(4, 128), // like GFPGAN
		"codeformer": restorertest.WithWeight(),
		"half":       restorertest.Half(true),
		"external":   restorertest.External("../secret"),
	} {
		ts.Check(os.WriteFile(filepath.Join(dir, name+".onnx"), network, 0o600))
	}
}

// checkFrames implements "frames A B FILTER same|changed", which compares the frames of two
// videos after a filter of ffmpeg, bit for bit. "Changed" means that every frame differs.
func checkFrames(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: frames A B FILTER same|changed")
	}
	read := func(name string) [][]byte {
		cmd := exec.Command("ffmpeg", "-v", "error", "-nostdin", "-i", "file:"+ts.MkAbs(name), "-an", "-vf", args[2], "-fps_mode", "passthrough", "-f", "framehash", "pipe:1")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			ts.Fatalf("%v: %s", err, stderr.String())
		}
		var hashes [][]byte
		for line := range bytes.Lines(out) {
			if i := bytes.LastIndexByte(line, ','); i >= 0 && line[0] != '#' {
				hashes = append(hashes, bytes.TrimSpace(line[i+1:]))
			}
		}
		return hashes
	}
	a, b := read(args[0]), read(args[1])
	if len(a) != len(b) || len(a) == 0 {
		ts.Fatalf("%d and %d frames", len(a), len(b))
	}
	for i := range a {
		if same := bytes.Equal(a[i], b[i]); same != (args[3] == "same") {
			ts.Fatalf("frame %d of %d is not %s", i, len(a), args[3])
		}
	}
}
