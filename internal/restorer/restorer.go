// Package restorer runs a face restoration network that the user supplies on what an engine
// has generated. The network has GFPGAN's layout: it takes and returns a face of 512×512
// pixels that is aligned as in FFHQ, [1, 3, 512, 512], RGB from -1 to 1.
package restorer

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/tensor"
)

// side is the width and height of the network's images.
const side = 512

var shape = []int{1, 3, side, side}

// Work is the name of the restoration in reports and estimates.
const Work = "restoration"

// Options configures a Restorer.
type Options struct {
	Path     string  // of the network
	Strength float64 // of the result: 0 changes nothing, 1 shows only what the network returns
	Backend  backend.Backend
	Session  backend.Options
	// Level reports how short of memory the job is.
	Level func() memory.Level
}

// Restorer restores faces. Only Report may be called while another method runs.
type Restorer struct {
	o             Options
	session       backend.Session
	input, output string
	crop          *frame.RGB
	in            *tensor.Tensor

	mu   sync.Mutex // guards work
	work lip.Work
}

const layoutHint = "use a network with GFPGAN's layout: one image in and one out, both float32 [1, 3, 512, 512], RGB from -1 to 1"

// Open loads a network and tries it once. The error has the kind Input if the network is not
// one that can be used.
func Open(ctx context.Context, o Options) (r *Restorer, err error) {
	if err := Check(o.Path); err != nil {
		return nil, err
	}
	r = &Restorer{o: o, crop: frame.NewRGB(side, side), in: tensor.New(tensor.F32, shape...), work: lip.Work{Name: Work}}
	r.session, err = o.Backend.Load(ctx, backend.Model{Name: filepath.Base(o.Path), Path: o.Path}, o.Session)
	if err != nil {
		return nil, r.fail("load", err)
	}
	if err := r.try(ctx); err != nil {
		return nil, errors.Join(err, r.session.Close())
	}
	return r, nil
}

// fail adds what was done with the network to an error of a backend.
func (r *Restorer) fail(what string, err error) error {
	if err == nil {
		return nil
	}
	hint := "set `backend` to the other one (openvino, onnxruntime), or leave out `restore`"
	if h := fault.HintOf(err); h != "" {
		hint = h
	} else if fault.KindOf(err) == fault.Memory {
		hint = "raise `memory_limit`, or leave out `restore`"
	}
	return fault.KindOf(err).Wrap(what+" the restoration network "+r.o.Path, err, hint)
}

func (r *Restorer) refuse(cause string) error {
	return fault.Input.New("use the restoration network "+r.o.Path, cause, layoutHint)
}

// try checks the ports of the network and runs it on a grey image.
func (r *Restorer) try(ctx context.Context) error {
	in, out := r.session.Inputs(), r.session.Outputs()
	if len(in) != 1 || !usable(in[0]) {
		return r.refuse(fmt.Sprintf("its inputs are %s, but one input of f32 [1 3 512 512] is expected", backend.Ports(in)))
	}
	r.input = in[0].Name
	if !slices.ContainsFunc(out, usable) {
		return r.refuse(fmt.Sprintf("its outputs are %s, but one of f32 [1 3 512 512] is expected", backend.Ports(out)))
	}
	results, err := r.run(ctx)
	if err != nil {
		return err
	}
	// Networks that were exported with their auxiliary outputs return the image first.
	i := slices.IndexFunc(out, func(p backend.Port) bool {
		t := results[p.Name]
		return usable(p) && t != nil && slices.Equal(t.Shape, shape)
	})
	if i < 0 {
		var got []backend.Port
		for _, p := range out {
			if t := results[p.Name]; t != nil {
				got = append(got, backend.Port{Name: p.Name, DType: t.DType, Shape: t.Shape})
			}
		}
		return r.refuse(fmt.Sprintf("its outputs are %s, but one of f32 [1 3 512 512] is expected", backend.Ports(got)))
	}
	r.output = out[i].Name
	return r.finite(results[r.output].F32())
}

// usable reports whether a port, whose sizes may be free, takes the network's images.
func usable(p backend.Port) bool { return p.DType == tensor.F32 && p.Accepts(shape) }

func (r *Restorer) finite(v []float32) error {
	for _, x := range v {
		if math.IsNaN(float64(x)) {
			return r.refuse("it computes values that are not numbers")
		}
	}
	return nil
}

