package neural

import (
	"slices"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
)

// crops maps faces to the square crops that the networks see, and generated images back
// into frames.
type crops interface {
	// Matrix returns the map from the frame to the crop. It cannot be inverted if the
	// face is not usable.
	Matrix(it lip.Item) frame.Affine
	// Crop returns the crop of a frame, R×R.
	Crop(src frame.Source, m frame.Affine) *frame.RGB
	// Pixels fills dst, [3, R, R], -1..1, with what the VAE encodes: the crop, or with
	// masked the crop without the region that is to be generated.
	Pixels(dst []float32, crop *frame.RGB, masked bool)
	// Rows returns which rows of a generated image its layer reads: from (inclusive) to to
	// (exclusive).
	Rows() (from, to int)
	// Layer returns a generated image, [3, R, R] in about -1..1, to be pasted into the
	// frame of the crop.
	Layer(it lip.Item, m frame.Affine, crop *frame.RGB, image []float32) lip.Layer
	// Reset forgets the faces so far, as at a cut.
	Reset()
}

// aligned implements crops as LatentSync does: it aligns eyes and nose with a template, and
// generates the region of one mask (docs/spec/latentsync.md, sections 3 and 7).
type aligned struct {
	aligner *face.Aligner
	mask    []float32                   // [R, R], 1 to keep, 0 to generate
	alpha   []float32                   // [R, R], opacity of the generated region with its feathered edge
	whole   bool                        // Options.Whole
	anchors func(lip.Item) face.Anchors // Options.Anchors
}

// feather is the width of the soft edge in template units.
const feather = 10

func newAligned(o Options) *aligned {
	r := o.Resolution
	return &aligned{aligner: face.NewAligner(r), mask: face.Mask(r), alpha: face.MaskAlpha(r, r, feather), whole: o.Whole, anchors: o.Anchors}
}

// Matrix returns the map from the frame to the aligner's crop, before it is stretched to R×R.
func (a *aligned) Matrix(it lip.Item) frame.Affine {
	anchors := func() face.Anchors {
		if a.anchors != nil {
			return a.anchors(it)
		}
		return face.AlignPoints468(it.Face.Points).Round()
	}
	if a.whole {
		return a.aligner.Matrix(anchors())
	}
	m := it.Face.Align
	if a.anchors != nil {
		m = face.TemplateAffine(anchors())
	}
	x, y := float64(a.aligner.CropW)/face.TemplateW, float64(a.aligner.CropH)/face.TemplateH
	return frame.Affine{A: m.A * x, B: m.B * x, C: m.C * x, D: m.D * y, E: m.E * y, F: m.F * y}
}

func (a *aligned) Crop(src frame.Source, m frame.Affine) *frame.RGB {
	return a.aligner.Crop(src, m)
}

func (a *aligned) Pixels(dst []float32, crop *frame.RGB, masked bool) {
	face.PixelValues(dst, crop)
	if masked {
		face.MaskedPixels(dst, dst, a.mask)
	}
}

// Rows returns the rows of the mask and, because Blend interpolates, one more on either side.
func (a *aligned) Rows() (from, to int) {
	r := a.aligner.Resolution
	if a.whole {
		return 0, r
	}
	opaque := func(v float32) bool { return v > 0 }
	from = slices.IndexFunc(a.alpha, opaque) / r
	for to = r; !slices.ContainsFunc(a.alpha[(to-1)*r:to*r], opaque); to-- {
	}
	return max(from-1, 0), min(to+1, r)
}

func (a *aligned) Layer(it lip.Item, m frame.Affine, crop *frame.RGB, image []float32) lip.Layer {
	return layer{a, it.Face, m, crop, image}
}

func (a *aligned) Reset() { a.aligner.Reset() }

// layer is a decoded image, to be pasted into the frame from which the crop was
// taken. It implements lip.Layer.
type layer struct {
	*aligned
	face   *face.Face
	matrix frame.Affine // from the frame to the crop
	crop   *frame.RGB
	image  []float32 // [3, R, R], -1..1
}

// Paste implements lip.Layer.
func (l layer) Paste(f *frame.Frame) lip.Region {
	r, m := l.aligner.Resolution, l.matrix
	if l.whole {
		p := l.aligner.Restore(f, l.aligner.Resize(l.composite(l.crop, l.image)), m)
		if p == nil {
			return lip.Region{}
		}
		return lip.Region{Face: l.face, W: p.W, H: p.H, Alpha: p.Alpha, Matrix: p.Matrix()}
	}
	src := frame.NewRGB(r, r)
	for i := range src.Pix {
		v := l.image[i%3*r*r+i/3]*127.5 + 128 // rounds
		src.Pix[i] = byte(min(max(v, 0), 255))
	}
	// The image is the crop stretched to r x r, with pixel centres at whole numbers.
	x, y := float64(r)/float64(l.aligner.CropW), float64(r)/float64(l.aligner.CropH)
	m = frame.Affine{
		A: m.A * x, B: m.B * x, C: (m.C+0.5)*x - 0.5,
		D: m.D * y, E: m.E * y, F: (m.F+0.5)*y - 0.5,
	}
	f.Blend(src, l.alpha, m)
	return lip.Region{Face: l.face, W: r, H: r, Alpha: l.alpha, Matrix: m}
}

// composite returns the image, [3, R, R], with the crop's own pixels outside the
// generated region (docs/spec/latentsync.md, section 7.1).
func (a *aligned) composite(crop *frame.RGB, image []float32) []float32 {
	out := make([]float32, len(image))
	face.PixelValues(out, crop)
	for i, v := range image {
		m := a.mask[i%len(a.mask)]
		out[i] = v*(1-m) + out[i]*m
	}
	return out
}
