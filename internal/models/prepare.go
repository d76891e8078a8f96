package models

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

const (
	opPrepare = "prepare"
	// layout is the version of the content of prepared files. Files of another one
	// are made again.
	layout = "1"
	// spare is how much space must stay free.
	spare = 16 << 20
)

// Keys of the metadata of prepared files.
const (
	metaLayout = "lipstream_prepared"
	metaSource = "source_sha256"
	metaDType  = "dtype"
)

// PrepareOptions configures PrepareWith. The zero value is valid.
type PrepareOptions struct {
	Force    bool                    // convert again
	Progress func(done, total int64) // bytes of input, read for the sum and for converting
	Notify   func(text string)       // called with a line when it waits or resumes

	// For tests.
	free   func(dir string) (int64, error)
	synced func() // after every piece that a later run can resume from
	wrap   func(io.Writer) io.Writer
	piece  int64 // bytes between two of them
}

// Prepare converts a UNet or the VAE to tensor.F16, tensor.BF16 or tensor.I8; see
// PrepareWith.
func Prepare(ctx context.Context, path string, dtype tensor.DType, progress func(done, total int64)) (file string, err error) {
	return PrepareWith(ctx, path, dtype, PrepareOptions{Progress: progress})
}

// PrepareWith converts a UNet or the VAE to a safetensors file of half precision, or a UNet
// to int8, in the user's cache folder and returns its path. It keeps a file that already
// exists. Vectors (biases, norms), positional encodings and matrices with values beyond the
// type's range stay float32. An int8 tensor has a scale for each output channel, see
// checkpoint.ScaleSuffix. Of the VAE, whose errors would show in each pixel, tensor.I8 makes
// the file in f16. The result only depends on the checkpoint's content and
// the type.
//
// PrepareWith uses a few megabytes of memory beside the mapped checkpoint, of which it
// holds one tensor at a time. It resumes a killed run, as far as its files are intact.
// Only one process converts a checkpoint at a time; others wait for it.
//
// Errors are of kind Missing without the checkpoint, Input if it is damaged or contains
// NaN or another network, Output if the result cannot be written, and Cancelled when
// ctx ends.
func PrepareWith(ctx context.Context, path string, dtype tensor.DType, o PrepareOptions) (file string, err error) {
	if dtype != tensor.F16 && dtype != tensor.BF16 && dtype != tensor.I8 {
		return "", fault.Field("dtype", dtype.String(), "is not a type that checkpoints are converted to", "choose f16, bf16 or int8")
	}
	o.defaults()
	src, err := checkpoint.Open(path)
	if err != nil {
		return "", err
	}
	defer src.Close()
	found, err := detect(src, UNet, MuseTalkUNet, VAE)
	if err != nil {
		return "", err
	}
	if found.kind == VAE && dtype == tensor.I8 {
		dtype = tensor.F16
	}
	p := &preparation{PrepareOptions: o, src: src, path: path, dtype: dtype}
	for _, name := range src.Names() {
		p.total += int64(len(src.Tensor(name).Data))
	}
	st, err := os.Stat(path)
	if err != nil {
		return "", readFault(path, err)
	}
	if sum, ok := quickSum(path, st); ok {
		p.sum = sum
	} else {
		convert := p.total
		p.total += st.Size()
		if p.sum, err = fileSum(ctx, path, func(done int64) { o.Progress(done, p.total) }); err != nil {
			return "", err
		}
		p.done = p.total - convert
	}
	if file, err = preparedFile(p.sum, dtype); err != nil {
		return "", err
	}
	p.out = partial{path: file, part: file + ".part", state: file + ".part.journal", folder: "set " + disk.CacheVariable() + " to another one",
		full: "free some space in the cache folder, or set " + disk.CacheVariable() + " to another one"}
	if !o.Force && ready(file, p.sum, dtype) {
		return file, nil
	}
	return file, p.run(ctx)
}

func (o *PrepareOptions) defaults() {
	if o.Progress == nil {
		o.Progress = func(done, total int64) {}
	}
	if o.Notify == nil {
		o.Notify = func(string) {}
	}
	if o.synced == nil {
		o.synced = func() {}
	}
	if o.wrap == nil {
		o.wrap = func(w io.Writer) io.Writer { return w }
	}
	o.piece = cmp.Or(o.piece, 64<<20)
}

// Prepared returns the path of the converted file of a checkpoint. ok is false if it does
// not exist or the checkpoint has changed since. It reads no weights.
func Prepared(_ context.Context, path string, dtype tensor.DType) (file string, ok bool) {
	st, err := os.Stat(path)
	if err != nil {
		return "", false
	}
	sum, ok := quickSum(path, st)
	if !ok {
		return "", false
	}
	file, err = preparedFile(sum, dtype)
	return file, err == nil && ready(file, sum, dtype)
}

// preparedFile returns the path of the converted file of the checkpoint with this
// SHA-256.
func preparedFile(sum string, dtype tensor.DType) (string, error) {
	dir, err := disk.UserDir("", "prepared")
	return filepath.Join(dir, sum+"-"+dtype.String()+".safetensors"), err
}

