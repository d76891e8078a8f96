package bench

import "math"

// flicker measures how much the brightness of a face flickers: how far it changes from one
// frame to the next and back again, where no motion explains it. The frames are warped to the
// template, which takes the head's motion out, and smoothed over 5 x 5 pixels. A pixel counts by
// how much it is brighter than all pixels next to its place both in the frame before and in the
// frame after, or darker than all of them. So a steady motion does not count, nor does a shift
// by a pixel back and forth.
type flicker struct {
	track  int
	before [2][]float64      // the last frames of the track, smoothed
	frames [places][]float64 // root mean square of each frame, in levels of 0..255; NaN if not measured
}

func newFlicker() *flicker { return &flicker{track: -1} }

// skip adds a frame that cannot be measured.
func (k *flicker) skip() {
	k.track = -1
	for i := range k.frames {
		k.frames[i] = append(k.frames[i], math.NaN())
	}
}

// add adds a frame of a track. parts is from partsOf.
func (k *flicker) add(f *aligned, track int, parts []int) {
	if track != k.track {
		k.before = [2][]float64{}
	}
	k.skip()
	k.track = track
	now := f.smooth()
	if k.before[0] != nil {
		for i, v := range reversals(k.before[0], k.before[1], now, parts) {
			k.frames[i][len(k.frames[i])-2] = v
		}
	}
	k.before = [2][]float64{k.before[1], now}
}

// reversals returns, for each part, the root mean square of what of frame b is beyond both
// frame a before it and frame c after it.
func reversals(a, b, c []float64, parts []int) (out [places]float64) {
	var n [places]float64
	const step = cell / 2 // closer pixels have nearly the same means
	for y := step; y < height-step; y += step {
		for x := step; x < width-step; x += step {
			i := y*width + x
			if parts[i] >= places {
				continue
			}
			d, e := beyond(b[i], a, i), beyond(b[i], c, i)
			if math.IsNaN(d) || math.IsNaN(e) {
				continue
			}
			if n[parts[i]]++; d*e > 0 {
				d = min(math.Abs(d), math.Abs(e))
				out[parts[i]] += d * d
			}
		}
	}
	for i := range out {
		out[i] = math.Sqrt(out[i] / n[i])
	}
	return out
}

// beyond returns by how much v is above or below all of the nine values around i; NaN
// if v or one of them is unknown.
func beyond(v float64, values []float64, i int) float64 {
	low, high := values[i], values[i]
	for _, row := range [3]int{i - width, i, i + width} {
		for _, x := range values[row-1 : row+2] {
			low, high = min(low, x), max(high, x)
		}
	}
	return v - min(max(v, low), high)
}

// flickerAllowed is by how many levels the video may flicker more than its source, at the border
// of the mask and on the skin. Speech itself takes part of the latter. Brightening every second
// frame by 2 levels of 255 makes about 0.15 and 0.35, by 6 levels 1.6 and 3.
var flickerAllowed = [places]float64{atBorder: 0.25, onSkin: 0.5}

// flickerFigures returns the results for a video, and those of its source if there is one.
func flickerFigures(out, source *flicker) (figures []Figure) {
	for i, p := range [places]struct{ key, name, note string }{
		{"flicker_border", "flicker at the border of the mask", "brightness that changes and changes back, where no motion explains it; a level is 1/255"},
		{"flicker_skin", "flicker of the skin around the mouth", ""},
		{"flicker_mouth", "flicker of the mouth", "quick speech counts too"},
	} {
		f := Figure{Key: p.key, Name: p.name, Value: average(out.frames[i]), Unit: Levels, Note: p.note}
		figures = append(figures, f)
		if source == nil {
			continue
		}
		before := Figure{Key: p.key + "_source", Name: p.name + ", source", Value: average(source.frames[i]), Unit: Levels}
		if allowed := flickerAllowed[i]; allowed > 0 {
			figures[len(figures)-1].Max = new(before.Value + allowed)
		}
		if before.Value >= 0.01 {
			before.Note = Format(f.Value/before.Value, Times) + " in the video"
		}
		figures = append(figures, before)
	}
	return figures
}
