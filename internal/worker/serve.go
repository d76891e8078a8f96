package worker

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"image/jpeg"
	"io"
	"slices"
	"sync"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/runtimes"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/queue"
)

// jpegQuality is the quality of frames that show a running job.
const jpegQuality = 75

// Serve runs in the process of a task: it reads a request from in, does it, and
// writes answers to out. It gives up when in ends. If the request fails, the error
// is an answer and Serve returns nil.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	line, err := lines.ReadBytes('\n')
	var r request
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err != nil {
		return fault.Usage.Wrap("read a task from standard input", err, "do not start it by hand: lipstream worker and lipstream serve do")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the process at the latest
		_, _ = io.Copy(io.Discard, lines)
		cancel()
	}()
	s := &session{out: json.NewEncoder(out), lost: cancel}
	last, err := s.do(ctx, r)
	if err != nil {
		last = answer{Error: problem(err)}
	}
	s.say(last)
	return nil
}

// session writes the answers.
type session struct {
	mu   sync.Mutex
	out  *json.Encoder
	lost func() // called when nobody reads the answers
}

func (s *session) say(a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out.Encode(a) != nil {
		s.lost()
	}
}

// do does what a request asks for and returns the last answer.
func (s *session) do(ctx context.Context, r request) (last answer, err error) {
	observe := lipstream.ObserverFunc(func(e lipstream.Event) { s.say(answer{Event: &e}) })
	switch r.Op {
	case opRun:
		if r.Every > 0 {
			parts, err := lipstream.Split(ctx, r.Job, r.Every)
			if err != nil || len(parts) > 1 {
				for _, p := range parts {
					last.Parts = append(last.Parts, queue.Part(p))
				}
				return last, err
			}
		}
		r.Job.Frame = s.frame
		result, err := lipstream.Run(ctx, r.Job, observe)
		return answer{Result: &result}, err
	case opJoin:
		result, err := lipstream.Join(ctx, r.Job, r.Parts, observe)
		return answer{Result: &result}, err
	case opEstimate:
		estimate, err := lipstream.DryRun(ctx, r.Job, nil)
		return answer{Estimate: &estimate}, err
	case opMachine:
		m, err := examine(ctx)
		return answer{Machine: &m}, err
	}
	return last, fault.Usage.New("do the task "+r.Op, "the operation is not known", "use the same version for worker and task")
}

// frame sends a frame of the running job.
func (s *session) frame(p lipstream.Picture) {
	var b bytes.Buffer
	if jpeg.Encode(&b, p.Image, &jpeg.Options{Quality: jpegQuality}) == nil {
		s.say(answer{Frame: &queue.Frame{Index: p.Index, JPEG: b.Bytes()}})
	}
}

// examine returns the engines and devices of this machine.
func examine(ctx context.Context) (machine, error) {
	var m machine
	var missing error
	for _, name := range []string{"openvino", "onnxruntime"} {
		o, err := runtimes.Open(ctx, runtimes.Choice{Backend: name, Device: "cpu", Plugins: true})
		var devices []backend.Device
		if err == nil {
			devices, err = o.Usable(ctx)
			_ = o.Close()
		}
		missing = cmp.Or(missing, err)
		for _, d := range devices {
			if d.Err == nil && !slices.ContainsFunc(m.Devices, func(o queue.Device) bool { return o.Name == d.ID }) {
				m.Devices = append(m.Devices, queue.Device{Name: d.ID, Backend: name, Detail: d.Name})
			}
		}
	}
	if len(m.Devices) == 0 {
		return m, missing
	}
	if gpus, err := (memory.Probe{}).GPUs(); err == nil {
		for _, g := range gpus {
			m.Devices = append(m.Devices, queue.Device{Name: g.ID(), Backend: g.Vendor, Detail: g.Name, Total: g.Total, Used: g.Used})
		}
	}
	m.Engines = lipstream.ReadyEngines(lipstream.Settings{})
	return m, nil
}
