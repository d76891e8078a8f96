package ladder

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

// LoopResult is what the original's loop took in PyTorch. Memory is in bytes.
type LoopResult struct {
	Peer          string    `json:"peer"`
	Version       string    `json:"version"`
	DType         string    `json:"dtype"`
	Frames        int       `json:"frames"`
	Latent        int       `json:"latent"`
	Load          float64   `json:"load_seconds"`
	StepSeconds   []float64 `json:"step_seconds"`
	Median        float64   `json:"median_step_seconds"`
	Steps         int       `json:"window_steps"`
	Seconds       float64   `json:"seconds_per_window"` // the median step's, so many times
	PeakRSS       int64     `json:"peak_rss_bytes"`
	AnonymousPeak int64     `json:"peak_rss_anon_bytes"`
}

// loop times the original's loop, unless the work folder has it.
func (l *ladder) loop(ctx context.Context) (*LoopResult, error) {
	threads := l.Threads
	if threads == 0 {
		threads = runtime.NumCPU()
	}
	args := []string{"--checkpoint", l.unet, "--steps", strconv.Itoa(l.Steps), "--steps-measured", strconv.Itoa(l.PeerSteps),
		"--frames", strconv.Itoa(l.Frames), "--latent", strconv.Itoa(l.Resolution / latentFactor), "--threads", strconv.Itoa(threads)}
	text := ""
	for _, name := range []string{lab.LoopScript, lab.TorchScript, "measure.py"} {
		b, err := os.ReadFile(filepath.Join(l.PeerScripts, name))
		if err != nil {
			return nil, fault.Missing.Wrap("read the peer "+l.PeerScripts, err, "set `peer_scripts` to the folder tools/bench/peers")
		}
		text += string(b)
	}
	var kept struct {
		Key  string      `json:"key"`
		Loop *LoopResult `json:"loop"`
	}
	path, key := filepath.Join(l.Work, "loop.json"), textSum(append([]string{l.sum, l.Peers, text}, args...)...)
	if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &kept) == nil && kept.Key == key && kept.Loop != nil {
		return kept.Loop, nil
	}
	l.Progress(fmt.Sprintf("PyTorch: %d of %d steps", l.PeerSteps+1, l.Steps))
	r := &LoopResult{}
	if err := l.Peer.Run(ctx, r, lab.LoopScript, args...); err != nil {
		return nil, err
	}
	if r.Seconds <= 0 {
		return nil, fault.Internal.New("read the result of "+lab.LoopScript, "it has no times")
	}
	l.Progress(fmt.Sprintf("PyTorch: %.2f s per window", r.Seconds))
	kept.Key, kept.Loop = key, r
	return r, keep(path, kept)
}

// latentFactor is the width of a latent in pixels, in the published VAE.
const latentFactor = 8
