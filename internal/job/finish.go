package job

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/mask"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/pipeline"
	"github.com/lipstream/lipstream/internal/restorer"
	"github.com/lipstream/lipstream/internal/settings"
)

// What happens to a frame after its engine: the restoration of what was generated, then the
// mask of the user.

// inputs returns the paths of all files that the job reads.
func (s *session) inputs() []string {
	inputs := s.job.inputs()
	for _, path := range []string{s.job.Mask, s.restore} {
		if path != "" {
			inputs = append(inputs, path)
		}
	}
	return inputs
}

// restoredWith returns the part of the metadata that names the restoration network, or "".
func (s *session) restoredWith() string {
	name, plain := s.job.Restorer()
	switch {
	case name == "":
		return ""
	case plain:
		name += restorer.Extension
	}
	return ", restored with " + filepath.Base(name)
}

// probeMask checks the mask.
func (s *session) probeMask(ctx context.Context) (err error) {
	job, v := s.job, s.video.Video
	if job.Mask == "" {
		return nil
	}
	if s.mask, err = media.Probe(ctx, s.tools, job.Mask); err != nil {
		return err
	}
	if err := mask.Check(s.mask, v.Width, v.Height); err != nil {
		return err
	}
	return job.Limits.check(s.mask)
}

// findRestorer checks the file of the restoration network. Split and Join do without it,
// because a worker may not have the network.
func (s *session) findRestorer() (err error) {
	if s.job.Restore == "" {
		if s.job.RestoreStrength != nil {
			s.notes = append(s.notes, "`restore_strength` has no effect without `restore`")
		}
		return nil
	}
	if s.restore, err = restorer.Find(s.job.Settings); err != nil {
		return err
	}
	return restorer.Check(s.restore)
}

// openRestorer loads the restoration network, if the job has one, and takes its memory out of
// the budget. Its engine is opened after it, and plans with what is left.
func (s *session) openRestorer(ctx context.Context, level func() memory.Level) error {
	if s.restore == "" {
		return nil
	}
	s.budget.reserveContext(s.model.UsesDevice)
	st, err := os.Stat(s.restore)
	if err != nil {
		return fault.Input.Wrap("open the restoration network "+s.restore, fault.WithoutPath(err))
	}
	// At least its weights are held: a file that cannot fit is not loaded.
	if err := s.budget.fits(st.Size()); err != nil {
		return err
	}
	o := restorer.Options{
		Path: s.restore, Strength: settings.DefaultStrength, Backend: s.backend, Level: level,
		// Half precision would overflow in some of these networks.
		Session: backend.Options{Device: s.device.ID, Precision: backend.F32, Arena: backend.Arena{Limit: s.budget.share().Arena()}},
	}
	if s.job.RestoreStrength != nil {
		o.Strength = *s.job.RestoreStrength
	}
	if s.job.Threads != nil {
		o.Session.Threads = *s.job.Threads
	}
	if s.restorer, err = restorer.Open(ctx, o); err != nil {
		return err
	}
	s.onClose(func() {
		s.r.alsoWorked(s.restorer.Report())
		_ = s.restorer.Close()
	})
	need := s.restorer.Memory()
	if err := s.budget.fits(need); err != nil {
		return err
	}
	if s.budget.gpu != nil {
		s.budget.onDevice += need
	} else {
		s.budget.reserved += need
	}
	return nil
}

// reserveContext takes CUDA's context out of the memory of the GPU. The estimate of an engine
// that uses the GPU contains it.
func (b *budget) reserveContext(engineUsesDevice bool) {
	if b.gpu != nil && !engineUsesDevice {
		b.onDevice += lip.DeviceContext
	}
}

// fits returns an error if a restoration that takes so many bytes does not fit the budget.
func (b budget) fits(need int64) error {
	left, from := b.Host-b.reserved, b.HostFrom
	if b.gpu != nil {
		left, from = b.Device-b.onDevice, b.DeviceFrom
	}
	if need <= left {
		return nil
	}
	return fault.Memory.New("plan the memory of the restoration", fmt.Sprintf("it takes %s, but only %s are left for it (%s)", memory.Size(need), memory.Size(max(left, 0)), from),
		"raise `memory_limit`, or leave out `restore`")
}

// addRestorer adds the restoration to the estimate of an engine.
func (s *session) addRestorer(e *Estimate) {
	if s.restorer == nil {
		return
	}
	w := s.restorer.Report()
	each := thousandths(w.Busy.Seconds() / float64(w.Calls))
	e.Stages = append(e.Stages, lip.EstimateStage{Name: w.Name, Memory: w.Memory, Seconds: each, Per: "face"})
	faces := float64(len(s.job.speakers())) // in a frame
	e.Estimate.Seconds += thousandths(each * faces * float64(e.Frames))
}

// compose makes the pipeline restore and mask its frames, if the job asks for it. The caller
// calls stop when the pipeline has ended.
func (s *session) compose(ctx context.Context, p *pipeline.Pipeline, source *bounded) (stop func()) {
	if s.restorer == nil && s.mask == nil {
		return func() {}
	}
	c := &composer{restorer: s.restorer, at: func(i int64) int64 { return repeated(i, source.known.Load(), s.mode) }}
	p.Composite = c.composite
	if s.mask == nil {
		return func() {}
	}
	v := s.video.Video
	o := mask.Options{Width: s.format.Width, Height: s.format.Height, Rate: s.rate}
	if !v.IsPicture {
		o.First = s.rate.Frame(s.job.Start.Duration())
	}
	c.mask = mask.Open(ctx, s.tools, s.mask, o)
	if p.Sources = s.model.InPlace; !p.Sources {
		c.source = frame.New(s.format)
	}
	return func() { _ = c.mask.Close() }
}

// composer finishes frames.
type composer struct {
	restorer *restorer.Restorer
	mask     *mask.Mask
	at       func(i int64) int64 // which frame of the video is frame i of the output
	source   *frame.Frame        // a copy of the frame; nil if items have one
}

func (c *composer) composite(ctx context.Context, it *lip.Item) error {
	source := it.Source
	if c.source != nil {
		source = c.source
		copy(source.Data, it.Frame.Data)
	}
	it.Composite()
	if c.restorer != nil {
		for _, r := range it.Regions {
			if err := c.restorer.Restore(ctx, it.Frame, r); err != nil {
				return err
			}
		}
	}
	if c.mask == nil {
		return nil
	}
	values, err := c.mask.At(c.at(it.Frame.Index))
	if err != nil {
		return err
	}
	it.Frame.Keep(source, values)
	return nil
}

// repeated returns which frame of a video of this length is shown in frame i of the output; a
// length of 0 means that the video has not ended before it.
func repeated(i, length int64, mode media.Mode) int64 {
	if length == 0 || i < length {
		return i
	}
	pass, n := i/length, i%length
	switch {
	case mode == media.Loop, mode == media.PingPong && pass%2 == 0:
		return n
	case mode == media.PingPong:
		return length - 1 - n
	}
	return length - 1
}
