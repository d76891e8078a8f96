package network

import (
	"math"

	"github.com/lipstream/lipstream/internal/onnx"
)

// sliceTokens is the least number of queries in a block. The scores of 256 tokens and 8
// heads with as many keys take only 2 MB.
const sliceTokens = 256

// slices returns the number of blocks for nq queries: the largest number up to
// Target.Slices that divides them evenly into blocks of sliceTokens or more.
func (t Target) slices(nq int) int {
	for n := min(t.Slices, nq/sliceTokens); n > 1; n-- {
		if nq%n == 0 {
			return n
		}
	}
	return 1
}

// blocks applies f to n equal parts of x along an axis of the given size, and joins the
// results along the same axis.
func (b *builder) blocks(x onnx.Value, axis, size, n int, f func(onnx.Value) onnx.Value) onnx.Value {
	if n == 1 {
		return f(x)
	}
	parts := make([]onnx.Value, n)
	for i := range parts {
		from, to := int64(i*size/n), int64((i+1)*size/n)
		parts[i] = f(b.Op("Slice", []onnx.Value{x, b.Ints(from), b.Ints(to), b.Ints(int64(axis))}))
	}
	return b.Op("Concat", parts, onnx.Int("axis", int64(axis)))
}

// attention computes softmax(q·kᵀ/√d)·v for each sequence of the batch and each head. q is
// (batch·nq, c), k and v are (batch·nk, c). A batch of -1 is known only when the graph runs.
// It divides the queries into blocks, see Target.Slices.
func (b *builder) attention(q, k, v onnx.Value, batch, nq, nk, heads, c int) onnx.Value {
	d, n := c/heads, b.slices(nq)
	scale := float32(1 / math.Sqrt(float64(d)))
	if b.Dialect.microsoft() {
		if parts := parts(batch, maxSequences); parts > 1 {
			return b.attentions(q, k, v, parts, batch, nq, nk, heads, c)
		}
		k, v = b.reshape(k, batch, nk, c), b.reshape(v, batch, nk, c)
		y := b.blocks(b.reshape(q, batch, nq, c), 1, nq, n, func(q onnx.Value) onnx.Value {
			return b.OpIn(onnx.Microsoft, "MultiHeadAttention", []onnx.Value{q, k, v},
				onnx.Int("num_heads", int64(heads)), onnx.Float("scale", scale))
		})
		return b.reshape(y, -1, c)
	}
	q = b.transpose(b.reshape(q, batch, nq, heads, d), 0, 2, 1, 3)
	k = b.transpose(b.reshape(k, batch, nk, heads, d), 0, 2, 3, 1)
	v = b.transpose(b.reshape(v, batch, nk, heads, d), 0, 2, 1, 3)
	y := b.blocks(q, 2, nq, n, func(q onnx.Value) onnx.Value {
		scores := b.Op("MatMul", []onnx.Value{b.mul(q, b.constant([]float32{scale})), k})
		return b.Op("MatMul", []onnx.Value{b.Op("Softmax", []onnx.Value{scores}, onnx.Int("axis", -1)), v})
	})
	return b.reshape(b.transpose(y, 0, 2, 1, 3), -1, c)
}

// maxSequences is the largest number of sequences of an attention. ONNX Runtime's kernels
// for CUDA count them in the second or third dimension of a grid, which has at most 65,535
// (flash_fwd_launch_template.h).
const maxSequences = 65535

// parts returns the smallest number of equal parts of n of which none exceeds limit.
func parts(n, limit int) int {
	k := max(1, (n+limit-1)/limit)
	for n%k != 0 {
		k++
	}
	return k
}

// attentions computes the attention of equal parts of the sequences, one after the other.
func (b *builder) attentions(q, k, v onnx.Value, parts, batch, nq, nk, heads, c int) onnx.Value {
	part := batch / parts
	rows := func(x onnx.Value, i, n int) onnx.Value {
		return b.Op("Slice", []onnx.Value{x, b.Ints(int64(i * n)), b.Ints(int64((i + 1) * n)), b.Ints(0)})
	}
	list := make([]onnx.Value, parts)
	for i := range list {
		list[i] = b.attention(rows(q, i, part*nq), rows(k, i, part*nk), rows(v, i, part*nk), part, nq, nk, heads, c)
	}
	return b.Op("Concat", list, onnx.Int("axis", 0))
}
