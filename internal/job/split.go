package job

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/pipeline"
)

// Part is a stretch of the output: the frames from From up to, but not including,
// To. The frames from Lead up to Tail are computed as well, so that the part fits
// its neighbours. A To or Tail of -1 is the end of the output.
type Part struct{ Lead, From, To, Tail int64 }

// part returns the part of the output that the job makes.
func (j Job) part() Part {
	if j.Part == nil {
		return Part{To: -1, Tail: -1}
	}
	return *j.Part
}

func (p Part) wanted(i int64) bool { return i >= p.From && (p.To < 0 || i < p.To) }

// length returns the frames of the part if the output has this many, 0 for unknown.
func (p Part) length(whole int64) int64 {
	switch {
	case p.To >= 0:
		return p.To - p.From
	case whole == 0:
		return 0
	}
	return whole - p.From
}

// sequence opens the video where the part of the job begins.
func (s *session) sequence(ctx context.Context) (*media.Sequence, error) {
	o := s.videoOptions()
	if lead := s.job.part().Lead; lead > 0 && !s.video.Video.IsPicture {
		o.Start = s.rate.Time(s.rate.Frame(o.Start) + lead)
	}
	return media.NewSequence(ctx, s.tools, s.job.Video, s.video, o, s.mode)
}

// Where a video may be split.
const (
	defaultPart = time.Minute
	// partLead is the number of frames that the tracker has to see before a part
	// begins, for its smoothing and for the mesh, which follows the face from frame
	// to frame.
	partLead = 24
	// pauseLength is the shortest silence in which a job may be split, seconds.
	pauseLength = 0.4
)

// Split divides a job into parts of about the length every; 0 means 1 minute. Join
// puts the results together. Parts begin at scene cuts if possible, else in silence.
// Split reads the whole video to find the cuts. It returns nil if the output is
// shorter than two parts or cannot be split.
func Split(ctx context.Context, job Job, every time.Duration) (parts []Part, err error) {
	r := newReporter(ctx, nil)
	err = do(ctx, job, r, func(s *session) error {
		parts, err = s.split(ctx, cmp.Or(every, defaultPart))
		return err
	})
	r.end(&Result{}, err)
	return parts, err
}

func (s *session) split(ctx context.Context, every time.Duration) ([]Part, error) {
	if err := s.probe(ctx); err != nil {
		return nil, err
	}
	step := s.rate.Frame(every)
	v := s.video.Video
	shown := s.shown()
	// A part cannot begin in a repetition of the video.
	if s.model.Unsplittable || step < 1 || !v.IsPicture && shown < 2*step {
		return nil, nil
	}
	if err := s.openVoices(audio.Needs{}); err != nil {
		return nil, err
	}
	if err := s.listen(ctx); err != nil {
		return nil, err
	}
	total := s.expected
	if !v.IsPicture {
		if total > shown && s.mode != media.Pad {
			return nil, nil
		}
		total = min(total, shown)
	}
	if total < 2*step {
		return nil, nil
	}
	cuts, err := s.findCuts(ctx, total)
	if err != nil {
		return nil, err
	}
	window, overlap := int64(s.model.Window), int64(s.model.Overlap)
	return splitter{total: total, step: step, cuts: cuts, stride: max(1, window-overlap), window: window, overlap: overlap, ahead: s.rate.Frame(s.model.Ahead),
		quiet: func(i int64) bool {
			at := s.rate.Time(i).Seconds()
			return !slices.ContainsFunc(s.voices, func(v *audio.Voice) bool { return !v.Quiet(at-pauseLength/2, at+pauseLength/2) })
		}}.parts(), nil
}

