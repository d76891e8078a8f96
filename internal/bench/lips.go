package bench

import (
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/media"
)

// The goals of lip sync.
const (
	lagReach       = 8    // frames to either side at which the mouth is compared with the sound
	goalLag        = 1.0  // frames that the best lag may be away from 0
	goalR          = 0.75 // correlation at the best lag
	goalSilence    = 10.0 // % of the speaking range that the mouth may be open in silence
	minPSNR        = 45.0 // dB outside the mask, for an output at crf 12
	silenceMargin  = 0.12 // s around speech that is not judged as silence: lips open before and close after the sound
	closureAt      = 0.6  // Mouth.Close from which the lips should be closed
	closureReach   = 1    // frames around a closure in which the lips may meet
	closedBelow    = 25.0 // % of the speaking range below which lips count as closed
	soundStep      = 0.005
	speakingAbove  = 0.5  // Mouth.Speech from which a frame counts as speaking
	rangeHigh      = 0.95 // percentile of the aperture that ends its range
	silencePercent = 0.95
)

// soundCurves holds the mouth that the voice calls for, one value per frame, and the
// frames nearest to its lip closures.
type soundCurves struct {
	wanted, envelope []float64
	speaking, silent []bool
	closures         []int
}

// newSoundCurves samples the voice at the times for which frames are drawn.
func newSoundCurves(voice *audio.Voice, rate media.Rational, frames int) soundCurves {
	s := soundCurves{
		wanted: make([]float64, frames), envelope: make([]float64, frames),
		speaking: make([]bool, frames), silent: make([]bool, frames),
	}
	for i := range frames {
		at := audio.FrameTime(int64(i), int(rate.Num), int(rate.Den))
		m := voice.Mouth(at)
		s.wanted[i], s.envelope[i] = float64(m.Aperture()), voice.Envelope(at)
		s.speaking[i] = m.Speech > speakingAbove
		s.silent[i] = true
		for d := -silenceMargin; d <= silenceMargin; d += soundStep {
			s.silent[i] = s.silent[i] && voice.Mouth(at+d).Speech == 0
		}
	}
	// On a grid finer than the frames, so that no closure between two frames is
	// missed.
	best, bestAt := 0.0, 0.0
	for at := 0.0; at < voice.Duration()+soundStep; at += soundStep {
		c := float64(voice.Mouth(at).Close)
		if c > closureAt && at < voice.Duration() {
			if c > best {
				best, bestAt = c, at
			}
			continue
		}
		if best > 0 {
			// Frame i is drawn for the time (i + 1/2) / rate.
			if i := int(bestAt * rate.Float()); i < frames {
				s.closures = append(s.closures, i)
			}
			best = 0
		}
	}
	return s
}

// lipFigures compares the measured aperture with the sound. It also returns the
// correlations at all lags.
func lipFigures(open []float64, s soundCurves) ([]Figure, lags) {
	seen := measured(open)
	speaking := pick(open, s.speaking)
	silent := pick(open, s.silent)
	span := percentile(speaking, rangeHigh) - percentile(open, 0)
	share := func(v float64) float64 { return 100 * v / span }

	wanted := correlate(open, s.wanted, lagReach)
	lag, best := wanted.best()
	envelope := correlate(open, s.envelope, lagReach)
	envelopeLag, envelopeBest := envelope.best()
	// Only speech: silence is easy to match.
	inSpeech := pearson(speaking, pick(s.wanted, s.speaking))

	figures := []Figure{
		{Key: "faces", Name: "frames with a face", Value: 100 * float64(len(seen)) / float64(len(open)), Unit: Percent},
		{Key: "lag", Name: "lag of the lips behind the sound", Value: lag, Unit: Frames, Min: new(-goalLag), Max: new(goalLag),
			Note: "where aperture and openness curve match best"},
		{Key: "r_best", Name: "correlation at the best lag", Value: best, Min: new(goalR)},
		{Key: "r_0", Name: "correlation at lag 0", Value: wanted.at(0)},
		{Key: "r_speech", Name: "correlation at lag 0, in speech only", Value: inSpeech},
		{Key: "envelope_lag", Name: "lag behind the envelope", Value: envelopeLag, Unit: Frames,
			Note: "level from 300 to 3000 Hz, regardless of visemes"},
		{Key: "envelope_r_best", Name: "correlation with the envelope", Value: envelopeBest},
		{Key: "envelope_r_0", Name: "correlation with the envelope at lag 0", Value: envelope.at(0)},
		{Key: "range", Name: "speaking range of the aperture", Value: span,
			Note: "95th percentile in speech minus the minimum; 1 is the distance between the outer eye corners"},
	}
	if len(measured(silent)) == 0 {
		figures = append(figures, Figure{Key: "silence", Name: "aperture in silence", Value: math.NaN(), Unit: Percent, Note: "the voice has no silence"})
	} else {
		figures = append(figures,
			Figure{Key: "silence", Name: "aperture in silence", Value: share(percentile(silent, silencePercent)), Unit: Percent, Max: new(goalSilence),
				Note: "95th percentile, relative to the speaking range"},
			Figure{Key: "silence_std", Name: "movement in silence", Value: share(deviation(silent)), Unit: Percent,
				Note: "standard deviation, relative to the speaking range"})
	}
	met, asked := closuresMet(open, s.closures, span*closedBelow/100)
	closed := Figure{Key: "closures", Name: "lip closures matched", Value: math.NaN(), Unit: Percent, Note: "the voice has none"}
	if asked > 0 {
		closed.Value, closed.Note = 100*float64(met)/float64(asked), "m, b, p: aperture below 25 % of the range within a frame"
	}
	return append(figures, closed), wanted
}

// closuresMet counts the closures with a face nearby (asked), and how many of these
// have an aperture below the limit (met).
func closuresMet(open []float64, closures []int, limit float64) (met, asked int) {
	for _, c := range closures {
		near := measured(open[max(0, c-closureReach):min(len(open), c+closureReach+1)])
		if len(near) == 0 {
			continue
		}
		asked++
		if slices.Min(near) < limit {
			met++
		}
	}
	return met, asked
}
