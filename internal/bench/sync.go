package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/runtimes"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/syncnet"
)

// SyncOptions configures Sync. Only Video is required.
type SyncOptions struct {
	Video  string        `arg:"" name:"OUT" help:"Video made by lipstream run."`
	Audio  string        `placeholder:"VOICE" help:"Audio file with the voice. Default: the sound of OUT."`
	Source string        `placeholder:"FACE" help:"Video or picture that OUT was made from, to compare the pixels outside the mouth."`
	Length string        `default:"pad" placeholder:"pad|loop|pingpong|shortest" help:"Same as in lipstream run."`
	Start  time.Duration `kong:"-"` // as given to lipstream run

	Deinterlace string `default:"auto" placeholder:"auto|yes|no" help:"Same as in lipstream run."`

	Face    string `default:"largest" placeholder:"largest|center|left|right|N" help:"Same as in lipstream run."`
	Backend string `default:"auto" placeholder:"auto|openvino|onnxruntime" help:"Runtime for the networks."`
	Threads int    `placeholder:"N" help:"CPU threads of the networks."`

	Identity string   `placeholder:"FILE.onnx" help:"Network that recognises faces, in ArcFace's layout, to compare the person with that of --source."`
	SyncNet  []string `name:"syncnet" placeholder:"FILE.onnx" help:"SyncNet to compute LSE-C and LSE-D with: one file, or two for lips and sound."`

	// Progress is called with the frames done and expected (0: not known).
	Progress func(done, expected int64) `kong:"-"`
}

// SyncReport is the result of Sync.
type SyncReport struct {
	Video  string  `json:"video"`
	Audio  string  `json:"audio"`
	Source string  `json:"source,omitempty"`
	FPS    float64 `json:"fps"`
	Results
	// Lags are the correlations by which the lag was chosen, from -8 to +8
	// frames; null where there is none.
	Lags []*float64 `json:"lags"`
	// Curves with one value per frame: the aperture that the mesh measured (null
	// without a face), the one that the voice calls for, and the envelope.
	Aperture []*float64 `json:"aperture"`
	Wanted   []*float64 `json:"wanted"`
	Envelope []*float64 `json:"envelope"`
	// Flicker of each frame in levels, at the border of the mask, on the skin and of the mouth;
	// null where it was not measured. Likeness is the SSIM with the source's face, without the
	// mouth, and absent without a source.
	Flicker  [places][]*float64 `json:"flicker"`
	Likeness []*float64         `json:"likeness,omitempty"`
}

// WriteTable writes the figures.
func (r *SyncReport) WriteTable(w io.Writer) error { return WriteTable(w, r.Figures) }

// Missed implements Report. The video is not what it should be, whatever
// program has made it.
func (r *SyncReport) Missed() error { return missed(fault.Input, Missed(r.Figures)) }

// Sync measures on a finished video how well the lips follow the voice and how
// much the face flickers and, given the source, whether anything but the mouth was
// changed and whether the person stays the same. It holds a few frames; only a few
// numbers for each frame grow with the length of the video.
func Sync(ctx context.Context, o SyncOptions) (*SyncReport, error) {
	nets, err := runtimes.Open(ctx, runtimes.Choice{Backend: o.Backend, Device: "cpu"})
	if err != nil {
		return nil, err
	}
	defer func() { _ = nets.Close() }()
	return measure(ctx, nets, o)
}

