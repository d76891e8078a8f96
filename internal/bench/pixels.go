package bench

import (
	"math"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

// pixels compares the frames of a video with those of its source.
type pixels struct {
	depth   int
	masker  *masker
	outside area // of the mask, in frames with a face
	inside  area
	noFace  area // whole frames in which the source shows no usable face
}

// area adds up one part of all frames.
type area struct {
	total            ErrorSum
	worst, worstLuma float64 // PSNR of the worst frame, dB; NaN before the first
	frames           int
}

func newPixels(f frame.Format) pixels {
	fresh := area{worst: math.NaN(), worstLuma: math.NaN()}
	return pixels{depth: f.Depth, masker: newMasker(), outside: fresh, inside: fresh, noFace: fresh}
}

// compare adds one frame of the source, with the face as the job found it, and
// the same frame of the output.
func (p *pixels) compare(source face.Tracked, out *frame.Frame) {
	if source.Face == nil {
		whole, _ := Difference(source.Frame, out, nil)
		p.noFace.add(whole, p.depth)
		return
	}
	outside, inside := Difference(source.Frame, out, p.masker.mask(source.Frame.Format, source.Face.Align))
	p.outside.add(outside, p.depth)
	p.inside.add(inside, p.depth)
}

func (a *area) add(e ErrorSum, depth int) {
	if e.n[0] == 0 {
		return
	}
	a.frames++
	a.total.Add(e)
	if v := e.Luma(depth); !(v >= a.worstLuma) { // also when worstLuma is NaN
		a.worstLuma = v
	}
	if v := e.all(depth); !(v >= a.worst) {
		a.worst = v
	}
}

// figures returns the results of the comparison.
func (p *pixels) figures() []Figure {
	const at = "the goal is for an output at crf 12"
	out := []Figure{
		{Key: "outside_y_worst", Name: "PSNR outside the mask, luma, worst frame", Value: p.outside.worstLuma, Unit: Decibel, Min: new(minPSNR), Note: at},
		{Key: "outside_worst", Name: "PSNR outside the mask, all planes, worst frame", Value: p.outside.worst, Unit: Decibel, Min: new(minPSNR), Note: at},
		{Key: "outside_y", Name: "PSNR outside the mask, luma", Value: p.outside.total.Luma(p.depth), Unit: Decibel,
			Note: "over all frames; the mask is 2 pixels wider, because the encoder's deblocking filter reaches that far"},
		{Key: "outside", Name: "PSNR outside the mask, all planes", Value: p.outside.total.all(p.depth), Unit: Decibel},
		{Key: "inside_y", Name: "PSNR inside the mask, luma", Value: p.inside.total.Luma(p.depth), Unit: Decibel, Note: "where the engine changes the frame"},
	}
	if p.noFace.frames > 0 {
		out = append(out, Figure{Key: "no_face_worst", Name: "PSNR of frames without a face, worst", Value: p.noFace.worst, Unit: Decibel, Min: new(minPSNR), Note: at})
	}
	return out
}
