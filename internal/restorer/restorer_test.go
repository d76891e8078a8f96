package restorer

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/sharedtest"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/face/facetest"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/lip/liptest"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/preview"
	"github.com/lipstream/lipstream/internal/restorer/restorertest"
	"github.com/lipstream/lipstream/internal/settings"
)

func TestMain(m *testing.M) { sharedtest.Main(m) }

var backends = []string{"openvino", "onnxruntime"}

func write(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "net.onnx")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func options(t *testing.T, b string, path string, strength float64) Options {
	return Options{Path: path, Strength: strength, Backend: sharedtest.Open(t, b).Backend, Session: backend.Options{Device: "cpu", Precision: backend.F32, Threads: 2},
		Level: func() memory.Level { return memory.Normal }}
}

func open(t *testing.T, b string, network []byte, strength float64) *Restorer {
	t.Helper()
	r, err := Open(t.Context(), options(t, b, write(t, network), strength))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// generated returns a copy of a frame, and the region of the preview in it.
func generated(f *frame.Frame, fc *face.Face) (*frame.Frame, lip.Region) {
	c := frame.New(f.Format)
	copy(c.Data, f.Data)
	alpha := face.MaskAlpha(face.TemplateW, face.TemplateH, 14)
	return c, lip.Region{Face: fc, W: face.TemplateW, H: face.TemplateH, Alpha: alpha, Matrix: fc.Align}
}

var formats = []frame.Format{
	{ShiftX: 1, ShiftY: 1, Depth: 8, Matrix: frame.BT709},
	{ShiftX: 1, Depth: 10, Matrix: frame.BT709},
	{Depth: 8, FullRange: true},
}

// sample returns a sample of a plane, on the scale of 8 bits.
func sample(f *frame.Frame, plane, x, y int) float64 {
	w, _ := f.PlaneSize(plane)
	if f.Depth > 8 {
		i := 2 * (y*w + x)
		return (float64(f.Planes[plane][i]) + 256*float64(f.Planes[plane][i+1])) / 4
	}
	return float64(f.Planes[plane][y*w+x])
}

// TestShift restores with a network that darkens: only the region changes, by as much as
// the network adds, its opacity and the strength say.
func TestShift(t *testing.T) {
	const add = -0.25 // of 2, so -32 of 255; a brighter skin would clip
	for _, b := range backends {
		network := restorertest.Shift([3]float32{add, add, add}, 1, side)
		whole, half := open(t, b, network, 1), open(t, b, network, 0.5)
		for _, format := range formats {
			t.Run(b+" "+format.PixFmt(), func(t *testing.T) {
				if testing.Short() && b != backends[0] {
					t.Skip("another backend")
				}
				f, fc := facetest.Frame(t, format)
				luma := -31.875 * 219 / 255.
				if format.FullRange {
					luma = -31.875
				}
				var means [2]float64
				for i, r := range []*Restorer{whole, half} {
					c, region := generated(f, fc)
					if err := r.Restore(t.Context(), c, region); err != nil {
						t.Fatal(err)
					}
					row := make([]float32, f.Width)
					var sum, n float64
					for y := range f.Height {
						region.Row(row, 0, y, 1)
						for x, a := range row {
							d := sample(c, 0, x, y) - sample(f, 0, x, y)
							if a == 0 && d != 0 {
								t.Fatalf("pixel %d,%d outside of the region changed by %g", x, y, d)
							}
							if a > 0.999 {
								sum, n = sum+d, n+1
							}
						}
					}
					if means[i] = sum / n; n < 1000 || math.Abs(means[i]-luma/float64(i+1)) > 0.5 {
						t.Errorf("%g opaque pixels changed by %.2f, want %.2f", n, means[i], luma/float64(i+1))
					}
				}
			})
		}
	}
}

// TestIdentity restores with a network that returns its image, which is only resampled, and
// with strength 0, which changes nothing. The sizes of the images may be open in the file.
func TestIdentity(t *testing.T) {
	f, fc := facetest.Frame(t, formats[0])
	for _, b := range backends {
		for name, size := range map[string][2]int{"fixed": {1, side}, "open batch": {-1, side}, "open": {-1, -1}} {
			t.Run(b+" "+name, func(t *testing.T) {
				if testing.Short() && name != "open" {
					t.Skip("another form of the same network")
				}
				c, region := generated(f, fc)
				if err := open(t, b, restorertest.Shift([3]float32{}, size[0], size[1]), 1).Restore(t.Context(), c, region); err != nil {
					t.Fatal(err)
				}
				var sum float64
				n := 0
				for i, v := range c.Planes[0] {
					if d := float64(v) - float64(f.Planes[0][i]); d != 0 {
						sum, n = sum+d*d, n+1
					}
				}
				if rms := math.Sqrt(sum / float64(max(n, 1))); n == 0 || rms > 4 {
					t.Errorf("%d pixels changed, by %.2f", n, rms)
				}
			})
		}
		c, region := generated(f, fc)
		if err := open(t, b, restorertest.Shift([3]float32{1, 1, 1}, 1, side), 0).Restore(t.Context(), c, region); err != nil || !bytes.Equal(c.Data, f.Data) {
			t.Errorf("%s: strength 0 changes the frame, error %v", b, err)
		}
	}
}

// TestUntouched checks that a frame stays as it is where nothing can be restored.
func TestUntouched(t *testing.T) {
	f, fc := facetest.Frame(t, formats[0])
	r := open(t, backends[0], restorertest.Shift([3]float32{1, 0, 0}, 1, side), 1)
	for name, change := range map[string]func(*lip.Region){
		"no region": func(r *lip.Region) { *r = lip.Region{} },
		"beyond":    func(r *lip.Region) { r.Matrix.C -= 1e5 },
		"flat":      func(r *lip.Region) { r.Matrix = frame.Affine{} },
		"a point":   func(r *lip.Region) { r.Face = &face.Face{Points: make([]face.Point, 478)} },
	} {
		c, region := generated(f, fc)
		change(&region)
		if err := r.Restore(t.Context(), c, region); err != nil || !bytes.Equal(c.Data, f.Data) {
			t.Errorf("%s: the frame changed, error %v", name, err)
		}
	}
}

// restored is the preview with a restoration, as an engine.
type restored struct {
	lip.Engine
	*Restorer
}

func (e restored) Push(ctx context.Context, it lip.Item) ([]lip.Item, error) {
	done, err := e.Engine.Push(ctx, it)
	for _, it := range done {
		for _, r := range it.Regions {
			err = errors.Join(err, e.Restore(ctx, it.Frame, r))
		}
	}
	return done, err
}

func (e restored) Report() lip.Report { return e.Engine.Report() }
func (e restored) Close() error       { return e.Engine.Close() }

// TestConformance holds a restoration to what is asked of every engine: nothing outside the
// mask of what was generated changes.
func TestConformance(t *testing.T) {
	for _, b := range backends {
		t.Run(b, func(t *testing.T) {
			if testing.Short() && b != backends[0] {
				t.Skip("another backend")
			}
			r := open(t, b, restorertest.Shift([3]float32{-0.5, 0.5, 0.25}, 1, side), 1)
			picture, fc := facetest.Frame(t, formats[0])
			liptest.Run(t, liptest.Subject{Picture: picture, Face: fc, Open: func(*testing.T) lip.Engine {
				return restored{preview.New(25, 0, liptest.Mouth), r}
			}})
		})
	}
}

// TestNetwork runs a network of GFPGAN's structure on both backends, which must agree.
func TestNetwork(t *testing.T) {
	f, fc := facetest.Frame(t, formats[0])
	network := restorertest.Network(8, 64)
	var frames []*frame.Frame
	for _, b := range backends {
		r := open(t, b, network, settings.DefaultStrength)
		c, region := generated(f, fc)
		if err := r.Restore(t.Context(), c, region); err != nil {
			t.Fatal(err)
		}
		if w := r.Report(); w.Calls != 2 || w.Busy <= 0 || w.Name != Work || r.Memory() < 10<<20 {
			t.Errorf("%s: %+v, memory %d", b, w, r.Memory())
		}
		if bytes.Equal(c.Data, f.Data) {
			t.Errorf("%s: nothing changed", b)
		}
		frames = append(frames, c)
	}
	for i, v := range frames[0].Data {
		if d := int(v) - int(frames[1].Data[i]); d < -1 || d > 1 {
			t.Fatalf("sample %d: %d with %s, %d with %s", i, v, backends[0], frames[1].Data[i], backends[1])
		}
	}
}

// TestAlign puts the five points where they are in FFHQ, at any place, size and rotation.
func TestAlign(t *testing.T) {
	for _, want := range []frame.Affine{
		{A: 1, E: 1}, {A: 0.5, B: -1, C: 30, D: 1, E: 0.5, F: -7}, {A: -3, C: 100, E: -3, F: 900},
	} {
		inv, _ := want.Invert()
		points := make([]face.Point, 478)
		for i, mesh := range landmarks {
			for _, k := range mesh {
				points[k].X, points[k].Y = inv.Apply(template[i][0], template[i][1])
			}
		}
		got, ok := align(points)
		for i, v := range []float64{got.A - want.A, got.B - want.B, got.C - want.C, got.D - want.D, got.E - want.E, got.F - want.F} {
			if !ok || math.Abs(v) > 1e-9 {
				t.Errorf("%+v: element %d of %+v is wrong", want, i, got)
			}
		}
	}
	// The portrait's own points come to lie near the template.
	_, fc := facetest.Frame(t, formats[0])
	m, _ := align(fc.Points)
	for i, mesh := range landmarks {
		var x, y float64
		for _, k := range mesh {
			x, y = x+fc.Points[k].X/float64(len(mesh)), y+fc.Points[k].Y/float64(len(mesh))
		}
		x, y = m.Apply(x, y)
		if d := math.Hypot(x-template[i][0], y-template[i][1]); d > 20 {
			t.Errorf("point %d is at %.0f,%.0f, %.0f pixels from where it is in FFHQ", i, x, y, d)
		}
	}
}

// TestBadNetworks opens files that cannot be used.
func TestBadNetworks(t *testing.T) {
	whole := restorertest.Shift([3]float32{}, 1, side)
	dir := t.TempDir()
	for _, b := range backends {
		for _, c := range []struct {
			name    string
			content []byte
			want    string
		}{
			{"text", []byte("this is not a network"), "it is not an ONNX model"},
			{"empty", nil, "it is not an ONNX model"},
			{"cut", whole[:len(whole)/2], "it is not an ONNX model, or it is damaged"},
			{"external weights", restorertest.External("../../secret"), "its weights are in another file"},
			{"CodeFormer", restorertest.WithWeight(), "its inputs are x f32 [1 3 512 512], w f32 [1], but one input of f32 [1 3 512 512] is expected"},
			{"small", restorertest.Shift([3]float32{}, 1, 256), "its inputs are input f32 [1 3 256 256], but"},
			{"batch of 2", restorertest.Shift([3]float32{}, 2, side), "its inputs are input f32 [2 3 512 512], but"},
			{"another output", restorertest.Half(false), "its outputs are output f32 [1 3 256 256], but one of f32 [1 3 512 512] is expected"},
			{"another output, seen only when it runs", restorertest.Half(true), "its outputs are output f32 [1 3 256 256], but one"},
			{"not numbers", restorertest.NaN(), "it computes values that are not numbers"},
		} {
			path := write(t, c.content)
			r, err := Open(t.Context(), options(t, b, path, 1))
			if err == nil {
				_ = r.Close()
			}
			if err == nil || fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) || fault.HintOf(err) == "" {
				t.Errorf("%s, %s: %v, hint %q", b, c.name, err, fault.HintOf(err))
			}
		}
	}
	for path, want := range map[string]string{filepath.Join(dir, "none.onnx"): "there is no such file", dir: "it is not a regular file"} {
		if err := Check(path); err == nil || fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	s := settings.Settings{Networks: settings.Networks{Models: dir, Restore: "gfpgan-1.4"}}
	if _, err := Find(s); fault.KindOf(err) != fault.Missing || !strings.Contains(fault.HintOf(err), "put gfpgan-1.4.onnx into") {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
	want := filepath.Join(dir, "restore", "other.onnx")
	if err := os.MkdirAll(filepath.Dir(want), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(want, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(s); fault.KindOf(err) != fault.Missing || !strings.Contains(fault.HintOf(err), "choose one of other,") {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
	for name, path := range map[string]string{"other": want, "a/other": "a/other", "other.onnx": "other.onnx", "../other": "../other"} {
		s.Restore = name
		if got, err := Find(s); err != nil || got != path {
			t.Errorf("%s: %s, error %v", name, got, err)
		}
	}
}

// TestShortOfMemory returns memory before each run while the job is short of it.
func TestShortOfMemory(t *testing.T) {
	r := open(t, "onnxruntime", restorertest.Shift([3]float32{}, 1, side), 1)
	s := &shrinking{Session: r.session}
	r.session = s
	f, fc := facetest.Frame(t, formats[0])
	var counts []int
	for _, level := range []memory.Level{memory.Normal, memory.Warning, memory.Critical} {
		r.o.Level = func() memory.Level { return level }
		c, region := generated(f, fc)
		if err := r.Restore(t.Context(), c, region); err != nil {
			t.Fatal(err)
		}
		counts = append(counts, s.shrunk)
	}
	if !slices.Equal(counts, []int{0, 1, 2}) {
		t.Errorf("the session was shrunk %v times", counts)
	}
}

// shrinking counts how often a session is shrunk.
type shrinking struct {
	backend.Session
	shrunk int
}

func (s *shrinking) Shrink() {
	s.shrunk++
	s.Session.Shrink()
}

// TestHints gives the hint of the backend, or else one that fits the kind of the error.
func TestHints(t *testing.T) {
	r := &Restorer{o: Options{Path: "x.onnx"}}
	for _, c := range []struct {
		err  error
		want string
	}{
		{fault.Memory.New("", "the device is full"), "raise `memory_limit`"},
		{fault.Internal.New("", "the operator Foo is not known"), "set `backend` to the other one"},
		{fault.Memory.New("", "the device is full", "close other programs"), "close other programs"},
	} {
		if err := r.fail("run", c.err); fault.KindOf(err) != fault.KindOf(c.err) || !strings.HasPrefix(fault.HintOf(err), c.want) {
			t.Errorf("%v, hint %q, want %q", err, fault.HintOf(err), c.want)
		}
	}
}