// measure is Sync with an open backend.
func measure(ctx context.Context, nets backend.Backend, o SyncOptions) (*SyncReport, error) {
	if o.Identity != "" && o.Source == "" {
		return nil, fault.Field("identity", "", "there is no source to compare with", "set `source` to the file that the video was made from")
	}
	tools, err := media.FindTools(ctx)
	if err != nil {
		return nil, err
	}
	info, err := media.Probe(ctx, tools, o.Video)
	if err != nil {
		return nil, err
	}
	if err := info.NeedVideo(); err != nil {
		return nil, err
	}
	if info.Video.IsPicture {
		return nil, fault.Input.New("measure "+o.Video, "it is a picture", "choose a video made by lipstream run")
	}
	voice, voicePath := info, o.Video
	if o.Audio != "" {
		voicePath = o.Audio
		if voice, err = media.Probe(ctx, tools, o.Audio); err != nil {
			return nil, err
		}
	}
	sound, err := listen(ctx, tools, voicePath, voice)
	if err != nil {
		return nil, err
	}
	var net *syncnet.Network
	if len(o.SyncNet) > 0 {
		if net, err = syncnet.Open(ctx, nets, o.SyncNet, o.Threads); err != nil {
			return nil, err
		}
		defer func() { _ = net.Close() }()
	}
	s := &syncRun{o: o, tools: tools, nets: nets, rate: info.Video.FrameRate, flicker: newFlicker(), warped: [2]*aligned{newAligned(), newAligned()}}
	if err := s.frames(ctx, info); err != nil {
		return nil, err
	}
	curves := newSoundCurves(sound, s.rate, len(s.aperture))
	figures, lag := lipFigures(s.aperture, curves)
	report := &SyncReport{
		Video: o.Video, Audio: voicePath, Source: o.Source, FPS: s.rate.Float(),
		Lags: nullable(lag.r), Aperture: nullable(s.aperture), Wanted: nullable(curves.wanted), Envelope: nullable(curves.envelope),
	}
	if o.Source != "" {
		figures = append(append(figures, s.pixels.figures()...), s.identity.figures()...)
		report.Likeness = nullable(s.identity.likeness)
	}
	figures = append(figures, flickerFigures(s.flicker, s.before)...)
	for i, v := range s.flicker.frames {
		report.Flicker[i] = nullable(v)
	}
	if net != nil {
		scores, err := s.lse(ctx, net, info, voicePath, voice)
		if err != nil {
			return nil, err
		}
		figures = append(figures, lseFigures(scores)...)
	}
	report.Figures = figures
	return report, nil
}

// nullable turns NaN, which JSON cannot express, into null.
func nullable(v []float64) []*float64 {
	out := make([]*float64, len(v))
	for i, x := range v {
		if !math.IsNaN(x) {
			rounded := math.Round(x*1e5) / 1e5
			out[i] = &rounded
		}
	}
	return out
}

// listen analyses the voice in the same way as a job.
func listen(ctx context.Context, tools media.Tools, path string, info *media.Info) (*audio.Voice, error) {
	if err := info.NeedAudio(); err != nil {
		return nil, err
	}
	src, err := media.OpenAudio(ctx, tools, path, info, info.DefaultAudio(), audio.SampleRate)
	if err != nil {
		return nil, err
	}
	defer func() { _ = src.Close() }()
	v, err := audio.NewVoice("", audio.Needs{Mouths: true})
	if err != nil {
		return nil, err
	}
	return v, v.Listen(src, path)
}

// syncRun goes through the frames of one video.
type syncRun struct {
	o        SyncOptions
	tools    media.Tools
	nets     backend.Backend
	rate     media.Rational
	aperture []float64 // NaN where no face was seen
	pixels   pixels
	places   []place
	flicker  *flicker
	warped   [2]*aligned // a frame and that of the source

	// Nil without a source.
	before   *flicker // of the source
	identity *identity
}

// frames measures all frames of the video.
func (s *syncRun) frames(ctx context.Context, info *media.Info) error {
	v := info.Video
	format := media.WorkingFormat(*v)
	var source *walker
	if s.o.Source != "" {
		var err error
		if source, format, err = s.openSource(ctx, v); err != nil {
			return err
		}
		defer source.close()
		s.before, s.identity = newFlicker(), new(identity)
		if s.o.Identity != "" {
			if s.identity.embedder, err = openEmbedder(ctx, s.nets, s.o.Identity, s.o.Threads); err != nil {
				return err
			}
			defer func() { _ = s.identity.embedder.session.Close() }()
		}
	}
	reader, err := media.OpenVideo(ctx, s.tools, s.o.Video, info, media.VideoOptions{Format: format, Rate: s.rate})
	if err != nil {
		return err
	}
	out, err := newWalker(ctx, s.nets, s.o.Face, s.o.Threads, reader, format)
	if err != nil {
		return err
	}
	defer out.close()
	mesh, err := face.NewMesh(ctx, s.nets, s.o.Threads)
	if err != nil {
		return err
	}
	defer func() { _ = mesh.Close() }()
	s.pixels = newPixels(format)
	for {
		t, err := out.next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		a, err := aperture(ctx, mesh, t)
		if err != nil {
			return err
		}
		s.aperture = append(s.aperture, a)
		original := face.Tracked{}
		if source != nil {
			if original, err = source.next(ctx); err != nil {
				return err
			}
			s.pixels.compare(original, t.Frame)
		}
		if err := s.faces(ctx, t, original); err != nil {
			return err
		}
		if source != nil {
			source.release(original.Frame)
		}
		out.release(t.Frame)
		if s.o.Progress != nil {
			s.o.Progress(int64(len(s.aperture)), v.Frames)
		}
	}
	if len(measured(s.aperture)) == 0 {
		return fault.NoFace.New("find a face in "+s.o.Video, fmt.Sprintf("no usable face in any of %d frames", len(s.aperture)))
	}
	return nil
}

