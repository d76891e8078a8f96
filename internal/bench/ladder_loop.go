package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

// loopScript is the original's loop in tools/peers.
const loopScript = "loop.py"

// LoopResult is what the original's loop took in PyTorch: memory in bytes.
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
	script := filepath.Join(l.PeerScripts, loopScript)
	threads := l.Threads
	if threads == 0 {
		threads = runtime.NumCPU()
	}
	args := []string{script, "--checkpoint", l.unet, "--steps", strconv.Itoa(l.Steps), "--steps-measured", strconv.Itoa(l.PeerSteps),
		"--frames", strconv.Itoa(l.Frames), "--latent", strconv.Itoa(l.Resolution / latentFactor), "--threads", strconv.Itoa(threads)}
	text := ""
	for _, name := range []string{loopScript, torchScript, "measure.py"} {
		b, err := os.ReadFile(filepath.Join(l.PeerScripts, name))
		if err != nil {
			return nil, fault.Missing.Wrap("read the peer "+l.PeerScripts, err, "give --peer-scripts tools/peers")
		}
		text += string(b)
	}
	var kept struct {
		Key  string      `json:"key"`
		Loop *LoopResult `json:"loop"`
	}
	path, key := filepath.Join(l.dir, "loop.json"), textSum(append([]string{l.sum, l.Peers, text}, args...)...)
	if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &kept) == nil && kept.Key == key && kept.Loop != nil {
		return kept.Loop, nil
	}
	l.Progress(fmt.Sprintf("PyTorch: %d of %d steps", l.PeerSteps+1, l.Steps))
	cmd := exec.CommandContext(ctx, l.Peers, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Cancel = func() error { return interrupt(cmd.Process) }
	cmd.WaitDelay = 10 * time.Second
	ownGroup(cmd)
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, fault.Cancelled.Wrap("measure", ctx.Err())
	}
	if err != nil {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return nil, fault.Missing.Wrap("run the peer "+script, fmt.Errorf("%w: %s", err, lines[len(lines)-1]),
			"make the Python environment with tools/peers/setup.sh PATH and give --peers PATH/bin/python")
	}
	r := &LoopResult{}
	if err := json.Unmarshal(stdout.Bytes(), r); err != nil || r.Seconds <= 0 {
		return nil, fault.Internal.New("read the result of "+script, fmt.Sprintf("%q has no times", stdout.String()))
	}
	l.Progress(fmt.Sprintf("PyTorch: %.2f s per window", r.Seconds))
	kept.Key, kept.Loop = key, r
	return r, keep(path, kept)
}

// latentFactor is how many pixels a latent is wide, in the published VAE.
const latentFactor = 8
