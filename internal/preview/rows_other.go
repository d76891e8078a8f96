//go:build !amd64

package preview

// fast is false: there are no faster functions for this processor.
const fast = false

func (p *patch) fastCubic([]float32, []bool, int, int, []float32, []float32) int { return 0 }

func fastLinear(_, _ []float32, _, _ *patch, _ []bool, _, _ int, _, _ []float32, _, _ int) int {
	return 0
}

func fastWiden([]float32, []byte, int) int { return 0 }

func fastPut([]byte, []float32, []bool, int) int { return 0 }

func (f *field) fastFill() {}

func (m *mask) fastFade(_, _ []float32, _, _, _, _ int, _ float32) int { return 0 }

func fastMoves([]bool, []float32, []float32, int) int { return 0 }

func fastMean(_, _ []float32) int { return 0 }