// faces measures what is measured in the template: a frame beside that of the source, or alone.
func (s *syncRun) faces(ctx context.Context, out, source face.Tracked) error {
	s.places = append(s.places, placeOf(out.Face))
	seen := func(t face.Tracked) bool { return t.Face != nil && !t.Face.Bridged }
	if s.before == nil {
		if !seen(out) {
			s.flicker.skip()
			return nil
		}
		s.warped[0].load(out.Frame, out.Face.Align)
		s.flicker.add(s.warped[0], out.Face.Track, partsOf(out.Face))
		return nil
	}
	if !seen(source) {
		s.flicker.skip()
		s.before.skip()
		s.identity.skip()
		return nil
	}
	for i, f := range [2]*frame.Frame{out.Frame, source.Frame} {
		s.warped[i].load(f, source.Face.Align)
	}
	parts := partsOf(source.Face, out.Face)
	s.flicker.add(s.warped[0], source.Face.Track, parts)
	s.before.add(s.warped[1], source.Face.Track, parts)
	if !seen(out) {
		s.identity.skip()
		return nil
	}
	return s.identity.add(ctx, source, out, s.warped[1], s.warped[0], parts)
}

// openSource opens the source, to be read beside the video frame by frame. Both
// are then read in the source's format.
func (s *syncRun) openSource(ctx context.Context, v *media.VideoInfo) (*walker, frame.Format, error) {
	info, err := media.Probe(ctx, s.tools, s.o.Source)
	if err != nil {
		return nil, frame.Format{}, err
	}
	if err := info.NeedVideo(); err != nil {
		return nil, frame.Format{}, err
	}
	if info.Video.Width != v.Width || info.Video.Height != v.Height {
		return nil, frame.Format{}, fault.Input.New("compare "+s.o.Source, fmt.Sprintf("it has %dx%d pixels, the video %dx%d", info.Video.Width, info.Video.Height, v.Width, v.Height), "give the file that the video was made from")
	}
	length := s.o.Length
	if length == "" || info.Video.IsPicture {
		length = media.Pad.String()
	}
	mode, err := media.ParseMode(length)
	if err != nil {
		return nil, frame.Format{}, err
	}
	if mode == media.Shortest {
		mode = media.Pad // the video ends anyway, and one more frame must not end the comparison
	}
	format := media.WorkingFormat(*info.Video)
	seq, err := media.NewSequence(ctx, s.tools, s.o.Source, info,
		media.VideoOptions{Format: format, Rate: s.rate, Start: s.o.Start, Deinterlace: media.DeinterlaceFor(info.Video, s.o.Deinterlace)}, mode)
	if err != nil {
		return nil, frame.Format{}, err
	}
	w, err := newWalker(ctx, s.nets, s.o.Face, s.o.Threads, seq, format)
	return w, format, err
}

// minPresence is the mesh's own score below which its points mean nothing.
const minPresence = 0.5

// aperture returns the distance between the inner lips (13-14) divided by that
// between the outer eye corners (33-263). The tracker provides the face and its
// place. The points are measured again in this frame alone, because the
// tracker's are smoothed over time, which flatters a still mouth and blunts a
// quick one. The depth of the eye corners counts, so that a turned head does not
// make the mouth look more open; the depth of the lips is not used.
func aperture(ctx context.Context, mesh *face.Mesh, t face.Tracked) (float64, error) {
	if t.Face == nil || t.Face.Bridged {
		return math.NaN(), nil
	}
	var dx, dy, eyes, n float64
	for _, look := range face.Looks(face.ROIFromPoints(t.Face.Points)) {
		p, score, err := mesh.Landmarks(ctx, t.Frame, look)
		if err != nil {
			return 0, err
		}
		if score < minPresence {
			continue
		}
		// The mean of the vectors, not of their lengths: noise does not average
		// out in lengths, which have no sign.
		dx, dy, n = dx+p[13].X-p[14].X, dy+p[13].Y-p[14].Y, n+1
		eyes += math.Hypot(math.Hypot(p[33].X-p[263].X, p[33].Y-p[263].Y), p[33].Z-p[263].Z)
	}
	if n == 0 || eyes == 0 {
		return math.NaN(), nil
	}
	return math.Hypot(dx, dy) / eyes, nil
}
