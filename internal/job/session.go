package job

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/runtimes"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/journal"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/pipeline"
	"github.com/lipstream/lipstream/internal/restorer"
)

// pictureRate is the frame rate of a video made from a picture.
var pictureRate = media.Rational{Num: 25, Den: 1}

// minSide is the smallest width and height of the input. In smaller frames no
// face has enough pixels to be followed.
const minSide = 64

// Run does one job from beginning to end and reports its progress to o, which
// may be nil. The output appears under its name only when it is complete. When
// Run returns, all goroutines and child processes that it started have ended
// and its temporary files are gone.
func Run(ctx context.Context, job Job, o Observer) (result Result, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := newReporter(ctx, o)
	err = do(ctx, job, r, func(s *session) error {
		if err := s.prepare(ctx); err != nil {
			return err
		}
		for i, v := range s.voices {
			if v.SpeechSeconds() == 0 && s.job.Part == nil {
				r.warn(s.audio[i].Path + ": no speech was found, so the mouth stays closed")
			}
		}
		r.expect(s.job.part().length(s.expected))
		result, err = s.frames(ctx)
		return err
	})
	r.end(&result, err)
	return result, err
}

// do opens a session for a job, lets f use it, and closes it. The error is an
// *Error.
func do(ctx context.Context, job Job, r *reporter, f func(s *session) error) error {
	err := func() error {
		s, err := newSession(ctx, job, r)
		if err != nil {
			return err
		}
		defer s.close()
		return f(s)
	}()
	if err == nil {
		return nil
	}
	// When a context ends, a stage may fail with an error of its own.
	if ctx.Err() != nil {
		return &fault.Error{Kind: fault.Cancelled, Op: "run the job", Err: err}
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return fault.Internal.Wrap("run the job", err)
}

// session is a job that is running. It owns everything that the job has opened. Its
// fields are set in the order of the phases.
type session struct {
	job   Job
	r     *reporter
	model lip.Model
	kind  string // of engine: the value of the setting
	why   string // this model was chosen

	dry bool // nothing is written

	closers []func() // release what the job has opened

	// Probe:
	tools      media.Tools
	video      *media.Info
	audio      []*media.Info // the voice of each speaker
	soundtrack *media.Info   // the sound of the result; nil if that is the voice
	mask       *media.Info   // nil without a mask
	restore    string        // path of the network; "" for none
	rate       media.Rational
	format     frame.Format
	codec      string // of the output
	mode       media.Mode

	deinterlace media.Deinterlace
	notes       []string // warnings about the inputs, which prepare reports
	warned      []string // by warnOnce
	disk        []DiskUse

	// Load:
	backend  backend.Backend
	device   backend.Device
	tracker  *face.Tracker
	engine   lip.Engine
	restorer *restorer.Restorer // nil unless the job has a network for it
	budget   budget
	journals []*journal.Journal // one for each speaker if the job can be resumed

	// Listen:
	voices []*audio.Voice // of each speaker
	// The output has atLeast frames. If cut is not set and the video is longer, the
	// output is as long as the video.
	atLeast int64
	cut     bool
	// expected is the number of frames of the output according to the headers; 0 if
	// it is unknown.
	expected int64
}

// newSession checks the settings and chooses the engine.
func newSession(ctx context.Context, job Job, r *reporter) (*session, error) {
	job, err := job.complete()
	if err != nil {
		return nil, err
	}
	s := &session{job: job, r: r}
	if s.model, s.kind, s.why, err = choose(ctx, job.Settings); err != nil {
		return nil, err
	}
	r.start(s.model.Name, s.why, job)
	return s, nil
}

// prepare runs all phases before the first frame.
func (s *session) prepare(ctx context.Context) error {
	first := s.job.part().Lead == 0 // warnings are reported once, if the job is made in parts
	if first {
		s.warnUnused()
	}
	if err := s.findRestorer(); err != nil {
		return err
	}
	if err := s.probe(ctx); err != nil {
		return err
	}
	if err := s.checkSpace(); err != nil {
		return err
	}
	if first {
		for _, note := range s.notes {
			s.r.warn(note)
		}
	}
	// Loading comes first, so that a missing runtime is reported before an hour of
	// speech is analysed.
	if err := s.load(ctx); err != nil {
		return err
	}
	return s.listen(ctx)
}

// warnUnused warns of settings that have no effect on the engine.
func (s *session) warnUnused() {
	var names []string
	for _, name := range s.job.Unused(s.kind) {
		names = append(names, "`"+name+"`")
	}
	if len(names) > 0 {
		s.r.warn(fmt.Sprintf("not used by the engine %s: %s", s.kind, strings.Join(names, ", ")))
	}
}

// probe reads the headers of the inputs and returns an error for what cannot work,
// before anything slow.
func (s *session) probe(ctx context.Context) (err error) {
	s.r.phase(PhaseProbe)
	job := s.job
	if s.tools, err = media.FindTools(ctx); err != nil {
		return err
	}
	if s.video, err = media.Probe(ctx, s.tools, job.Video); err != nil {
		return err
	}
	if err := s.video.NeedVideo(); err != nil {
		return err
	}
	var sounds []*media.Info
	for _, path := range job.inputs()[1:] {
		sound, err := media.Probe(ctx, s.tools, path)
		if err != nil {
			return err
		}
		if err := sound.NeedAudio(); err != nil {
			return err
		}
		sounds = append(sounds, sound)
	}
	n := len(job.speakers())
	if s.audio = sounds[:n:n]; len(sounds) > n {
		s.soundtrack = sounds[n]
	}
	if err := s.probeMask(ctx); err != nil {
		return err
	}
	if err := media.CheckOutput(job.Output, job.Overwrite, s.inputs()...); err != nil {
		return err
	}
	for _, in := range append(sounds, s.video) {
		if err := job.Limits.check(in); err != nil {
			return err
		}
	}
	v := s.video.Video
	if v.Width < minSide || v.Height < minSide {
		return fault.Input.New("read video "+job.Video, fmt.Sprintf("%dx%d pixels are too few for a face", v.Width, v.Height),
			fmt.Sprintf("use a video of at least %dx%d pixels", minSide, minSide))
	}
	if s.rate, err = job.rate(); err != nil {
		return err
	}
	if !s.rate.Valid() {
		s.rate = v.FrameRate
	}
	if v.IsPicture && job.FPS == "" {
		s.rate = pictureRate
	}
	if err := s.encode(ctx); err != nil {
		return err
	}
	if s.mode, err = media.ParseMode(job.Length); err != nil {
		return err
	}
	s.deinterlace = s.interlacing()
	if err := media.CheckPart(s.video, s.videoOptions()); err != nil {
		return err
	}
	o := s.sinkOptions()
	if o.Extras != nil {
		s.notes = append(s.notes, o.Extras.Warnings(job.Output)...)
	}
	return media.CheckEncoding(ctx, s.tools, job.Output, o)
}

// load opens an inference runtime, and in it the face networks beside the engine.
func (s *session) load(ctx context.Context) error {
	s.r.phase(PhaseLoad)
	which, others, err := s.job.choices()
	if err != nil {
		return err
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	s.onClose(func() { _ = s.backend.Close() })
	ahead := min(s.rate.Frame(s.model.Ahead)*int64(s.format.Bytes()), s.model.AheadBytes)
	if s.budget, err = newBudget(memory.Probe{}, s.job, s.device, s.format, ahead); err != nil {
		return err
	}
	s.r.device(s.backend.Name(), s.device, s.budget.gpu)
	s.onClose(s.budget.setSoftLimit())
	level, stop, err := s.budget.watch(ctx, s.job, s.r)
	if err != nil {
		return err
	}
	s.onClose(stop)
	// The face networks are small: a second thread would mostly wait, and the encoder
	// can use it.
	threads := 1
	if s.job.Threads != nil {
		threads = *s.job.Threads
	}
	s.onClose(func() {
		if s.tracker != nil {
			_ = s.tracker.Close()
		}
	})
	return together(ctx, func(ctx context.Context) (err error) {
		s.tracker, err = face.NewTracker(ctx, s.backend, face.Options{Choice: which, Others: others, Threads: threads})
		return err
	}, func(ctx context.Context) error {
		if err := s.openVoices(s.model.Needs); err != nil {
			return err
		}
		if err := s.openRestorer(ctx, level); err != nil {
			return err
		}
		return s.openEngines(ctx, lip.Host{
			Backend: s.backend, Device: s.device, Rate: s.rate, Format: s.format, Speakers: len(s.voices),
			Budget: s.budget.share(), Level: level,
			Step: s.r.step, Warn: s.r.warn, Planned: s.r.planned,
		})
	})
}

// open opens an inference runtime and settles the device. The face networks always compute
// on the CPU, and so does the job if neither its engine nor a restoration uses the device.
func (s *session) open(ctx context.Context) error {
	choice := runtimes.Choice{Backend: s.job.Backend, Device: s.job.Device}
	if !s.model.UsesDevice && s.restore == "" {
		choice.Device = "cpu"
	}
	o, err := runtimes.Open(ctx, choice)
	if err != nil {
		return err
	}
	for _, e := range o.Skipped {
		s.r.warn("a GPU is not used: " + e.Error() + hint(e))
	}
	s.backend, s.device = o.Backend, o.Device
	return nil
}

// hint returns what the user can do about an error, in parentheses.
func hint(err error) string {
	if h := fault.HintOf(err); h != "" {
		return " (" + h + ")"
	}
	return ""
}

// listen analyses the voices and sets the length of the output. An hour of voice takes
// 4 MB of memory. If the engine needs the samples, they are kept on disk.
func (s *session) listen(ctx context.Context) error {
	s.r.phase(PhaseListen)
	heard := int64(0) // frames until the last voice ends
	for i, v := range s.voices {
		if err := s.hear(ctx, v, s.audio[i]); err != nil {
			return err
		}
		if s.model.Frames != nil {
			heard = max(heard, s.model.Frames(v))
		} else {
			heard = max(heard, framesOf(v.Duration(), s.rate))
		}
	}
	s.measure(heard)
	return nil
}

// measure sets the length of the output from the frames until the last voice ends.
func (s *session) measure(heard int64) {
	v := s.video.Video
	if v.IsPicture {
		s.mode, s.atLeast, s.cut, s.expected = media.Pad, heard, true, heard
		return
	}
	s.atLeast, s.cut, s.expected = heard, s.mode != media.Pad, 0
	shown := max(0, s.shown())
	switch known := v.Duration > 0; {
	case s.mode == media.Pad && known:
		s.expected = max(heard, shown)
	case s.mode == media.Shortest && known:
		s.expected = min(heard, shown)
	case s.mode != media.Pad && s.mode != media.Shortest:
		s.expected = heard
	}
}

// shown returns how many frames the video has between start and end, according
// to its header.
func (s *session) shown() int64 {
	v := s.video.Video
	end := v.Start + v.Duration
	if e := s.job.end(); e > 0 {
		end = min(end, e)
	}
	return s.rate.Frame(end) - s.rate.Frame(s.job.Start.Duration())
}

// framesOf returns how many frames cover a sound, at least one.
func framesOf(seconds float64, rate media.Rational) int64 {
	// The allowance keeps 4.0000001 s from taking a 101st frame.
	return max(1, int64(math.Ceil(seconds*rate.Float()-1e-3)))
}

// pipeline returns the pipeline of the job between a source and a sink.
func (s *session) pipeline(source *bounded, sink pipeline.Sink) *pipeline.Pipeline {
	return &pipeline.Pipeline{
		Format: s.format, Source: source, Tracker: s.tracker, Engine: s.engine, Sink: sink,
		First: s.job.part().Lead, Wanted: s.job.part().wanted,
	}
}

// frames makes the frames and finishes the output.
func (s *session) frames(ctx context.Context) (Result, error) {
	source, err := s.sequence(ctx)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = source.Close() }()
	o := s.sinkOptions()
	o.Warn = s.r.warn
	o.Note = func(path string) error {
		for _, j := range s.journals {
			if err := j.Note(path); err != nil {
				return err
			}
		}
		return nil
	}
	sink, err := media.OpenSink(ctx, s.tools, s.job.Output, o)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = sink.Close() }()

	part := s.job.part()
	shown := &bounded{seq: source, atLeast: s.atLeast, cut: s.cut, n: part.Lead, first: part.Lead, end: part.Tail, most: s.job.Limits.Frames, path: s.job.Video}
	p := s.pipeline(shown, sink)
	stop := s.compose(ctx, p, shown)
	defer stop()
	p.Show, p.Progress = newShow(s.job.Frame, media.NewToneMap(media.WorkingTags(*s.video.Video, s.format))), s.r.frames
	s.r.phase(PhaseFrames)
	stats, err := p.Run(ctx)
	s.r.frames(stats) // also if it failed before a frame was written
	if err != nil {
		return Result{}, err
	}
	if stats.NoFace == stats.Frames && s.job.Part == nil {
		return Result{}, s.noFace(stats.Frames)
	}
	if s.job.Part == nil {
		if err := s.job.CheckSeen(s.job.speakerReports(stats)); err != nil {
			return Result{}, err
		}
	}
	if source.Short() {
		s.r.warn(fmt.Sprintf("%s: only %d of the frames that the header promises could be read: the file may be cut off", s.job.Video, source.Length()))
	}
	if stats.NoFace > 0 {
		s.r.warn(fmt.Sprintf("%d of %d frames have no usable face and are unchanged", stats.NoFace, stats.Frames))
	}
	return s.finish(sink, stats)
}

