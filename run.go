package lipstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

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
	"github.com/lipstream/lipstream/internal/preview"
)

// pictureRate is the frame rate of a video made from a picture.
var pictureRate = media.Rational{Num: 25, Den: 1}

// minSide is the least width and height of the input: below it no face has
// enough pixels to be followed.
const minSide = 64

// Run does one job from beginning to end and tells o, which may be nil, of its
// progress. The output appears under its name only when it is complete. When
// Run returns, all goroutines and child processes that it started have ended
// and its temporary files are gone.
func Run(ctx context.Context, job Job, o Observer) (Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := newReporter(ctx, o)
	result, err := run(ctx, job, r)
	if err != nil {
		err = asError(ctx, err)
	}
	r.end(&result, err)
	return result, err
}

// asError makes err an *Error. Whatever a stage says of it, a job whose ctx is
// over was cancelled: by its caller or by its deadline.
func asError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &Error{Kind: fault.Cancelled, Op: "run the job", Err: err}
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return fault.Internal.Wrap("run the job", err)
}

// inputs is what is known about a job before the first frame.
type inputs struct {
	tools  media.Tools
	video  *media.Info
	audio  *media.Info
	rate   media.Rational
	format frame.Format
	mode   media.Mode
	voice  *audio.Voice
	// frames of the output: at least atLeast and, where cut is set, no more.
	// Where it is not set, the video's own end counts as well.
	atLeast int64
	cut     bool
	// expected is the length of the output as the headers tell it; 0 when they
	// do not.
	expected int64
}

func run(ctx context.Context, job Job, r *reporter) (Result, error) {
	job, err := job.withDefaults()
	if err != nil {
		return Result{}, err
	}
	chosen, err := chooseEngine(ctx, job)
	if err != nil {
		return Result{}, err
	}
	in, nets, err := begin(ctx, job, chosen, r)
	if err != nil {
		return Result{}, err
	}
	defer func() { r.worked(nets.engine); nets.close() }()
	if in.voice.SpeechSeconds() == 0 && job.Part == nil {
		r.warn(job.Audio + ": no speech was found, the mouth will stay closed")
	}
	r.expect(job.Part.length(in.expected))
	return in.render(ctx, job, nets, r)
}

// begin does all of a job but the frames. The caller closes the networks.
func begin(ctx context.Context, job Job, chosen choice, r *reporter) (in *inputs, nets *networks, err error) {
	r.start(chosen.name, chosen.why, job.Output)
	r.stage(StageProbe)
	if in, err = probe(ctx, job, chosen.name); err != nil {
		return nil, nil, err
	}
	// The networks come before the voice: a runtime that is missing should be
	// told of before an hour of speech is listened to.
	r.stage(StageLoad)
	if nets, err = in.load(ctx, job, chosen, r); err != nil {
		return nil, nil, err
	}
	r.stage(StageListen)
	if err = in.listen(ctx, job, nets.voice); err != nil {
		nets.close()
		return nil, nil, err
	}
	return in, nets, nil
}

// networks are what a job computes with.
type networks struct {
	backend backend.Backend
	tracker *face.Tracker
	engine  lip.Engine
	voice   *audio.Voice

	budget  budget
	monitor *memory.Monitor
	level   func() memory.Level
	undo    func() // what was set in this process
	journal *journal.Journal
}

// load opens an inference runtime, the face networks in it, and the engine.
func (in *inputs) load(ctx context.Context, job Job, chosen choice, r *reporter) (n *networks, err error) {
	which, err := face.ParseChoice(job.Face)
	if err != nil {
		return nil, err
	}
	n = &networks{}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if n.backend, err = runtimes.Open(ctx, job.Backend); err != nil {
		return n, err
	}
	device := ""
	if chosen.latentsync != nil {
		device = chosen.latentsync.Device
	}
	if n.budget, err = newBudget(job, device, in); err != nil {
		return n, err
	}
	n.undo = n.budget.soften()
	if n.monitor, n.level, err = n.budget.watch(ctx, job, r); err != nil {
		return n, err
	}
	// The face networks are small: a second thread would spend its time waiting,
	// and the encoder has use for it.
	if n.tracker, err = face.NewTracker(ctx, n.backend, face.Options{Choice: which, Threads: max(1, job.Threads)}); err != nil {
		return n, err
	}
	if n.voice, err = audio.NewVoice("", audio.Needs{Mouths: chosen.latentsync == nil, Mel: chosen.latentsync != nil}); err != nil {
		return n, err
	}
	if chosen.latentsync == nil {
		n.engine = preview.New(in.rate.Float(), func(frame int64) audio.Mouth {
			return n.voice.Mouth(audio.FrameTime(frame, int(in.rate.Num), int(in.rate.Den)))
		})
		return n, nil
	}
	e, err := in.newLatentSync(ctx, job, *chosen.latentsync, n, r)
	if err != nil {
		return n, err
	}
	n.engine = e
	return n, nil
}

