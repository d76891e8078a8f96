package latentsync

import (
	"context"
	"fmt"
	"slices"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// tiling divides a square of latents, and its image, into overlapping square tiles for
// the VAE. A call then takes only the memory of a tile.
//
// The result is not exact. The VAE's group norm and its attention see a tile
// instead of the picture: each tile has its own mean and contrast, which shows
// as a shift of brightness and colour from tile to tile, and its borders are
// padded with zeros. Blending over the overlap makes steps into slopes; it does
// not remove them. How large they are depends on the weights and the picture.
type tiling struct {
	side, tile int   // of the whole and of a tile, in latents
	starts     []int // of the tiles, the same for rows and columns, ascending
}

// newTiling divides side latents into the smallest number of evenly spaced tiles that
// overlap by at least overlap latents. If tile is 0 or at least side, there is one tile.
// An overlap of tile or more becomes tile-1.
func newTiling(side, tile, overlap int) tiling {
	if tile <= 0 || tile >= side {
		return tiling{side, side, []int{0}}
	}
	overlap = min(max(overlap, 0), tile-1)
	n := (side - overlap + tile - overlap - 1) / (tile - overlap) // rounded up, 2 or more
	t := tiling{side, tile, make([]int, n)}
	for i := range t.starts {
		t.starts[i] = i * (side - tile) / (n - 1)
	}
	return t
}

// count returns the number of tiles.
func (t tiling) count() int { return len(t.starts) * len(t.starts) }

// at returns the row and column of tile i, counted row by row.
func (t tiling) at(i int) (row, column int) { return i / len(t.starts), i % len(t.starts) }

// cut copies tile i out of src, [channels, unit·side, unit·side], into dst,
// [channels, unit·tile, unit·tile]. unit is 1 for latents and the VAE's factor
// for pictures.
func (t tiling) cut(dst, src []float32, unit, i int) {
	side, tile := unit*t.side, unit*t.tile
	row, column := t.at(i)
	y, x := unit*t.starts[row], unit*t.starts[column]
	for k := range len(dst) / tile {
		from := (k/tile*side+y+k%tile)*side + x
		copy(dst[k*tile:(k+1)*tile], src[from:from+tile])
	}
}

// weights returns the weights of the tiles of a row, [tile][unit·tile]. They rise and
// fall linearly over the overlaps, and at every pixel their sum is 1.
func (t tiling) weights(unit int) [][]float32 {
	length := unit * t.tile
	sums, all := make([]float64, unit*t.side), make([][]float64, len(t.starts))
	for i, start := range t.starts {
		all[i] = make([]float64, length)
		for k := range length {
			w := 1.0
			if i > 0 {
				w = min(w, (float64(k)+0.5)/float64(unit*(t.starts[i-1]+t.tile-start)))
			}
			if i+1 < len(t.starts) {
				w = min(w, (float64(length-k)-0.5)/float64(unit*(start+t.tile-t.starts[i+1])))
			}
			all[i][k] = w
			sums[unit*start+k] += w
		}
	}
	shares := make([][]float32, len(all))
	for i, start := range t.starts {
		shares[i] = make([]float32, length)
		for k, w := range all[i] {
			shares[i][k] = float32(w / sums[unit*start+k])
		}
	}
	return shares
}

// mosaic assembles an image or latents from tiles.
type mosaic struct {
	t       tiling
	unit    int
	out     []float32 // [channels, unit·side, unit·side]
	sum     []float32 // [unit·side, unit·side], the weights of what is in out
	weights [][]float32
}

func (t tiling) mosaic(channels, unit int) *mosaic {
	n := unit * t.side
	return &mosaic{t, unit, make([]float32, channels*n*n), make([]float32, n*n), t.weights(unit)}
}

// add blends tile i, [channels, unit·tile, unit·tile], in. Where tiles have equal values,
// the result is exactly that value.
func (m *mosaic) add(tile []float32, i int) {
	side, length := m.unit*m.t.side, m.unit*m.t.tile
	row, column := m.t.at(i)
	y, x := m.unit*m.t.starts[row], m.unit*m.t.starts[column]
	area, plane := len(m.sum), length*length
	for j, wy := range m.weights[row] {
		for k, wx := range m.weights[column] {
			at := (y+j)*side + x + k
			w := wy * wx
			m.sum[at] += w
			share := w / m.sum[at]
			for c := range len(m.out) / area {
				was := &m.out[c*area+at]
				*was += share * (tile[c*plane+j*length+k] - *was)
			}
		}
	}
}

// decodeTiled decodes latents, [channels, side, side], tile by tile. run decodes
// (1, channels, tile, tile) to (1, 3, f·tile, f·tile); its error is returned as
// it is. ctx is looked at before each tile. The result is [3, f·side, f·side].
func decodeTiled(ctx context.Context, run func(latents *tensor.Tensor) (*tensor.Tensor, error), latents []float32, channels int, t tiling) ([]float32, error) {
	return t.each(ctx, run, latents, channels, 1)
}

// encodeTiled encodes a picture, [3, factor·side, factor·side], tile by tile. run
// encodes (1, 3, factor·tile, factor·tile) to mean and logvar, both (1, Latent,
// tile, tile). The result is the mean, then the logvar: [2·Latent, side, side].
func encodeTiled(ctx context.Context, run func(image *tensor.Tensor) (mean, logvar *tensor.Tensor, err error), picture []float32, factor int, t tiling) ([]float32, error) {
	return t.each(ctx, func(image *tensor.Tensor) (*tensor.Tensor, error) {
		mean, logvar, err := run(image)
		if err != nil {
			return nil, err
		}
		both := slices.Concat(mean.F32(), logvar.F32())
		return tensor.FromF32(both, 1, len(both)/(t.tile*t.tile), t.tile, t.tile), nil
	}, picture, 3, factor)
}

// each runs over the tiles of in, [channels, unit·side, unit·side], and joins
// the results.
func (t tiling) each(ctx context.Context, run func(*tensor.Tensor) (*tensor.Tensor, error), in []float32, channels, unit int) ([]float32, error) {
	if want := channels * unit * t.side * unit * t.side; len(in) != want {
		return nil, fault.Internal.New("divide into tiles the face", fmt.Sprintf("%d values where there should be %d", len(in), want))
	}
	var m *mosaic
	for i := range t.count() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		tile := tensor.New(tensor.F32, 1, channels, unit*t.tile, unit*t.tile)
		t.cut(tile.F32(), in, unit, i)
		got, err := run(tile)
		if err != nil {
			return nil, err
		}
		if s := got.Shape; len(s) != 4 || s[0] != 1 || s[2] == 0 || s[2] != s[3] || s[2]%t.tile != 0 || m != nil && (s[2] != m.unit*t.tile || s[1]*len(m.sum) != len(m.out)) {
			return nil, fault.Internal.New("join tiles the face", fmt.Sprintf("the VAE gave a tile of shape %v for one of %v", s, tile.Shape))
		}
		if m == nil {
			m = t.mosaic(got.Shape[1], got.Shape[2]/t.tile)
		}
		m.add(got.F32(), i)
	}
	return m.out, nil
}
