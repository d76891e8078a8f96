package bench

import (
	"bytes"
	"context"
	"fmt"
	"image"
	_ "image/jpeg" // pictures of users
	_ "image/png"  // pictures of users
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/runtimes"
	"github.com/lipstream/lipstream/internal/bench/scene"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/testdata/demo"
)

// FacesOptions configures Faces.
type FacesOptions struct {
	Pictures []string `arg:"" optional:"" name:"PICTURE" help:"PNG or JPEG pictures of one frontal face each. Default: the demo's portrait."`
	Only     string   `placeholder:"TEXT" help:"Only cases whose group or name contains this text."`
	Sheet    string   `placeholder:"FILE" help:"Write a PNG with one frame of each case, and the face found in it."`
	Backend  string   `default:"auto" placeholder:"auto|openvino|onnxruntime" help:"Runtime for the networks."`
	Threads  int      `placeholder:"N" help:"CPU threads of the networks."`

	// Progress is called before each case.
	Progress func(line string) `kong:"-"`
}

// FacesCase is the result of one case.
type FacesCase struct {
	Picture string `json:"picture"`
	Group   string `json:"group"`
	Name    string `json:"name"`
	Want    string `json:"want"` // whether it "must", "may" or "must not" be found
	Frames  int    `json:"frames"`
	Found   int    `json:"found"` // frames in which a usable face was found
	// Outside counts the frames in which a part of the lips lies outside the face.
	Outside int `json:"outside"`
	// Error is the mean distance of the landmarks from where they are, Mouth that of the
	// outer edge of the lips, in % of the distance between the outer corners of the eyes;
	// null if nothing was found or there is no face.
	Error *float64 `json:"error"`
	Mouth *float64 `json:"mouth"`
	Limit float64  `json:"limit"` // of Error
	OK    bool     `json:"ok"`
}

// FacesReport is the result of Faces.
type FacesReport struct {
	Results
	Cases []FacesCase `json:"cases"`
	own   bool        // the pictures are the user's
}

// Missed implements Report. A missed goal is a defect of Lipstream only if it is missed on the
// demo's picture; another one may be too poor.
func (r *FacesReport) Missed() error {
	var names []string
	for _, c := range r.Cases {
		if !c.OK {
			names = append(names, c.Group+": "+c.Name)
		}
	}
	if r.own {
		return missed(fault.Input, names)
	}
	return missed(fault.Internal, names)
}

// WriteTable writes the cases, and the figures below them.
func (r *FacesReport) WriteTable(w io.Writer) error {
	rows := [][]string{{"group", "case", "find", "found", "landmarks off", "lips off", "outside the face", ""}}
	percent := func(v *float64) string {
		if v == nil {
			return "-"
		}
		return Format(*v, Percent)
	}
	for _, c := range r.Cases {
		verdict := "ok"
		if !c.OK {
			verdict = "FAIL"
		}
		rows = append(rows, []string{
			c.Group, c.Name, c.Want, fmt.Sprintf("%d of %d", c.Found, c.Frames),
			percent(c.Error), percent(c.Mouth), fmt.Sprint(c.Outside), verdict,
		})
	}
	if err := WriteRows(w, rows); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return WriteTable(w, r.Figures)
}

// Faces follows the face in clips that it makes out of a picture, in which the landmarks
// are known. It measures whether the face is found, how far its landmarks are off, and
// whether a mouth would be drawn outside of it.
func Faces(ctx context.Context, o FacesOptions) (*FacesReport, error) {
	return o.measure(ctx, func() (backend.Backend, error) {
		nets, err := runtimes.Open(ctx, runtimes.Choice{Backend: o.Backend, Device: "cpu"})
		return nets, err
	})
}