// close releases everything; the backend goes last.
func (n *networks) close() {
	if n.engine != nil {
		_ = n.engine.Close()
	}
	if n.voice != nil {
		_ = n.voice.Close()
	}
	if n.tracker != nil {
		_ = n.tracker.Close()
	}
	if n.backend != nil {
		_ = n.backend.Close()
	}
	switch {
	case n.journal == nil:
	case n.journal.Empty():
		_ = n.journal.Remove() // nothing to go on with
	default:
		_ = n.journal.Close()
	}
	if n.monitor != nil {
		n.monitor.Stop()
	}
	if n.undo != nil {
		n.undo()
	}
}

// probe looks at the files and refuses what cannot work, before anything slow.
func probe(ctx context.Context, job Job, engine string) (*inputs, error) {
	tools, err := media.FindTools(ctx)
	if err != nil {
		return nil, err
	}
	in := &inputs{tools: tools}
	if in.video, err = media.Probe(ctx, tools, job.Video); err != nil {
		return nil, err
	}
	if err := in.video.NeedVideo(); err != nil {
		return nil, err
	}
	if in.audio, err = media.Probe(ctx, tools, job.Audio); err != nil {
		return nil, err
	}
	if err := in.audio.NeedAudio(); err != nil {
		return nil, err
	}
	if err := media.CheckOutput(job.Output, job.Overwrite, job.Video, job.Audio); err != nil {
		return nil, err
	}
	if err := job.Limits.check(in.video); err != nil {
		return nil, err
	}
	if err := job.Limits.check(in.audio); err != nil {
		return nil, err
	}
	v := in.video.Video
	if v.Width < minSide || v.Height < minSide {
		return nil, fault.Input.New("read video "+job.Video, fmt.Sprintf("%dx%d pixels are too few for a face", v.Width, v.Height),
			fmt.Sprintf("the picture needs at least %dx%d pixels", minSide, minSide))
	}
	if in.rate, err = job.rate(); err != nil {
		return nil, err
	}
	if !in.rate.Valid() {
		in.rate = v.FrameRate
	}
	if v.IsPicture && job.FPS == "" {
		in.rate = pictureRate
	}
	in.format = media.CodecFormat(*v, job.Codec)
	if in.mode, err = media.ParseMode(job.Length); err != nil {
		return nil, err
	}
	if err := media.CheckPart(job.Video, in.video, in.videoOptions(job)); err != nil {
		return nil, err
	}
	return in, media.CheckEncoding(ctx, tools, job.Output, in.sinkOptions(job, engine))
}

func (in *inputs) videoOptions(job Job) media.VideoOptions {
	return media.VideoOptions{Format: in.format, Rate: in.rate, Start: job.Start, End: job.End}
}

// listen listens to the voice and settles how long the output is.
func (in *inputs) listen(ctx context.Context, job Job, voice *audio.Voice) error {
	src, err := media.OpenAudio(ctx, in.tools, job.Audio, in.audio, in.audio.DefaultAudio(), media.AudioOptions{SampleRate: audio.SampleRate, Channels: 1})
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	if err := voice.Listen(src, job.Audio, job.Limits.listener(job.Audio)); err != nil {
		return err
	}
	in.voice = voice
	heard := framesOf(voice.Duration(), in.rate)
	if columns := voice.MelFrames(); columns > 0 && job.LatentSync.Parity {
		heard = audio.Windows(columns / 2)
	}
	v := in.video.Video
	if v.IsPicture {
		in.mode, in.atLeast, in.cut, in.expected = media.Pad, heard, true, heard
		return nil
	}
	end := v.Start + v.Duration
	if job.End > 0 {
		end = min(end, job.End)
	}
	shown := max(0, in.rate.Frame(end)-in.rate.Frame(job.Start))
	switch known := v.Duration > 0; in.mode {
	case media.Pad:
		in.atLeast = heard
		if known {
			in.expected = max(heard, shown)
		}
	case media.Shortest:
		in.atLeast, in.cut = heard, true
		if known {
			in.expected = min(heard, shown)
		}
	default:
		in.atLeast, in.cut, in.expected = heard, true, heard
	}
	return nil
}

// framesOf is how many frames cover a sound, at least one.
func framesOf(duration float64, rate media.Rational) int64 {
	// The allowance keeps 4.0000001 s from taking a 101st frame.
	return max(1, int64(math.Ceil(duration*rate.Float()-1e-3)))
}

