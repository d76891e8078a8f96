package models

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

func nan() float64 { return math.NaN() }

func TestPrepare(t *testing.T) {
	ownCache(t)
	dir := sharedSynth(t)
	for _, name := range []string{"latentsync_unet.pt", "vae/diffusion_pytorch_model.safetensors"} {
		for _, d := range []tensor.DType{tensor.F16, tensor.BF16, tensor.I8} {
			path := filepath.Join(dir, name)
			if _, ok := Prepared(t.Context(), path, d); ok {
				t.Error("prepared before it was")
			}
			last := int64(0)
			file, err := Prepare(t.Context(), path, d, func(done, total int64) {
				if done < last || done > total {
					t.Errorf("%d of %d after %d", done, total, last)
				}
				last = done
			})
			if err != nil {
				t.Fatal(err)
			}
			if name != "latentsync_unet.pt" && d == tensor.I8 {
				if f16, err := Prepare(t.Context(), path, tensor.F16, nil); err != nil || f16 != file {
					t.Errorf("int8 of the VAE is %q, its f16 %q, %v", file, f16, err)
				}
				continue
			}
			if got, ok := Prepared(t.Context(), path, d); !ok || got != file {
				t.Errorf("%q, %v", got, ok)
			}
			compare(t, path, file, d)
		}
	}
	_, err := Prepare(t.Context(), filepath.Join(dir, "whisper/tiny.pt"), tensor.F16, nil)
	wantFault(t, err, fault.Input, "it is whisper")
	_, err = Prepare(t.Context(), filepath.Join(dir, "none.pt"), tensor.F16, nil)
	wantFault(t, err, fault.Missing)
	_, err = Prepare(t.Context(), filepath.Join(dir, "latentsync_unet.pt"), tensor.I64, nil)
	wantFault(t, err, fault.Usage)
}

// compare checks every value of a converted file.
func compare(t *testing.T, path, file string, d tensor.DType) {
	t.Helper()
	a, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := checkpoint.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := detect(b); err != nil {
		t.Error(err)
	}
	bound := map[tensor.DType]float64{tensor.F16: 1.0 / 2048, tensor.BF16: 1.0 / 256, tensor.F32: 0}
	narrowed := 0
	for _, name := range a.Names() {
		x, y := a.Tensor(name), b.Tensor(name)
		if y == nil {
			t.Fatalf("%s is missing", name)
		}
		small := len(x.Shape) <= 1 || strings.HasSuffix(name, ".pe")
		if small != (y.DType == tensor.F32) || !small && y.DType != d {
			t.Errorf("%s %v is %v", name, x.Shape, y.DType)
		}
		if !small {
			narrowed++
		}
		u, v := x.F32(), y.ToF32().F32()
		if y.DType == tensor.I8 {
			scales := b.Tensor(name + checkpoint.ScaleSuffix)
			if scales == nil || scales.DType != tensor.F32 || scales.Len() != x.Shape[0] {
				t.Fatalf("%s has the scales %v", name, scales)
			}
			width := len(u) / x.Shape[0]
			for i, q := range v {
				row := u[i/width*width : (i/width+1)*width]
				scale := float64(scales.F32()[i/width])
				if scale != float64(tensor.Scale(row)) || math.Abs(float64(u[i])-scale*float64(q)) > 0.5001*scale {
					t.Fatalf("%s[%d]: %v became %v of %v", name, i, u[i], q, scale)
				}
			}
			continue
		}
		for i := range u {
			// Half a step of the type, and of its subnormals.
			if diff := math.Abs(float64(u[i] - v[i])); diff > bound[y.DType]*math.Abs(float64(u[i]))+1.0/(1<<25) {
				t.Fatalf("%s[%d]: %v became %v", name, i, u[i], v[i])
			}
		}
	}
	if narrowed == 0 {
		t.Error("nothing was converted")
	}
}

