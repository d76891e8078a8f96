package e2e_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	xcpu "golang.org/x/sys/cpu"

	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/tensor"
)

// condition adds conditions to those of testscript: backend:NAME is true if
// that runtime is installed or required, bf16 if the processor computes in
// bfloat16, long if LIPSTREAM_LONG is set, and display_rotation if ffmpeg has that option
// (since version 6; earlier ones take the metadata rotate).
func condition(name string) (bool, error) {
	switch name {
	case "bf16":
		return xcpu.X86.HasAVX512BF16 || xcpu.X86.HasAMXBF16, nil
	case "long":
		return os.Getenv(longVariable) != "", nil
	case "display_rotation":
		help, err := exec.Command("ffmpeg", "-v", "error", "-h", "full").Output()
		return bytes.Contains(help, []byte("-display_rotation")), err
	}
	backend, ok := strings.CutPrefix(name, "backend:")
	if !ok {
		return false, os.ErrInvalid
	}
	if os.Getenv(backendtest.RequireVariable) != "" {
		return true, nil
	}
	cmd := exec.Command(binary, "runtime", "path", backend)
	cmd.Env = append(os.Environ(), "LIPSTREAM_RUNTIME_DIR="+runtimeDir)
	return cmd.Run() == nil, nil
}

// checkPSNR implements "psnr A B above|below DECIBEL" and "psnr A B changed",
// which compare two videos of the same size and rate by their worst frame. The
// PSNR of equal frames is infinite.
func checkPSNR(ts *testscript.TestScript, neg bool, args []string) {
	changed := len(args) == 3 && args[2] == "changed"
	if neg || len(args) != 4 && !changed {
		ts.Fatalf("usage: psnr A B above|below DECIBEL, or psnr A B changed")
	}
	out, err := exec.Command("ffmpeg", "-v", "info", "-nostdin", "-i", "file:"+ts.MkAbs(args[0]), "-i", "file:"+ts.MkAbs(args[1]),
		"-lavfi", "[0:v][1:v]psnr", "-f", "null", "-").CombinedOutput()
	found := regexp.MustCompile(`PSNR .* min:(\S+)`).FindSubmatch(out)
	if err != nil || found == nil {
		ts.Fatalf("%v: %s", err, out)
	}
	got, err := strconv.ParseFloat(string(found[1]), 64) // knows inf
	ts.Check(err)
	ts.Logf("PSNR of the worst frame: %.1f dB", got)
	if changed {
		if math.IsInf(got, 1) {
			ts.Fatalf("the frames are the same")
		}
		return
	}
	limit, err := strconv.ParseFloat(args[3], 64)
	ts.Check(err)
	if (got > limit) != (args[2] == "above") {
		ts.Fatalf("%.1f dB, which is not %s %v", got, args[2], limit)
	}
}

// poisonFile implements "poison FILE TENSOR", which sets the first value of a
// tensor to NaN.
func poisonFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: poison FILE TENSOR")
	}
	path := ts.MkAbs(args[0])
	f, err := checkpoint.Open(path)
	ts.Check(err)
	t, at := f.Tensor(args[1]), f.Offset(args[1])
	if t == nil || t.DType != tensor.F32 {
		ts.Fatalf("no float32 tensor %s", args[1])
	}
	ts.Check(f.Close())
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	ts.Check(err)
	_, err = w.WriteAt([]byte{0, 0, 0xc0, 0x7f}, at)
	ts.Check(err)
	ts.Check(w.Close())
}

// evilFile implements "evil FILE", which writes a PyTorch file that would run a
// program when unpickled.
func evilFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: evil FILE")
	}
	ts.Check(writeEvil(ts.MkAbs(args[0])))
}

// writeEvil writes a PyTorch file that runs "touch pwned" when unpickled.
func writeEvil(path string) error {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, part := range [][2]string{
		{"archive/data.pkl", "\x80\x02cos\nsystem\n(X\x0b\x00\x00\x00touch pwnedtR."}, {"archive/version", "3\n"}, {"archive/byteorder", "little"},
	} {
		w, err := z.CreateHeader(&zip.FileHeader{Name: part[0], Method: zip.Store})
		if err != nil {
			return err
		}
		if _, err := w.Write([]byte(part[1])); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o600)
}

// writeSidecar implements "sidecar FILE VERSION RESOLUTION", which writes the
// description that a user may put beside a checkpoint.
func writeSidecar(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: sidecar FILE VERSION RESOLUTION")
	}
	path := ts.MkAbs(args[0])
	st, err := os.Stat(path)
	ts.Check(err)
	resolution, err := strconv.Atoi(args[2])
	ts.Check(err)
	data, err := json.Marshal(map[string]any{"version": args[1], "resolution": resolution, "size": st.Size()})
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(filepath.Dir(path), "latentsync.json"), data, 0o600))
}
