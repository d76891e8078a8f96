// Package talker makes a video of a head that talks with a wide open mouth.
package talker

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"image/png"
	"math"

	"github.com/lipstream/lipstream/internal/backend/runtimes"
	"github.com/lipstream/lipstream/internal/bench/ffmpeg"
	"github.com/lipstream/lipstream/internal/bench/scene"
	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/face/talker"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/testdata/demo"
)

// Options configures a video.
type Options struct {
	Output  string  `arg:"" name:"OUT" help:"The video to write."`
	Width   int     `default:"1080" help:"Width of the video, pixels."`
	Height  int     `default:"1920" help:"Height of the video, pixels."`
	Face    float64 `default:"640" help:"Width of the portrait's face, pixels."`
	Seconds float64 `default:"6" help:"Length of the video."`
	Turn    float64 `help:"Degrees by which the head is turned."`
	Gap     float64 `default:"0.34" help:"Widest opening, in distances between the outer eye corners."`
}

// Run makes the video.
func (o *Options) Run(ctx context.Context) error {
	m, err := png.Decode(bytes.NewReader(demo.Portrait))
	if err != nil {
		return fault.Internal.Wrap("read the demo's portrait", err)
	}
	picture := scene.FromImage(m)
	points, err := find(ctx, picture)
	if err != nil {
		return err
	}
	head := talker.New(picture, points)
	tools, err := media.FindTools(ctx)
	if err != nil {
		return err
	}
	cmd := ffmpeg.Command(tools, "-f", "rawvideo", "-pix_fmt", "rgb24",
		"-s", fmt.Sprintf("%dx%d", o.Width, o.Height), "-r", "25", "-i", "-", "-vf", "scale=out_color_matrix=bt709,format=yuv420p,noise=alls=4:allf=t",
		"-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-c:v", "libx264", "-preset", "veryfast", "-crf", "16", o.Output)
	op := "write the video " + o.Output
	in, err := cmd.StdinPipe()
	if err != nil {
		return fault.Internal.Wrap(op, err)
	}
	p, err := child.Start(ctx, cmd, 0)
	if err != nil {
		return fault.Internal.Wrap(op, err)
	}
	var writeErr error
	dst := frame.NewRGB(o.Width, o.Height)
	for i := 0; i < int(o.Seconds*25) && writeErr == nil; i++ {
		look := talker.Talk(i, o.Gap)
		look.Yaw += o.Turn * math.Pi / 180
		look.View = head.View(i, o.Width, o.Height, o.Face)
		head.Draw(dst, look)
		_, writeErr = in.Write(dst.Pix)
	}
	_ = in.Close()
	// Why ffmpeg ended says more than that it reads no more.
	return fault.Output.Wrap(op, cmp.Or(p.Wait(), writeErr), "check the path and the size of the video")
}

func find(ctx context.Context, picture *frame.RGB) ([]face.Point, error) {
	nets, err := runtimes.Open(ctx, runtimes.Choice{Device: "cpu"})
	if err != nil {
		return nil, err
	}
	defer func() { _ = nets.Close() }()
	d, err := face.NewDetector(ctx, nets, 1)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	mesh, err := face.NewMesh(ctx, nets, 1)
	if err != nil {
		return nil, err
	}
	defer func() { _ = mesh.Close() }()
	found, err := d.Level(ctx, picture, 0, 0)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fault.Internal.New("find the face in the demo's portrait", "the detector sees none")
	}
	roi := face.ROIFromDetection(found[0])
	var points []face.Point
	for range 4 {
		if points, _, err = mesh.Landmarks(ctx, picture, roi); err != nil {
			return nil, err
		}
		roi = face.ROIFromPoints(points)
	}
	return points, nil
}