// measure is Faces with a backend that it closes.
func (o FacesOptions) measure(ctx context.Context, open func() (backend.Backend, error)) (*FacesReport, error) {
	cases := slices.DeleteFunc(scene.Cases(), func(c scene.Case) bool { return !strings.Contains(c.Group+": "+c.Name, o.Only) })
	if len(cases) == 0 {
		return nil, fault.Usage.New("measure faces", "no case contains "+strconv.Quote(o.Only), "leave `only` out to see the names of all cases")
	}
	names, pictures, err := o.pictures()
	if err != nil {
		return nil, err
	}
	tools, err := media.FindTools(ctx)
	if err != nil {
		return nil, err
	}
	nets, err := open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = nets.Close() }()
	r := &facesRun{o: o, tools: tools, report: FacesReport{own: len(o.Pictures) > 0}}
	if r.mesh, err = face.NewMesh(ctx, nets, o.Threads); err != nil {
		return nil, err
	}
	defer func() { _ = r.mesh.Close() }()
	if r.tracker, err = face.NewTracker(ctx, nets, face.Options{Threads: o.Threads}); err != nil {
		return nil, err
	}
	defer func() { _ = r.tracker.Close() }()
	for i, p := range pictures {
		subject, err := r.subject(ctx, names[i], p)
		if err != nil {
			return nil, err
		}
		for _, c := range cases {
			if o.Progress != nil {
				o.Progress(c.Group + ": " + c.Name)
			}
			if err := r.measure(ctx, names[i], subject, c); err != nil {
				return nil, err
			}
		}
	}
	r.report.Figures = facesFigures(r.report.Cases)
	if o.Sheet != "" {
		if err := r.sheet.write(o.Sheet); err != nil {
			return nil, err
		}
	}
	return &r.report, nil
}

// facesFigures sums up the cases.
func facesFigures(cases []FacesCase) []Figure {
	var errors, mouths []float64
	var passed, found, wanted, outside float64
	for _, c := range cases {
		if c.OK {
			passed++
		}
		if c.Want == wantNames[scene.Find] {
			found, wanted = found+float64(c.Found), wanted+float64(c.Frames)
		}
		outside += float64(c.Outside)
		if c.Error != nil {
			errors, mouths = append(errors, *c.Error), append(mouths, *c.Mouth)
		}
	}
	return []Figure{
		{Key: "passed", Name: "cases that reach their goals", Value: 100 * passed / float64(len(cases)), Unit: Percent, Min: new(100.0)},
		{Key: "found", Name: "frames with a face in which it is found", Value: 100 * found / wanted, Unit: Percent},
		{Key: "outside", Name: "frames with a mouth outside the face", Value: outside, Unit: Frames, Max: new(0.0)},
		{Key: "error", Name: "error of the landmarks, median of the cases", Value: percentile(errors, 0.5), Unit: Percent,
			Note: "100 % is the distance between the outer corners of the eyes"},
		{Key: "mouth", Name: "error of the lips, median of the cases", Value: percentile(mouths, 0.5), Unit: Percent},
	}
}

// wantNames are the words for scene.Want.
var wantNames = map[scene.Want]string{scene.Find: "must", scene.May: "may", scene.Refuse: "must not"}

// pictures reads the pictures.
func (o FacesOptions) pictures() (names []string, pictures []*frame.RGB, err error) {
	read := func(name string, data []byte) error {
		m, _, err := image.Decode(bytes.NewReader(data))
		if err != nil {
			return fault.Input.Wrap("read the picture "+name, err, "choose a PNG or JPEG picture")
		}
		names, pictures = append(names, name), append(pictures, scene.FromImage(m))
		return nil
	}
	if len(o.Pictures) == 0 {
		err := read("portrait", demo.Portrait)
		return names, pictures, err
	}
	for _, path := range o.Pictures {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, fault.Input.Wrap("read the picture "+path, fault.WithoutPath(err))
		}
		if err := read(filepath.Base(path), data); err != nil {
			return nil, nil, err
		}
	}
	return names, pictures, nil
}

// facesRun measures the clips of one picture after another.
type facesRun struct {
	o       FacesOptions
	tools   media.Tools
	mesh    *face.Mesh
	tracker *face.Tracker
	report  FacesReport
	sheet   sheet
}

