package neural

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/face/facetest"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/lip/liptest"
	"github.com/lipstream/lipstream/internal/musetalk"
)

// portrait returns the demo's picture at half its size, with its face as found by the
// mesh network.
func portrait(t testing.TB) (*frame.Frame, *face.Face) {
	t.Helper()
	rgb := facetest.Picture(t)
	f := frame.New(frame.Format{Width: rgb.W / 2, Height: rgb.H / 2, ShiftX: 1, ShiftY: 1, Depth: 8, Matrix: frame.BT709})
	opaque := make([]float32, rgb.W*rgb.H)
	for i := range opaque {
		opaque[i] = 1
	}
	f.Blend(rgb, opaque, frame.Affine{A: 2, C: 0.5, E: 2, F: 0.5})
	return f, facetest.Portrait(t, 2)
}

// quick returns Lipstream's own options with small values.
func quick(t testing.TB, b backend.Backend) Options {
	o := Defaults()
	o.Backend, o.Device, o.Files, o.Resolution, o.Steps, o.Plan.Frames, o.Overlap = b, cpu, tinyFiles, 128, 2, 3, 1
	o.Threads = 1
	o.RateNum, o.RateDen, o.Voice = 25, 1, voice(t, "speech.wav", 1)
	return o
}

// TestConformance checks the mask at 256 pixels, the lowest resolution of checkpoints. With
// fewer pixels its edge is coarser than the suite allows. The other checks use 128.
func TestConformance(t *testing.T) {
	picture, fc := portrait(t)
	onOne(t, func(t *testing.T, b *backendtest.Cached) {
		o := quick(t, b)
		o.Resolution, o.Plan.Frames, o.Steps, o.Guidance = 256, 2, 1, 1
		liptest.Run(t, liptest.Subject{Picture: picture, Face: fc, Open: func(t *testing.T) lip.Engine {
			o := o
			if !strings.HasSuffix(t.Name(), "mask") {
				o.Resolution = 128
			}
			return open(t, o)
		}})
	})
}

// shotOf returns frames from..to-1 of a face, whose front is moved down by nod.
func shotOf(picture *frame.Frame, fc *face.Face, from, to int64, nod float64) []lip.Item {
	moved := *fc
	moved.Points = append([]face.Point(nil), fc.Points...)
	for i, p := range moved.Points {
		if p.Z < 0 { // the front of the face
			moved.Points[i].Y += nod
		}
	}
	moved.Align = face.TemplateAffine(face.AlignPoints468(moved.Points))
	var items []lip.Item
	for i := from; i < to; i++ {
		f := frame.New(picture.Format)
		copy(f.Data, picture.Data)
		f.Index = i
		items = append(items, lip.Item{Frame: f, Face: &moved})
	}
	return items
}

func process(t testing.TB, e *Engine, items []lip.Item) {
	t.Helper()
	n := 0
	for _, it := range items {
		done, err := e.Push(t.Context(), it)
		if err != nil {
			t.Fatal(err)
		}
		finish(done)
		n += len(done)
	}
	done, err := e.Flush(t.Context())
	finish(done)
	if err != nil || n+len(done) != len(items) {
		t.Fatalf("%d of %d frames, %v", n+len(done), len(items), err)
	}
}

func finish(done []lip.Item) {
	for i := range done {
		done[i].Composite()
	}
}

// apart returns the largest difference between the luma of two shots, and the ratio in dB
// of its range to the difference.
func apart(a, b []lip.Item) (most int, ratio float64) {
	var x, y []float32
	for i := range a {
		for k, v := range a[i].Frame.Planes[0] {
			w := b[i].Frame.Planes[0][k]
			most = max(most, int(v)-int(w), int(w)-int(v))
			x, y = append(x, float32(v)), append(y, float32(w))
		}
	}
	return most, golden.Ratio(x, y)
}

