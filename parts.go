package lipstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/pipeline"
)

// Part is a stretch of the output: the frames From and up to To, which is not in
// it. Frames from Lead on and up to Tail are computed, too, so that the part
// fits its neighbours. To and Tail of -1 are the end, wherever that is.
type Part struct{ Lead, From, To, Tail int64 }

// The methods of a nil Part are those of the whole output.

func (p *Part) lead() int64 {
	if p == nil {
		return 0
	}
	return p.Lead
}

func (p *Part) tail() int64 {
	if p == nil || p.Tail < 0 {
		return 0
	}
	return p.Tail
}

func (p *Part) wanted(i int64) bool {
	return p == nil || i >= p.From && (p.To < 0 || i < p.To)
}

func (p *Part) length(whole int64) int64 {
	switch {
	case p == nil || whole == 0 && p.To < 0:
		return whole
	case p.To < 0:
		return whole - p.From
	}
	return p.To - p.From
}

func (p *Part) string() string {
	if p == nil {
		return ""
	}
	return fmt.Sprint(*p)
}

// sequence opens the video at the job's part.
func (in *inputs) sequence(ctx context.Context, job Job) (*media.Sequence, error) {
	o := in.videoOptions(job)
	if lead := job.Part.lead(); lead > 0 && !in.video.Video.IsPicture {
		o.Start = in.rate.Time(in.rate.Frame(job.Start) + lead)
	}
	return media.NewSequence(ctx, in.tools, job.Video, in.video, media.SequenceOptions{VideoOptions: o}, in.mode)
}

// Where a video may be split.
const (
	usualPart = time.Minute
	// partLead is what the tracker has to see before a part begins, frames: its
	// smoothing, and the mesh, which follows the face from frame to frame.
	partLead = 24
	// pauseLength is the least silence that counts as one, seconds.
	pauseLength = 0.4
)

// Split says how a job can be made in parts of about every (default 1 minute),
// which Join puts together: preferably at scene cuts, else in silence. It looks
// through the whole video for cuts. What is not twice as long, or cannot be
// split, is nil.
func Split(ctx context.Context, job Job, every time.Duration) ([]Part, error) {
	parts, err := split(ctx, job, every)
	if err != nil {
		err = asError(ctx, err)
	}
	return parts, err
}

func split(ctx context.Context, job Job, every time.Duration) ([]Part, error) {
	job, err := job.withDefaults()
	if err != nil {
		return nil, err
	}
	if every == 0 {
		every = usualPart
	}
	chosen, err := chooseEngine(ctx, job)
	if err != nil {
		return nil, err
	}
	in, err := probe(ctx, job, chosen.name)
	if err != nil {
		return nil, err
	}
	o, err := job.options()
	if err != nil {
		return nil, err
	}
	step := in.rate.Frame(every)
	v := in.video.Video
	shown := in.rate.Frame(v.Duration + v.Start)
	if job.End > 0 {
		shown = min(shown, in.rate.Frame(job.End))
	}
	shown -= in.rate.Frame(job.Start)
	// A part can begin where the video is read the first time only.
	if job.LatentSync.Parity || step < 1 || !v.IsPicture && shown < 2*step {
		return nil, nil
	}
	voice, err := audio.NewVoice("", audio.Needs{})
	if err != nil {
		return nil, err
	}
	if err := in.listen(ctx, job, voice); err != nil {
		return nil, err
	}
	total := in.expected
	if !v.IsPicture {
		if total > shown && in.mode != media.Pad {
			return nil, nil
		}
		total = min(total, shown)
	}
	if total < 2*step {
		return nil, nil
	}
	cuts, err := in.findCuts(ctx, job, total)
	if err != nil {
		return nil, err
	}
	s := splitter{total: total, step: step, cuts: cuts, stride: int64(o.Plan.Frames - o.Overlap), window: int64(o.Plan.Frames), overlap: int64(o.Overlap),
		quiet: func(i int64) bool {
			at := in.rate.Time(i).Seconds()
			return voice.Quiet(at-pauseLength/2, at+pauseLength/2)
		}}
	return s.parts(), nil
}