// ready reports whether a converted file exists and is complete: it only gets its name
// when it is, and a truncated file does not open.
func ready(file, sum string, dtype tensor.DType) bool {
	f, err := checkpoint.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	is := func(key, want string) bool { v, _ := f.Scalar(key); return v == want }
	return is(metaLayout, layout) && is(metaSource, sum) && is(metaDType, dtype.String())
}

// preparation is one conversion.
type preparation struct {
	PrepareOptions
	src         *checkpoint.File
	path        string // of the source
	sum         string // SHA-256 of the source
	dtype       tensor.DType
	out         partial
	done, total int64 // for Progress
}

// outputFault returns the error for a failed write of the result. If the disk is full,
// it removes the part file, which is useless without the rest.
func (p *preparation) outputFault(err error) error {
	if disk.IsFull(err) {
		p.out.discard()
	}
	return p.out.fault(err)
}

// run converts the checkpoint while it holds the lock.
func (p *preparation) run(ctx context.Context) error {
	unlock, err := p.out.lock(ctx, func() { p.Notify("waiting for another process that is preparing the same checkpoint") })
	if err != nil {
		return err
	}
	defer unlock()
	if p.Force {
		p.out.discard()
	} else if ready(p.out.path, p.sum, p.dtype) { // after waiting for another process
		return nil
	}
	err = p.convert(ctx, nil)
	if errors.Is(err, errTooWide) {
		// The header comes before the values and has the types. So find out which
		// tensors must stay float32, and start again.
		wide, e := p.overflowing(ctx)
		if e != nil {
			return e
		}
		p.out.discard()
		err = p.convert(ctx, wide)
	}
	if err != nil {
		return err
	}
	return p.out.commit()
}

// specs lists the tensors of the result: those of the source, with wide and small ones
// as float32.
func (p *preparation) specs(wide []string) []checkpoint.Spec {
	var specs []checkpoint.Spec
	for _, name := range p.src.Names() {
		shape := p.src.Tensor(name).Shape
		d := p.dtype
		if len(shape) <= 1 || isBuffer(name) || slices.Contains(wide, name) {
			d = tensor.F32
		}
		specs = append(specs, checkpoint.Spec{Name: name, DType: d, Shape: shape})
		if d == tensor.I8 {
			specs = append(specs, checkpoint.Spec{Name: name + checkpoint.ScaleSuffix, DType: tensor.F32, Shape: shape[:1]})
		}
	}
	return specs
}

// convert writes the part file, from where an earlier run ended, and verifies it. The
// tensors in wide stay float32, but the journal of an earlier run has priority. convert
// returns errTooWide if there are more such tensors.
func (p *preparation) convert(ctx context.Context, wide []string) error {
	head := journalHead{Layout: layout, Source: p.sum, DType: p.dtype.String(), Wide: wide}
	w, err := openPart(ctx, p, head)
	if err != nil {
		return err
	}
	defer w.close()
	specs := p.specs(w.head.Wide)
	need := int64(spare)
	for _, s := range specs {
		need += s.Size()
	}
	if err := enough(p.free, filepath.Dir(p.out.path), need-w.skip, p.out.path, " in the cache folder",
		p.out.full); err != nil {
		p.out.discard()
		return err
	}
	if w.skip > 0 {
		p.Notify(fmt.Sprintf("resuming: %d of %d tensors are done", max(0, len(w.done)-1), len(specs)))
	}
	meta := map[string]string{metaLayout: layout, metaSource: p.sum, metaDType: p.dtype.String()}
	buf := &buffers{}
	err = checkpoint.WriteSafetensors(w, meta, specs, func(i int, out io.Writer) error {
		return p.tensor(ctx, w, specs[i], out, buf)
	})
	if err == nil {
		err = w.finish(ctx)
	}
	if err == nil || errors.Is(err, errTooWide) {
		return err
	}
	if f, ok := errors.AsType[*fault.Error](err); ok { // of the source, or cancelled
		return f
	}
	return p.outputFault(err)
}

// tensor writes one tensor, or skips it if it is already written.
func (p *preparation) tensor(ctx context.Context, w *partWriter, s checkpoint.Spec, out io.Writer, buf *buffers) error {
	w.begin(s.Name)
	name, scales := s.Name, false
	src := p.src.Tensor(name)
	if src == nil {
		name, scales = strings.TrimSuffix(name, checkpoint.ScaleSuffix), true
		src = p.src.Tensor(name)
	}
	if w.pos < w.skip {
		for left := s.Size(); left > 0; left -= min(left, int64(len(buf.out))) {
			if _, err := out.Write(buf.out[:min(left, int64(len(buf.out)))]); err != nil {
				return err
			}
		}
	} else {
		write := func(b []byte) error {
			_, err := out.Write(b)
			return err
		}
		convert := func() error { return p.values(ctx, src, s.DType, buf, write) }
		if scales || s.DType == tensor.I8 {
			convert = func() error { return p.quantized(ctx, src, scales, buf, write) }
		}
		if err := convert(); err != nil {
			return err
		}
		p.src.Release(name)
	}
	if !scales {
		p.done += int64(len(src.Data))
	}
	p.Progress(p.done, p.total)
	return w.end()
}