// subject finds the landmarks of the picture, as the mean of several looks.
func (r *facesRun) subject(ctx context.Context, name string, p *frame.RGB) (scene.Subject, error) {
	found, err := r.track(ctx, []*frame.Frame{toFrame(p)})
	if err != nil {
		return scene.Subject{}, err
	}
	if found[0] == nil {
		return scene.Subject{}, fault.NoFace.New("find the face in "+name, "it has none that can be used", "choose a picture of a frontal face")
	}
	s := scene.Subject{Image: p, Points: make([]face.Point, face.Points)}
	looks := face.Looks(face.ROIFromPoints(found[0].Points))
	for _, look := range looks {
		points, _, err := r.mesh.Landmarks(ctx, p, look)
		if err != nil {
			return scene.Subject{}, err
		}
		n := float64(len(looks))
		for i, q := range points {
			s.Points[i].X += q.X / n
			s.Points[i].Y += q.Y / n
			s.Points[i].Z += q.Z / n
		}
	}
	return s, nil
}

// track follows the face through a clip of its own.
func (r *facesRun) track(ctx context.Context, frames []*frame.Frame) ([]*face.Face, error) {
	var out []*face.Face
	take := func(ready []face.Tracked, err error) error {
		for _, t := range ready {
			out = append(out, t.Face)
		}
		return err
	}
	for _, f := range frames {
		if err := take(r.tracker.Push(ctx, f)); err != nil {
			return nil, err
		}
	}
	return out, take(r.tracker.Flush(ctx))
}

// measure follows the face through one clip.
func (r *facesRun) measure(ctx context.Context, name string, subject scene.Subject, c scene.Case) error {
	shots, err := c.Shots(ctx, r.tools, subject)
	if err != nil {
		return err
	}
	var frames []*frame.Frame
	for _, s := range shots {
		frames = append(frames, toFrame(s.Image))
	}
	found, err := r.track(ctx, frames)
	if err != nil {
		return err
	}
	out := FacesCase{Picture: name, Group: c.Group, Name: c.Name, Want: wantNames[c.Want], Frames: len(shots), Limit: 100 * c.Limit}
	var points, lips float64
	for i, f := range found {
		if f == nil {
			continue
		}
		out.Found++
		truth := shots[i].Points
		if truth == nil || scene.Outside(f.Points, truth) > 0 {
			out.Outside++
		}
		if truth != nil {
			points += meanDistance(f.Points, truth, nil) / scene.Eyes(truth)
			lips += meanDistance(f.Points, truth, scene.Lips) / scene.Eyes(truth)
		}
	}
	if out.Found > 0 && c.Want != scene.Refuse {
		out.Error, out.Mouth = new(100*points/float64(out.Found)), new(100*lips/float64(out.Found))
	}
	out.OK = out.Outside == 0 && (out.Error == nil || *out.Error <= out.Limit) && (c.Want != scene.Find || out.Found == out.Frames)
	r.report.Cases = append(r.report.Cases, out)
	if r.o.Sheet != "" {
		k := len(shots) / 2
		r.sheet.add(shots[k].Image, found[k], out)
	}
	return nil
}

// meanDistance returns the mean distance between the points of two meshes, of those with
// the given indices; nil means all.
func meanDistance(a, b []face.Point, indices []int) (sum float64) {
	if indices == nil {
		for i := range a {
			indices = append(indices, i)
		}
	}
	for _, i := range indices {
		sum += math.Hypot(a[i].X-b[i].X, a[i].Y-b[i].Y)
	}
	return sum / float64(len(indices))
}

// toFrame converts an image to a frame as a decoder would return it.
func toFrame(p *frame.RGB) *frame.Frame {
	f := frame.New(frame.Format{Width: p.W, Height: p.H, ShiftX: 1, ShiftY: 1, Depth: 8, Matrix: frame.BT709})
	opaque := make([]float32, p.W*p.H)
	for i := range opaque {
		opaque[i] = 1
	}
	f.Blend(p, opaque, frame.Affine{A: 1, E: 1})
	return f
}