// findCuts returns the first frames of all shots but the first.
func (s *session) findCuts(ctx context.Context, total int64) ([]int64, error) {
	if s.video.Video.IsPicture {
		return nil, nil
	}
	src, err := media.OpenVideo(ctx, s.tools, s.job.Video, s.video, s.videoOptions())
	if err != nil {
		return nil, err
	}
	defer func() { _ = src.Close() }()
	var finder face.Cuts
	var cuts []int64
	f := frame.New(s.format)
	for i := int64(0); i < total; i++ {
		if err := src.Read(f); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		if finder.Next(f) {
			cuts = append(cuts, i)
		}
	}
	return cuts, nil
}

// splitter chooses where parts begin. All its numbers are frames.
type splitter struct {
	total, step             int64
	cuts                    []int64
	stride, window, overlap int64 // of the windows of the engine
	ahead                   int64 // that the engine looks ahead besides
	quiet                   func(i int64) bool
}

// parts returns parts that cover all frames.
func (s splitter) parts() []Part {
	parts := []Part{{}}
	for {
		last := &parts[len(parts)-1]
		if s.total-last.From < 2*s.step {
			last.To, last.Tail = -1, -1
			if len(parts) == 1 {
				return nil
			}
			return parts
		}
		at := s.near(last.From + s.step)
		last.To = at
		// The last window of a shot is moved back to end with it. With this tail, no
		// window that begins before at is moved.
		if last.Tail = at + 2*s.window + s.ahead + face.LookAhead; last.Tail >= s.total {
			last.Tail = -1
		}
		parts = append(parts, Part{Lead: s.lead(at), From: at})
	}
}

// near returns the best frame to begin a part at, within half a step of want: a cut,
// else silence, else want itself.
func (s splitter) near(want int64) int64 {
	best, least := want, s.step/2+1
	for _, c := range s.cuts {
		if d := max(c-want, want-c); d < least {
			best, least = c, d
		}
	}
	if least <= s.step/2 {
		return best
	}
	for d := int64(0); d <= s.step/2; d++ {
		for _, i := range []int64{want - d, want + d} {
			if s.quiet(i) {
				return i
			}
		}
	}
	return want
}

// lead returns the first frame to compute for a part that begins at frame at. If at is
// a cut, that is at itself. Else it is a frame on the grid of the engine's windows,
// which begins with the shot, so early that the beginning no longer affects tracking
// and the blending of windows at frame at.
func (s splitter) lead(at int64) int64 {
	if slices.Contains(s.cuts, at) {
		return at
	}
	shot := int64(0)
	for _, c := range s.cuts {
		if c < at {
			shot = c
		}
	}
	return shot + max(0, at-max(partLead, s.overlap)-shot)/s.stride*s.stride
}

// Join makes the output of a job from its parts, in their order. It copies their
// frames and adds the sound. It reports its progress to o, which may be nil.
func Join(ctx context.Context, job Job, parts []string, o Observer) (result Result, err error) {
	r := newReporter(ctx, o)
	job.Part = nil
	err = do(ctx, job, r, func(s *session) error {
		result, err = s.join(ctx, parts)
		return err
	})
	r.end(&result, err)
	return result, err
}

func (s *session) join(ctx context.Context, parts []string) (Result, error) {
	if len(parts) == 0 {
		return Result{}, fault.Usage.New("join the parts of "+s.job.Output, "there are none")
	}
	if err := s.probe(ctx); err != nil {
		return Result{}, err
	}
	var frames int64
	for _, p := range parts {
		info, err := media.Probe(ctx, s.tools, p)
		if err != nil {
			return Result{}, err
		}
		if err := info.NeedVideo(); err != nil {
			return Result{}, err
		}
		frames += info.Video.Frames
	}
	s.expected = frames
	if err := s.checkJoining(parts); err != nil {
		return Result{}, err
	}
	s.r.phase(PhaseFinish)
	o := s.sinkOptions()
	o.Inputs = append(o.Inputs, parts...)
	if err := media.Join(ctx, s.tools, parts, s.job.Output, o); err != nil {
		return Result{}, err
	}
	r := s.result(s.model.Name, pipeline.Stats{Frames: frames})
	r.Speakers = nil // the parts know
	return r, nil
}