// buffers hold one chunk of values.
type buffers struct {
	in  [1 << 18]float32
	out [1 << 20]byte
}

// errTooWide is returned when a value does not fit into the half precision type.
var errTooWide = errors.New("a value is beyond the range of half precision")

// values converts a tensor chunk by chunk. The bytes are valid until yield returns.
func (p *preparation) values(ctx context.Context, src *tensor.Tensor, to tensor.DType, buf *buffers, yield func([]byte) error) error {
	n, width := src.Len(), src.DType.Size()
	for at := 0; at < n; at += len(buf.in) {
		if err := ctx.Err(); err != nil {
			return fault.Cancelled.Wrap(opPrepare+" "+p.path, err)
		}
		count := min(len(buf.in), n-at)
		v := buf.in[:count]
		switch bytes := src.Data[at*width : (at+count)*width]; src.DType {
		case tensor.F32:
			v = src.F32()[at : at+count]
		case tensor.F16:
			tensor.F16ToF32(v, bytes)
		case tensor.BF16:
			tensor.BF16ToF32(v, bytes)
		case tensor.I32: // the original's VAE has a counter of its training
			v = (&tensor.Tensor{DType: src.DType, Shape: []int{count}, Data: bytes}).ToF32().F32()
		default:
			return fault.Input.New(opPrepare+" "+p.path, "it contains a tensor of type "+src.DType.String()+", which cannot be weights", "use another checkpoint")
		}
		if tensor.NotFinite(v) >= 0 {
			return p.badValues(ctx)
		}
		b, err := narrow(buf.out[:], v, to)
		if err != nil {
			return err
		}
		if err := yield(b); err != nil {
			return err
		}
	}
	return nil
}

// quantized converts the rows of a tensor to int8, or returns their scales.
func (p *preparation) quantized(ctx context.Context, src *tensor.Tensor, scales bool, buf *buffers, yield func([]byte) error) error {
	rows := src.Shape[0]
	size := len(src.Data) / max(rows, 1)
	for r := range rows {
		row := &tensor.Tensor{DType: src.DType, Shape: []int{src.Len() / rows}, Data: src.Data[r*size : (r+1)*size]}
		var scale float32
		each := func(do func(v []float32) error) error {
			return p.values(ctx, row, tensor.F32, buf, func(b []byte) error {
				return do((&tensor.Tensor{DType: tensor.F32, Shape: []int{len(b) / 4}, Data: b}).F32())
			})
		}
		err := each(func(v []float32) error {
			scale = max(scale, tensor.Scale(v))
			return nil
		})
		switch {
		case err != nil:
		case scales:
			err = yield(tensor.FromF32([]float32{scale}, 1).Data)
		default:
			err = each(func(v []float32) error {
				tensor.Quantize(buf.out[:], v, scale)
				return yield(buf.out[:len(v)])
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// badValues returns the error for NaN and infinities, with the first tensor that
// contains them.
func (p *preparation) badValues(ctx context.Context) error {
	if err := p.src.Finite(ctx, nil); err != nil {
		return err
	}
	return fault.Input.New(opPrepare+" "+p.path, "it changes while it is read", "run the same command again")
}

// overflowing lists the tensors with values beyond the range of the type.
func (p *preparation) overflowing(ctx context.Context) ([]string, error) {
	p.Notify("some values are beyond the range of " + p.dtype.String() + ": their tensors stay f32")
	var wide []string
	buf := &buffers{}
	for _, s := range p.specs(nil) {
		err := p.values(ctx, p.src.Tensor(s.Name), s.DType, buf, func([]byte) error { return nil })
		p.src.Release(s.Name)
		switch {
		case errors.Is(err, errTooWide):
			wide = append(wide, s.Name)
		case err != nil:
			return nil, err
		}
	}
	return wide, nil
}

// narrow converts finite values to the bytes of a type: f32 without copying, others in
// dst. It returns errTooWide if a value does not fit.
func narrow(dst []byte, v []float32, to tensor.DType) ([]byte, error) {
	overflows := 0
	switch to {
	case tensor.F16:
		overflows = tensor.F32ToF16(dst, v)
	case tensor.BF16:
		overflows = tensor.F32ToBF16(dst, v)
	default:
		return tensor.FromF32(v, len(v)).Data, nil
	}
	if overflows > 0 {
		return nil, errTooWide
	}
	return dst[:2*len(v)], nil
}

// isBuffer reports whether a tensor is computed by a formula and not trained: the
// positional encodings of the UNet's motion modules and of Whisper's encoder.
func isBuffer(name string) bool {
	return strings.HasSuffix(name, ".pos_encoder.pe") || isWhisperPosition(name)
}

// isWhisperPosition reports whether a tensor is the positional encoding of Whisper's encoder.
func isWhisperPosition(name string) bool {
	return name == "encoder.positional_embedding" || strings.HasSuffix(name, "encoder.embed_positions.weight")
}
