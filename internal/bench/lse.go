package bench

import (
	"context"
	"errors"
	"io"
	"math"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/syncnet"
)

// minStretch is the number of frames at 25 fps that a face must be seen for without a cut, for
// SyncNet to score it. It is that of LatentSync's evaluation; shorter ones have too few windows.
const minStretch = 50

// place is where a face is in a frame. Its track is -1 if none is seen.
type place struct {
	track int
	box   syncnet.Box
}

// placeOf returns the place of a face: the box around its mesh.
func placeOf(f *face.Face) place {
	if f == nil {
		return place{track: -1}
	}
	x0, y0, x1, y1 := math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	for _, p := range f.Points {
		x0, y0, x1, y1 = min(x0, p.X), min(y0, p.Y), max(x1, p.X), max(y1, p.Y)
	}
	return place{f.Track, syncnet.Box{X: (x0 + x1) / 2, Y: (y0 + y1) / 2, Half: max(x1-x0, y1-y0) / 2}}
}

// at25 returns the places at SyncNet's frame rate.
func at25(places []place, rate media.Rational) []place {
	out := make([]place, int(math.Round(float64(len(places))*syncnet.Rate/rate.Float())))
	for i := range out {
		out[i] = places[min(int(math.Round(float64(i)*rate.Float()/syncnet.Rate)), len(places)-1)]
	}
	return out
}

// stretches sets the track of all frames to -1 that are not part of a stretch which is long
// enough, and smooths the boxes of the others.
func stretches(places []place) {
	for from := 0; from < len(places); {
		to := from + 1
		for to < len(places) && places[to].track == places[from].track {
			to++
		}
		part := places[from:to]
		boxes := make([]syncnet.Box, len(part))
		for i, p := range part {
			boxes[i] = p.box
		}
		for i, b := range syncnet.Smooth(boxes) {
			part[i].box = b
			if len(part) <= minStretch {
				part[i].track = -1
			}
		}
		from = to
	}
}

// lse reads the video again, at 25 fps, and scores each stretch in which a face is seen. It
// stops when the voice ends.
func (s *syncRun) lse(ctx context.Context, net *syncnet.Network, info *media.Info, voicePath string, voice *media.Info) (scores []syncnet.Score, err error) {
	format := media.WorkingFormat(*info.Video)
	video, err := media.OpenVideo(ctx, s.tools, s.o.Video, info, media.VideoOptions{Format: format, Rate: media.Rational{Num: syncnet.Rate, Den: 1}})
	if err != nil {
		return nil, err
	}
	defer func() { _ = video.Close() }()
	sound, err := media.OpenAudio(ctx, s.tools, voicePath, voice, voice.DefaultAudio(), audio.SampleRate)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sound.Close() }()

	places := at25(s.places, s.rate)
	stretches(places)
	var stretch *syncnet.Stretch
	finish := func() {
		if stretch != nil {
			if score, ok := stretch.Score(); ok {
				scores = append(scores, score)
			}
		}
		stretch = nil
	}
	f := frame.New(format)
	for i, p := range places {
		samples, err := readSamples(sound, syncnet.FrameSamples)
		if err == nil {
			err = video.Read(f)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if i == 0 || p.track != places[i-1].track {
			finish()
			if p.track >= 0 {
				stretch = net.NewStretch()
			}
		}
		if stretch != nil {
			if err := stretch.Push(ctx, syncnet.Crop(f, p.box), samples); err != nil {
				return nil, err
			}
		}
		if s.o.Progress != nil {
			s.o.Progress(int64(i+1), int64(len(places)))
		}
	}
	finish()
	return scores, nil
}

// readSamples reads n samples as 16 bits, or returns io.EOF if there are fewer.
func readSamples(src audio.Source, n int) ([]int16, error) {
	buf := make([]float32, n)
	for at := 0; at < n; {
		k, err := src.Read(buf[at:])
		if at += k; err != nil && at < n {
			return nil, err
		}
	}
	out := make([]int16, n)
	for i, v := range buf {
		out[i] = int16(min(max(math.RoundToEven(float64(v)*32768), -32768), 32767))
	}
	return out, nil
}

// lseFigures returns LSE-C and LSE-D.
func lseFigures(scores []syncnet.Score) []Figure {
	mean, ok := syncnet.Mean(scores)
	note := "by your SyncNet"
	if !ok {
		mean = syncnet.Score{Confidence: math.NaN(), Distance: math.NaN(), Offset: math.NaN()}
		note = "no face is seen for more than 2 s without a cut"
	}
	return []Figure{
		{Key: "lse_c", Name: "LSE-C, confidence of lip sync", Value: mean.Confidence, Note: note},
		{Key: "lse_d", Name: "LSE-D, distance of lips and sound", Value: mean.Distance, Note: note},
		{Key: "lse_offset", Name: "lag of the lips by SyncNet", Value: mean.Offset, Unit: Frames, Note: note},
	}
}