// TestSeedsAndBackends checks that a seed always produces the same frames and another seed
// produces others, that backends in f32 differ by at most one level, and that bfloat16
// differs little.
func TestSeedsAndBackends(t *testing.T) {
	picture, fc := portrait(t)
	run := func(set func(*Options), b backend.Backend) ([]lip.Item, error) {
		o := quick(t, b)
		o.Sample, o.Plan.Frames = true, 4 // other tests compile windows of 4 as well
		set(&o)
		e, err := New(t.Context(), o)
		if err != nil {
			return nil, err
		}
		defer func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}()
		items := shotOf(picture, fc, 0, 5, 0)
		process(t, e, items)
		return items, nil
	}
	must := func(items []lip.Item, err error) []lip.Item {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return items
	}
	ort, ov := openBackend(t, "onnxruntime"), openBackend(t, openvino.Name)
	first := must(run(func(*Options) {}, ort))
	again := must(run(func(*Options) {}, ort))
	other := must(run(func(o *Options) { o.Seed++ }, ort))
	if most, _ := apart(first, again); most != 0 {
		t.Errorf("the same seed produces frames that differ by %d", most)
	}
	if most, _ := apart(first, other); most < 10 {
		t.Errorf("another seed produces frames that differ by %d", most)
	}
	most, ratio := apart(first, must(run(func(*Options) {}, ov)))
	t.Logf("backends: by at most %d levels, %.1f dB", most, ratio)
	if most > 1 {
		t.Errorf("backends differ by %d levels", most)
	}
	half, err := run(func(o *Options) { o.Plan.Precision = string(backend.BF16) }, ov)
	if fault.KindOf(err) == fault.Usage {
		t.Logf("this CPU cannot compute in bf16: %v", err)
		return
	}
	most, ratio = apart(must(half, err), first)
	t.Logf("bf16: by at most %d levels, %.1f dB", most, ratio)
	if ratio < 30 {
		t.Errorf("bf16 produces frames %g dB from those of f32", ratio)
	}
}

// TestShotStandsAlone checks that frames after a cut, a gap or a change of person do not
// depend on the frames before.
func TestShotStandsAlone(t *testing.T) {
	picture, fc := portrait(t)
	onOneEngine(t, func(t *testing.T, b *backendtest.Cached, job jobOptions) {
		o := job(t, b)
		if o.recipe == recipe(latentSync{}) {
			o = quick(t, b)
		}
		e, fresh := open(t, o), open(t, o)
		size, overlap := o.Plan.Frames, o.Overlap
		for _, whole := range []bool{true, false} {
			for _, e := range []*Engine{e, fresh} {
				switch e.o.Whole = whole; c := e.painter.crops.(type) {
				case *aligned:
					c.whole = whole
				case *musetalk.Crops:
					c.Original = whole
				}
			}
			alone := shotOf(picture, fc, 40, 43, 0)
			process(t, fresh, alone)
			for name, between := range map[string]func(before, after []lip.Item){
				"a cut":                 func(_, after []lip.Item) { after[0].Cut = true },
				"a frame without face":  func(before, _ []lip.Item) { before[len(before)-1].Face = nil },
				"a face without extent": func(before, _ []lip.Item) { before[len(before)-1].Face = &face.Face{Points: make([]face.Point, 478)} },
				"another person": func(_, after []lip.Item) {
					for i := range after {
						f := *after[i].Face
						f.Track = 7
						after[i].Face = &f
					}
				},
			} {
				// LatentSync keeps a state only with Whole, MuseTalk only without.
				if whole != (o.recipe == recipe(latentSync{})) && name != "a cut" {
					continue
				}
				before, after := shotOf(picture, fc, 30, 33, 12), shotOf(picture, fc, 40, 43, 0)
				between(before, after)
				process(t, e, append(before, after...))
				if most, _ := apart(after, alone); most != 0 {
					t.Errorf("whole %v: frames after %s differ by %d from those of the shot alone", whole, name, most)
				}
				if last := before[2]; last.Face == nil || last.Face.Score == 0 {
					if !bytes.Equal(last.Frame.Data, picture.Data) {
						t.Errorf("whole %v: %s was changed", whole, name)
					}
				}
			}
		}
		// Like the original, which does not detect cuts.
		e.o.IgnoreCuts = true
		items := shotOf(picture, fc, 0, 3, 0)
		items[1].Cut = true
		other := *fc
		other.Track = 9
		items[2].Face = &other
		for i, it := range items {
			done, err := e.Push(t.Context(), it)
			if want := map[int]int{size - 1: size - overlap}[i]; err != nil || len(done) != want {
				t.Errorf("with cuts ignored, frame %d returns %d, %v; want %d", i, len(done), err, want)
			}
		}
		if done, err := e.Flush(t.Context()); err != nil || len(done) != 1 {
			t.Errorf("with cuts ignored, Flush returns %d, %v", len(done), err)
		}
	})
}

