package syncnet

import (
	"math"
	"slices"
)

// reach is how many windows to either side the sound is compared with the lips. A
// window begins with each frame.
const reach = 15

// Score is the result for one stretch of frames, or the mean of several.
type Score struct {
	Confidence float64 // LSE-C: median minus least of the mean distances
	Distance   float64 // LSE-D: the least mean distance
	Offset     float64 // frames by which the lips are behind the sound at the least distance
	Windows    int     // number of windows compared
}

// scorer compares embeddings of lips and sound as they arrive. It holds those within
// reach.
type scorer struct {
	lips   [][]float32 // those not compared yet
	sounds [][]float32 // from reach before the first of lips; nil, for zeros, before the stretch
	sum    [2*reach + 1]float64
	n      int
}

func newScorer() *scorer { return &scorer{sounds: make([][]float32, reach)} }

// add adds the embeddings of the next window.
func (s *scorer) add(lip, sound []float32) {
	s.lips, s.sounds = append(s.lips, lip), append(s.sounds, sound)
	if len(s.lips) > reach {
		s.compare()
	}
}

// compare adds the distances of the first of lips to the sounds around it.
func (s *scorer) compare() {
	for k := range s.sum {
		var sound []float32
		if k < len(s.sounds) {
			sound = s.sounds[k]
		}
		s.sum[k] += distance(s.lips[0], sound)
	}
	s.lips, s.sounds = s.lips[1:], s.sounds[1:]
	s.n++
}

// distance returns the Euclidean distance. Like torch's pairwise_distance, it adds 1e-6
// to each difference.
func distance(a, b []float32) float64 {
	var sum float64
	for i, v := range a {
		d := float64(v) + 1e-6
		if b != nil {
			d -= float64(b[i])
		}
		sum += d * d
	}
	return math.Sqrt(sum)
}

// score returns the result after the last window; ok is false if there was none.
func (s *scorer) score() (result Score, ok bool) {
	for len(s.lips) > 0 {
		s.compare()
	}
	if s.n == 0 {
		return Score{}, false
	}
	mean := s.sum[:]
	for k := range mean {
		mean[k] /= float64(s.n)
	}
	least := slices.Min(mean)
	best := slices.Index(mean, least)
	slices.Sort(mean)
	return Score{mean[reach] - least, least, float64(reach - best), s.n}, true
}

// Mean returns the mean of the scores of several stretches, each counting the same;
// ok is false without any.
func Mean(scores []Score) (mean Score, ok bool) {
	n := float64(len(scores))
	for _, s := range scores {
		mean.Confidence += s.Confidence / n
		mean.Distance += s.Distance / n
		mean.Offset += s.Offset / n
		mean.Windows += s.Windows
	}
	return mean, n > 0
}