// render makes the frames.
func (in *inputs) render(ctx context.Context, job Job, nets *networks, r *reporter) (Result, error) {
	source, err := in.sequence(ctx, job)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = source.Close() }()

	engine := nets.engine.Name()
	sink, err := media.OpenSink(ctx, in.tools, job.Output, in.sinkOptions(job, engine))
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = sink.Close() }()
	if nets.journal != nil {
		if err := nets.journal.Note(sink.Temp()); err != nil {
			return Result{}, err
		}
	}

	p := pipeline.Pipeline{
		Format:   in.format,
		Source:   &bounded{seq: source, atLeast: in.atLeast, cut: in.cut, n: job.Part.lead(), first: job.Part.lead(), end: job.Part.tail(), most: job.Limits.Frames, path: job.Video},
		First:    job.Part.lead(),
		Wanted:   job.Part.wanted,
		Show:     newShow(job.Frame),
		Tracker:  nets.tracker,
		Engine:   nets.engine,
		Sink:     sink,
		Progress: r.frames,
	}
	r.stage(StageFrames)
	stats, err := p.Run(ctx)
	r.frames(stats) // also where it failed before a frame was written
	if err != nil {
		return Result{}, err
	}
	if stats.NoFace == stats.Frames && job.Part == nil {
		hint := "the face must be at least 32 pixels wide and not turned away"
		if n, err := strconv.Atoi(job.Face); err == nil && n > 1 {
			hint = fmt.Sprintf("perhaps there are fewer than %d faces: try --face largest", n)
		}
		return Result{}, fault.NoFace.New("find a face in "+job.Video, fmt.Sprintf("no usable face in any of %d frames", stats.Frames), hint)
	}
	in.warnings(job, source, stats, r)
	r.stage(StageFinish)
	if err := sink.Commit(); err != nil {
		return Result{}, err
	}
	if nets.journal != nil {
		if err := nets.journal.Remove(); err != nil {
			r.warn(err.Error()) // the result is complete all the same
		}
	}
	v := in.video.Video
	return Result{
		Output: job.Output, Engine: engine, Frames: stats.Frames, NoFace: stats.NoFace, Cuts: stats.Cuts,
		FPS: in.rate.Float(), Width: v.Width, Height: v.Height, Duration: in.rate.Time(stats.Frames),
	}, nil
}

func (in *inputs) warnings(job Job, source *media.Sequence, stats pipeline.Stats, r *reporter) {
	if source.Short() {
		r.warn(fmt.Sprintf("%s: only %d frames could be read of those that the file promises: it may be cut off", job.Video, source.Length()))
	}
	if stats.NoFace > 0 {
		r.warn(fmt.Sprintf("%d of %d frames have no usable face and are unchanged", stats.NoFace, stats.Frames))
	}
}

func (in *inputs) sinkOptions(job Job, engine string) media.SinkOptions {
	o := media.SinkOptions{
		Format: in.format, Rate: in.rate, SampleAspect: in.video.Video.SampleAspect,
		Tags:  media.WorkingTags(*in.video.Video, in.format),
		Audio: in.audio, AudioTrack: in.audio.DefaultAudio(),
		Duration: in.rate.Time(cmp.Or(in.expected, in.atLeast)), // the sink puts it right
		Codec:    job.Codec, Preset: job.Preset,
		Overwrite: job.Overwrite, Inputs: []string{job.Video, job.Audio},
		// Who sees the video has a right to know that its mouth was made.
		Metadata: map[string]string{"comment": fmt.Sprintf("lip-synced by Lipstream %s, engine %s, seed %d", Version(), engine, job.Seed)},
	}
	if job.Part != nil {
		o.Audio, o.Duration = nil, 0 // the join adds it
	}
	if job.CRF != nil {
		o.CRF, o.Lossless = *job.CRF, *job.CRF == 0
	}
	return o
}

// bounded ends a sequence where the output ends.
type bounded struct {
	seq     *media.Sequence
	n       int64 // frames so far, of the whole output
	first   int64 // where the sequence begins in it
	end     int64 // before the output's; 0: none
	most    int64 // frames that a job may have; 0: any number
	path    string
	atLeast int64
	cut     bool
}

// passes is the length of the video in the output; 0 until its end was seen.
func (b *bounded) passes() int64 {
	if n := b.seq.Length(); n > 0 {
		return n + b.first
	}
	return 0
}

// Read implements pipeline.Source.
func (b *bounded) Read(f *frame.Frame) error {
	if b.end > 0 && b.n >= b.end {
		return io.EOF
	}
	if b.most > 0 && b.n >= b.most {
		return tooMany(b.path, b.most)
	}
	length := b.passes()
	if b.n >= b.atLeast && (b.cut || length > 0 && b.n >= length) {
		return io.EOF
	}
	if err := b.seq.Read(f); err != nil {
		return err
	}
	// Only now the sequence may know that its video has ended and that this
	// frame is a repetition.
	if length = b.passes(); !b.cut && length > 0 && b.n >= max(length, b.atLeast) {
		return io.EOF
	}
	b.n++
	return nil
}