func TestPrepareValues(t *testing.T) {
	ownCache(t)
	unet := filepath.Join(sharedSynth(t), "latentsync_unet.pt")
	odd := filepath.Join(t.TempDir(), "odd.pt")
	wide := "down_blocks.0.resnets.0.conv1.weight"
	rewrite(t, unet, odd, func(name string, v []float32) {
		if name == wide {
			v[3] = 70000
		}
	})
	file, err := Prepare(t.Context(), odd, tensor.F16, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := checkpoint.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := f.Tensor(wide); got.DType != tensor.F32 || got.F32()[3] != 70000 {
		t.Errorf("%v", got.DType)
	}
	if got := f.Tensor("conv_in.weight"); got.DType != tensor.F16 {
		t.Errorf("%v", got.DType)
	}
	for _, bad := range []float64{math.NaN(), math.Inf(-1)} {
		rewrite(t, unet, odd, func(name string, v []float32) {
			if name == wide {
				v[3] = float32(bad)
			}
		})
		_, err = Prepare(t.Context(), odd, tensor.F16, nil)
		wantFault(t, err, fault.Input, wide, "not finite")
	}
}

func TestPrepareNoSpace(t *testing.T) {
	cache := ownCache(t)
	unet := filepath.Join(sharedSynth(t), "latentsync_unet.pt")
	empty := func() {
		t.Helper()
		left, err := filepath.Glob(filepath.Join(cache, "lipstream", "prepared", "*"))
		if runtime.GOOS == "linux" && (err != nil || len(left) > 0) {
			t.Errorf("left: %v, %v", left, err)
		}
	}
	_, err := PrepareWith(t.Context(), unet, tensor.F16, PrepareOptions{free: func(string) (int64, error) { return 1 << 20, nil }})
	wantFault(t, err, fault.Output, "1.0 MiB are free", "are needed", disk.CacheVariable())
	empty()
	_, err = PrepareWith(t.Context(), unet, tensor.F16, PrepareOptions{piece: 1 << 18, wrap: func(w io.Writer) io.Writer { return &filling{w, 1 << 20} }})
	wantFault(t, err, fault.Output, "no space left", disk.CacheVariable())
	empty()
}

// filling is a disk with room for left bytes.
type filling struct {
	w    io.Writer
	left int
}

func (f *filling) Write(b []byte) (int, error) {
	if len(b) > f.left {
		return 0, &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	}
	f.left -= len(b)
	return f.w.Write(b)
}

func TestPrepareCancelled(t *testing.T) {
	ownCache(t)
	unet := filepath.Join(sharedSynth(t), "latentsync_unet.pt")
	ctx, cancel := context.WithCancel(t.Context())
	pieces := 0
	_, err := PrepareWith(ctx, unet, tensor.F16, PrepareOptions{piece: 1, synced: func() {
		if pieces++; pieces == 100 {
			cancel()
		}
	}})
	wantFault(t, err, fault.Cancelled)
	resumed := false
	if _, err := PrepareWith(t.Context(), unet, tensor.F16, PrepareOptions{Notify: func(s string) { resumed = resumed || strings.HasPrefix(s, "resuming: 100 of 1244") }}); err != nil || !resumed {
		t.Errorf("%v, resumed %v", err, resumed)
	}
}

// killVariable makes the test binary a process that prepares a checkpoint and stops
// in the middle, to be killed.
const killVariable = "LIPSTREAM_TEST_PREPARE"

func TestMain(m *testing.M) {
	if path := os.Getenv(killVariable); path != "" {
		pieces := 0
		_, err := PrepareWith(context.Background(), path, tensor.F16, PrepareOptions{piece: 1 << 16, synced: func() {
			if pieces++; pieces == 40 {
				fmt.Println("middle")
				_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed
			}
		}})
		fmt.Println("not stopped:", err)
		os.Exit(1)
	}
	code := m.Run()
	if shared != "" {
		_ = os.RemoveAll(shared)
	}
	os.Exit(code)
}

// TestPrepareKilled kills a process in the middle of its work and damages what it
// left. The next run must write the same bytes as one without interruption.
func TestPrepareKilled(t *testing.T) {
	cache := ownCache(t)
	unet := filepath.Join(sharedSynth(t), "latentsync_unet.pt")
	file, err := Prepare(t.Context(), unet, tensor.F16, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := readFile(t, file)
	part := file + ".part"
	cases := []struct { // under go test -short the first only
		name   string
		damage func()
		resume bool
	}{
		{"as it was", func() {}, true},
		{"the end is lost", func() { truncate(t, part, 3*len(want)/10) }, true},
		{"a byte is wrong", func() { flip(t, part, len(want)/10) }, true},
		{"the header is wrong", func() { flip(t, part, 20) }, false},
		{"half a line of journal", func() { truncate(t, part+".journal", int(size(t, part+".journal"))-9) }, true},
		{"no journal", func() { _ = os.Remove(part + ".journal") }, false},
		{"the journal of another", func() { writeFile(t, part+".journal", `{"layout":"0"}`+"\n") }, false},
	}
	if testing.Short() {
		cases = cases[:1]
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			killInTheMiddle(t, unet)
			if size(t, part) == 0 || size(t, part+".journal") == 0 {
				t.Fatal("the killed process left nothing")
			}
			if _, err := os.Stat(file); err == nil {
				t.Fatal("half a file has its name")
			}
			tt.damage()
			resumed := ""
			if _, err := PrepareWith(t.Context(), unet, tensor.F16, PrepareOptions{Notify: func(s string) { resumed += s }}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(readFile(t, file), want) {
				t.Error("the result differs")
			}
			if strings.Contains(resumed, "resuming") != tt.resume {
				t.Errorf("said %q", resumed)
			}
			left, err := filepath.Glob(filepath.Join(cache, "lipstream", "prepared", "*"))
			if runtime.GOOS == "linux" && (err != nil || len(left) != 1) {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

func killInTheMiddle(t *testing.T, path string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), killVariable+"="+path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("middle"))
	_, err = io.ReadFull(out, line)
	if e := errors.Join(err, cmd.Process.Kill()); e != nil || string(line) != "middle" {
		t.Errorf("%q, %v", line, e)
	}
	_ = cmd.Wait() // killed
}

func truncate(t *testing.T, path string, n int) {
	t.Helper()
	if err := os.Truncate(path, int64(n)); err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, path string, at int) {
	t.Helper()
	b := readFile(t, path)
	b[at] ^= 4
	writeFile(t, path, string(b))
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// TestPrepareAlone: a second run waits for the first and takes its result.
func TestPrepareAlone(t *testing.T) {
	ownCache(t)
	unet := filepath.Join(sharedSynth(t), "latentsync_unet.pt")
	inside, waits := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		once := false
		_, err := PrepareWith(context.Background(), unet, tensor.F16, PrepareOptions{synced: func() {
			if !once {
				once = true
				close(inside)
				<-waits
			}
		}})
		first <- err
	}()
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	_, err := PrepareWith(ctx, unet, tensor.F16, PrepareOptions{Notify: func(string) { cancel() }})
	wantFault(t, err, fault.Cancelled)
	converted := false
	_, err = PrepareWith(t.Context(), unet, tensor.F16, PrepareOptions{
		Notify: func(s string) { close(waits) },
		synced: func() { converted = true },
	})
	if err != nil || converted {
		t.Errorf("%v, converted %v", err, converted)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
}