// TestDamagedWeights checks that a network whose output is not a number ends the job before
// anything is painted.
func TestDamagedWeights(t *testing.T) {
	picture, fc := portrait(t)
	onOne(t, func(t *testing.T, b *backendtest.Cached) {
		for _, c := range []struct {
			tensor string
			file   func(*Options) *string
			want   string
		}{
			{"conv_out.bias", func(o *Options) *string { return &o.Files.UNet }, "denoise frame 0: the network returned NaN"},
			{"encoder.conv_in.bias", func(o *Options) *string { return &o.Files.VAE }, "encode the face: the network returned NaN"},
			{"decoder.conv_out.bias", func(o *Options) *string { return &o.Files.VAE }, "decode the face: the network returned NaN"},
			{"encoder.conv1.bias", func(o *Options) *string { return &o.Files.Whisper }, "listen with Whisper: the network returned NaN"},
		} {
			o := quick(t, b)
			o.Plan.Frames, o.Overlap, o.Steps = 1, 0, 1
			path := c.file(&o)
			*path = spoil(t, *path, c.tensor)
			e, it := open(t, o), shotOf(picture, fc, 0, 1, 0)[0]
			done, err := e.Push(t.Context(), it)
			if err == nil || err.Error() != c.want || !strings.Contains(fault.HintOf(err), "models check --deep") || len(done) > 0 {
				t.Errorf("%s: %d frames, %v, hint %q; want %s", c.tensor, len(done), err, fault.HintOf(err), c.want)
			}
			if !bytes.Equal(it.Frame.Data, picture.Data) {
				t.Errorf("%s: the frame was painted", c.tensor)
			}
		}
	})
}

// TestEngineIsCancelled checks that a job closes cleanly if it is cancelled within a window
// or before the networks are compiled.
func TestEngineIsCancelled(t *testing.T) {
	picture, fc := portrait(t)
	onOne(t, func(t *testing.T, b *backendtest.Cached) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		o := quick(t, b)
		o.Steps, o.Progress = 50, func(_ int64, step, _ int) {
			if cancel(); step > 1 {
				t.Errorf("step %d after the cancellation", step)
			}
		}
		e := open(t, o)
		var err error
		for _, it := range shotOf(picture, fc, 0, 4, 0) {
			if _, err = e.Push(ctx, it); err != nil {
				break
			}
		}
		if !errors.Is(err, context.Canceled) || fault.KindOf(err) != fault.Cancelled {
			t.Errorf("Push: %v", err)
		}
		if _, err := e.Flush(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Flush: %v", err)
		}
		if err := errors.Join(e.Close(), e.Close()); err != nil {
			t.Error(err)
		}
		if _, err := New(ctx, o); fault.KindOf(err) != fault.Cancelled {
			t.Errorf("New: %v", err)
		}
	})
}

func TestNames(t *testing.T) {
	for version, want := range map[string]string{"": "latentsync", "1.6": "latentsync 1.6"} {
		o := Defaults()
		o.Version = version
		e := &Engine{o: o, networks: newNetworks(o)}
		if e.Name() != want || e.Hold() != 15 {
			t.Errorf("%q, Hold %d", e.Name(), e.Hold())
		}
	}
}
