package neural

import (
	"context"

	"github.com/lipstream/lipstream/internal/tensor"
)

// tiling divides a square of latents, and its image, into overlapping square tiles for
// the VAE. A call then takes only the memory of a tile.
//
// The result is not exact. The VAE's group norm and its attention see a tile instead of
// the image: each tile has its own mean and contrast, which shows as a shift of
// brightness and colour from tile to tile, and its borders are padded with zeros.
// Blending over the overlap turns steps into slopes but does not remove them. How large
// they are depends on the weights and the image.
type tiling struct {
	side, tile int   // of the whole and of a tile, in latents
	starts     []int // where the tiles begin, the same for rows and columns, ascending
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
// for images.
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

// each runs a network over the tiles of n squares, [channels, unit·side, unit·side], with
// batch tiles per call, and returns its joined outputs: for each square the channels
// of all outputs. put fills in square i. run takes (batch, channels, unit·tile,
// unit·tile) and returns outputs that are square too. The last call repeats the last tile
// to be full. each checks ctx before each call.
func (t tiling) each(ctx context.Context, n, batch, channels, unit int, put func(dst []float32, i int), run func(*tensor.Tensor) ([]*tensor.Tensor, error)) ([][]float32, error) {
	side, tile, count := unit*t.side, unit*t.tile, t.count()
	square := make([]float32, channels*side*side)
	results := make([][]float32, n)
	var m *mosaic
	for from := 0; from < n*count; from += batch {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		in := tensor.New(tensor.F32, batch, channels, tile, tile)
		for k := range batch {
			at := min(from+k, n*count-1)
			if at%count == 0 {
				put(square, at/count)
			}
			t.cut(batchItem(in, k), square, unit, at%count)
		}
		outputs, err := run(in)
		if err != nil {
			return nil, err
		}
		for k := range min(batch, n*count-from) {
			var values []float32
			for _, o := range outputs {
				values = append(values, batchItem(o, k)...)
			}
			i, at := (from+k)/count, (from+k)%count
			if count == 1 {
				results[i] = values
				continue
			}
			if at == 0 {
				length := outputs[0].Shape[2]
				m = t.mosaic(len(values)/(length*length), length/t.tile)
				results[i] = m.out
			}
			m.add(values, at)
		}
	}
	return results, nil
}

// batchItem returns the values of t that belong to item i of a batch.
func batchItem(t *tensor.Tensor, i int) []float32 {
	n := t.Len() / t.Shape[0]
	return t.F32()[i*n : (i+1)*n]
}