// finish gives the output its name.
func (s *session) finish(sink *media.Sink, stats pipeline.Stats) (Result, error) {
	s.r.phase(PhaseFinish)
	if err := sink.Commit(); err != nil {
		return Result{}, err
	}
	for _, j := range s.journals {
		if err := j.Remove(); err != nil {
			s.r.warn(err.Error()) // the result is complete all the same
		}
	}
	return s.result(s.engine.Name(), stats), nil
}

func (s *session) result(engine string, stats pipeline.Stats) Result {
	v := s.video.Video
	return Result{
		Output: s.job.Output, Engine: engine, Frames: stats.Frames, NoFace: stats.NoFace, Cuts: stats.Cuts,
		FPS: s.rate.Float(), Width: v.Width, Height: v.Height, Duration: s.rate.Time(stats.Frames),
		Speakers: s.job.speakerReports(stats),
	}
}

func (s *session) noFace(frames int64) error {
	hint := "use a video whose face is at least 32 pixels wide and not turned away"
	if n, err := strconv.Atoi(s.job.Face); err == nil && n > 1 {
		hint = fmt.Sprintf("there may be fewer than %d faces: set `face` to largest", n)
	}
	return fault.NoFace.New("find a face in "+s.job.Video, fmt.Sprintf("none of the %d frames has a usable face", frames), hint)
}

// onClose registers f to be called by close. The last one registered is called first.
func (s *session) onClose(f func()) { s.closers = append(s.closers, f) }

func (s *session) close() {
	for _, f := range slices.Backward(s.closers) {
		f()
	}
}