// run runs the network on r.in. If memory is short, it first returns what the session does
// not use.
func (r *Restorer) run(ctx context.Context) (map[string]*tensor.Tensor, error) {
	began := time.Now()
	if r.o.Level() > memory.Normal {
		r.session.Shrink()
	}
	in := map[string]*tensor.Tensor{r.input: r.in}
	out, err := r.session.Run(ctx, in)
	if fault.KindOf(err) == fault.Memory && ctx.Err() == nil {
		r.session.Shrink()
		out, err = r.session.Run(ctx, in)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.work.Calls++
	r.work.Busy += time.Since(began)
	r.work.Memory = max(r.work.Memory, r.session.Memory().Peak)
	return out, r.fail("run", err)
}

// Memory returns the most memory that the restoration takes, in bytes.
func (r *Restorer) Memory() int64 {
	const images = 4 * 3 * side * side * 4 // input, output, planes and what they are resized to
	return r.Report().Memory + images
}

// Report returns what the work took so far, with the trial.
func (r *Restorer) Report() lip.Work {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.work
}

// Close frees the network.
func (r *Restorer) Close() error { return r.session.Close() }

// Restore restores what was generated in a region of a frame: it runs the network on the whole
// face and blends the result in where the region is opaque.
func (r *Restorer) Restore(ctx context.Context, f *frame.Frame, region lip.Region) error {
	if region.Alpha == nil || r.o.Strength == 0 {
		return nil
	}
	box := region.Bounds(f.Width, f.Height)
	m, ok := align(region.Face.Points)
	inv, invertible := m.Invert()
	if !ok || !invertible || box.Empty() {
		return nil
	}
	f.Warp(r.crop, inv, frame.Constant, outside)
	in, n := r.in.F32(), side*side
	for i, v := range r.crop.Pix {
		in[i%3*n+i/3] = float32(v)/127.5 - 1
	}
	out, err := r.run(ctx)
	if err != nil {
		return err
	}
	restored := out[r.output].F32()
	if err := r.finite(restored); err != nil {
		return err
	}
	r.paste(f, region, box, restored, m, math.Hypot(inv.A, inv.D))
	return nil
}

// outside is the grey beyond the frame in the network's image: facexlib's is (135, 133, 132).
const outside = 133

// paste blends the image of the network into the box of the region. m maps the frame to the
// image, in which a pixel has this scale in the frame.
func (r *Restorer) paste(f *frame.Frame, region lip.Region, box image.Rectangle, restored []float32, m frame.Affine, scale float64) {
	// In a small face the image would alias. It stays finer than the frame, because it is
	// interpolated linearly.
	n := int(min(max(1.5*side*scale, 8), side))
	if n < side {
		restored = face.Bicubic(restored, 3, side, side, n, n, 0)
	}
	src := frame.NewRGB(n, n)
	for i := range src.Pix {
		src.Pix[i] = byte(min(max((restored[i%3*n*n+i/3]+1)*127.5+0.5, 0), 255))
	}
	k := float64(n) / side
	m = frame.Affine{A: m.A * k, B: m.B * k, C: (m.C+0.5)*k - 0.5, D: m.D * k, E: m.E * k, F: (m.F+0.5)*k - 0.5}
	// Strips begin on a row of chroma samples, so that they join without a seam.
	box.Min.X, box.Min.Y = box.Min.X&^1, box.Min.Y&^1
	const rows = 64
	strip, alpha := frame.NewRGB(box.Dx(), rows), make([]float32, rows*box.Dx())
	for y := box.Min.Y; y < box.Max.Y; y += rows {
		for i := range rows {
			row := alpha[i*strip.W : (i+1)*strip.W]
			if y+i >= box.Max.Y {
				clear(row)
				continue
			}
			region.Row(row, box.Min.X, y+i, float32(r.o.Strength))
		}
		src.Warp(strip, frame.Affine{A: m.A, B: m.B, C: m.A*float64(box.Min.X) + m.B*float64(y) + m.C, D: m.D, E: m.E, F: m.D*float64(box.Min.X) + m.E*float64(y) + m.F}, frame.Replicate, 0)
		f.Blend(strip, alpha, frame.Affine{A: 1, C: float64(-box.Min.X), E: 1, F: float64(-y)})
	}
}
