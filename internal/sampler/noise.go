package sampler

import "math"

// Constants of Philox4x32-10 (Salmon et al., Parallel random numbers: as easy
// as 1, 2, 3).
const (
	philoxM0, philoxM1 = 0xD2511F53, 0xCD9E8D57
	philoxW0, philoxW1 = 0x9E3779B9, 0xBB67AE85
	philoxRounds       = 10
)

// philox returns the first two of the four random words at a counter.
func philox(key uint64, c0, c1, c2, c3 uint32) (uint32, uint32) {
	k0, k1 := uint32(key), uint32(key>>32)
	for range philoxRounds {
		a, b := uint64(philoxM0)*uint64(c0), uint64(philoxM1)*uint64(c2)
		c0, c1, c2, c3 = uint32(b>>32)^c1^k0, uint32(b), uint32(a>>32)^c3^k1, uint32(a)
		k0, k1 = k0+philoxW0, k1+philoxW1
	}
	return c0, c1
}

// Noise fills dst with the standard normal numbers first, first+1, … of a stream. They
// are the numbers that torch.randn computes on CUDA for the seed (docs/spec/latentsync.md,
// section 6.1). stream counts the tensors filled since seeding (the generator's
// offset / 4): 0 is the first one, the initial latents. This holds for tensors so small
// that each GPU thread computes one number, as all tensors of a checkpoint for 256 pixels
// are; for larger ones the original's numbers depend on the GPU.
//
// A number depends only on seed, stream and its index, so noise may be computed in any
// order and in pieces of any size. The last bit may differ between machines whose
// logarithms and sines differ. The original rounds the numbers to its weights' type.
func Noise(dst []float32, seed int64, stream uint32, first uint64) {
	for i := range dst {
		n := first + uint64(i)
		a, b := philox(uint64(seed), stream, 0, uint32(n), uint32(n>>32))
		dst[i] = normal(a, b)
	}
}

// normal returns the first output of the transform of Box and Muller. As in cuRAND, u and
// v are float32, which decides the digits of the logarithm near 1.
func normal(a, b uint32) float32 {
	const unit = 1.0 / (1 << 32)
	const turn = float32(2 * math.Pi * unit)
	u := float32(float64(float32(a))*unit + unit/2)
	v := float32(float64(float32(b))*float64(turn) + float64(turn/2))
	return float32(math.Sqrt(-2*math.Log(float64(u))) * math.Sin(float64(v)))
}
