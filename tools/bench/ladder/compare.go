package ladder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/lipstream/lipstream/internal/backend/runtimes"
	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

// findRegions finds the region that the engine generates in each frame of the first
// window of the clip.
func (l *ladder) findRegions(ctx context.Context) error {
	nets, err := runtimes.Open(ctx, runtimes.Choice{Backend: l.Backend, Device: "cpu"})
	if err != nil {
		return err
	}
	defer func() { _ = nets.Close() }()
	clip, err := lab.OpenVideo(ctx, l.tools, l.clip.Video, &l.format)
	if err != nil {
		return err
	}
	l.regions, err = bench.Regions(ctx, nets, clip, l.format, l.Frames, l.Threads)
	return err
}

// psnr compares the luma of the generated region in two outputs over the frames of one
// window, in dB. exact reports whether all samples of all planes are equal.
func (l *ladder) psnr(ctx context.Context, base, out string) (db float64, exact bool, err error) {
	var sides [2]*media.VideoSource
	var frames [2]*frame.Frame
	paths := [2]string{base, out}
	for i, path := range paths {
		v, err := lab.OpenVideo(ctx, l.tools, path, &l.format)
		if err != nil {
			return 0, false, err
		}
		defer func() { _ = v.Close() }() // only read from
		sides[i], frames[i] = v, frame.New(l.format)
	}
	var inside bench.ErrorSum
	for n, region := range l.regions {
		for i, path := range paths {
			if err := sides[i].Read(frames[i]); errors.Is(err, io.EOF) {
				return 0, false, fault.Internal.New("compare "+path, fmt.Sprintf("it ends after %d of %d frames", n, l.Frames))
			} else if err != nil {
				return 0, false, err
			}
		}
		_, in := bench.Difference(frames[0], frames[1], region)
		inside.Add(in)
	}
	return inside.Luma(l.format.Depth), inside.Exact(), nil
}

// LoopResult is the time and memory of the original's loop in PyTorch.
type LoopResult struct {
	lab.Timing
	DType       string  `json:"dtype"`
	WindowSteps int     `json:"window_steps"`
	Seconds     float64 `json:"seconds_per_window"` // all steps at the median time of one
}

// loop measures the original's loop, unless the work folder has its result.
func (l *ladder) loop(ctx context.Context) (*LoopResult, error) {
	args := []string{"--checkpoint", l.unet, "--steps", strconv.Itoa(l.Steps), "--steps-measured", strconv.Itoa(l.PeerSteps),
		"--frames", strconv.Itoa(l.Frames), "--latent", strconv.Itoa(l.Resolution / network.PublishedVAE().Factor()), "--threads", strconv.Itoa(cmp.Or(l.Threads, runtime.NumCPU()))}
	text := ""
	for _, name := range []string{lab.LoopScript, lab.TorchScript, "measure.py"} {
		b, err := os.ReadFile(filepath.Join(l.PeerScripts, name))
		if err != nil {
			return nil, fault.Missing.Wrap("read the scripts in "+l.PeerScripts, err, "set `peer_scripts` to the folder tools/peers")
		}
		text += string(b)
	}
	path := filepath.Join(l.Work, "loop.json")
	return cached(path, path, textSum(append([]string{l.sum, l.Peers, text}, args...)...), func() (*LoopResult, error) {
		l.progress(fmt.Sprintf("PyTorch: %d of %d steps", l.PeerSteps+1, l.Steps))
		r := &LoopResult{}
		if err := l.Peer.Run(ctx, r, lab.LoopScript, args...); err != nil {
			return nil, err
		}
		if r.Seconds <= 0 {
			return nil, fault.Internal.New("read the result of "+lab.LoopScript, "it has no times")
		}
		l.progress(fmt.Sprintf("PyTorch: %.2f s per window", r.Seconds))
		return r, nil
	})
}
