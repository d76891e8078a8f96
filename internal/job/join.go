package job

import (
	"context"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/pipeline"
)

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
	s.r.phase(PhaseFinish)
	o := s.sinkOptions()
	o.Inputs = append(o.Inputs, parts...)
	if err := media.Join(ctx, s.tools, parts, s.job.Output, o); err != nil {
		return Result{}, err
	}
	return s.result(s.model.Name, pipeline.Stats{Frames: frames}), nil
}