// findCuts gives the first frames of all shots but the first.
func (in *inputs) findCuts(ctx context.Context, job Job, total int64) ([]int64, error) {
	if in.video.Video.IsPicture {
		return nil, nil
	}
	src, err := media.OpenVideo(ctx, in.tools, job.Video, in.video, in.videoOptions(job))
	if err != nil {
		return nil, err
	}
	defer func() { _ = src.Close() }()
	var finder face.Cuts
	var cuts []int64
	f := frame.New(in.format)
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

// splitter chooses where parts begin. All of it is in frames.
type splitter struct {
	total, step             int64
	cuts                    []int64
	stride, window, overlap int64 // of LatentSync's windows
	quiet                   func(i int64) bool
}

// parts covers all frames.
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
		// So far no window that begins before at is moved back by the part's end.
		if last.Tail = at + 2*s.window + face.LookAhead; last.Tail >= s.total {
			last.Tail = -1
		}
		parts = append(parts, Part{Lead: s.lead(at), From: at})
	}
}

// near gives the best place within half a step.
func (s splitter) near(want int64) int64 {
	best, least := want, int64(math.MaxInt64)
	for _, c := range s.cuts {
		if d := abs(c - want); d <= s.step/2 && d < least {
			best, least = c, d
		}
	}
	if least < math.MaxInt64 {
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

func abs(i int64) int64 { return max(i, -i) }

// lead is where to begin for a part from at: at a cut there; else on the grid of
// LatentSync's windows, which count from the shot's beginning, early enough that
// neither tracker nor blending of windows remembers the beginning.
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

// Join makes the job's output of the parts that Run has made, in their order:
// their pictures are copied, and the sound is added. o, which may be nil, is told
// of its progress.
func Join(ctx context.Context, job Job, parts []string, o Observer) (Result, error) {
	r := newReporter(ctx, o)
	result, err := join(ctx, job, parts, r)
	if err != nil {
		err = asError(ctx, err)
	}
	r.end(&result, err)
	return result, err
}

func join(ctx context.Context, job Job, parts []string, r *reporter) (Result, error) {
	job, err := job.withDefaults()
	if err != nil {
		return Result{}, err
	}
	if job.Part = nil; len(parts) == 0 {
		return Result{}, fault.Usage.New("join parts to "+job.Output, "there are none")
	}
	chosen, err := chooseEngine(ctx, job)
	if err != nil {
		return Result{}, err
	}
	r.start(chosen.name, chosen.why, job.Output)
	r.stage(StageProbe)
	in, err := probe(ctx, job, chosen.name)
	if err != nil {
		return Result{}, err
	}
	var frames int64
	for _, p := range parts {
		info, err := media.Probe(ctx, in.tools, p)
		if err != nil {
			return Result{}, err
		}
		if err := info.NeedVideo(); err != nil {
			return Result{}, err
		}
		frames += info.Video.Frames
	}
	in.expected = frames
	r.stage(StageFinish)
	options := in.sinkOptions(job, chosen.name)
	options.Inputs = append(options.Inputs, parts...)
	if err := media.Join(ctx, in.tools, parts, job.Output, options); err != nil {
		return Result{}, err
	}
	v := in.video.Video
	return Result{
		Output: job.Output, Engine: chosen.name, Frames: frames,
		FPS: in.rate.Float(), Width: v.Width, Height: v.Height, Duration: in.rate.Time(frames),
	}, nil
}

// tried is how many frames are made to say how long all would take.
const tried = 30

// try makes some frames of the preview and throws them away; it gives the
// seconds that all would take.
func (in *inputs) try(ctx context.Context, job Job, nets *networks, frames int64) (float64, error) {
	source, err := in.sequence(ctx, job)
	if err != nil {
		return 0, err
	}
	defer func() { _ = source.Close() }()
	began := time.Now()
	p := pipeline.Pipeline{
		Format: in.format, Source: &bounded{seq: source, atLeast: in.atLeast, cut: in.cut, end: tried, path: job.Video},
		Tracker: nets.tracker, Engine: nets.engine, Sink: nowhere{},
	}
	stats, err := p.Run(ctx)
	if err != nil || stats.Frames == 0 {
		return 0, err
	}
	return thousandths(time.Since(began).Seconds() / float64(stats.Frames) * float64(frames)), nil
}

// nowhere is a sink for frames that are only tried.
type nowhere struct{}

func (nowhere) Write(*frame.Frame) error { return nil }
