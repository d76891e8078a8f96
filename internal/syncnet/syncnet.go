// Package syncnet measures with the user's SyncNet how well lips follow a voice: LSE-C
// and LSE-D, as Wav2Lip's evaluation does (Chung and Zisserman, Out of time: automated
// lip sync in the wild, 2016; github.com/joonson/syncnet_python;
// github.com/Rudrabha/Wav2Lip, evaluation/scores_LSE).
package syncnet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/tensor"
)

const (
	// Rate is the frame rate that SyncNet needs.
	Rate       = 25
	sampleRate = 16000
	// FrameSamples is the number of samples in the time of a frame.
	FrameSamples = sampleRate / Rate

	clip    = 5                       // frames that a window shows
	columns = 20                      // MFCC columns of a window
	step    = sampleRate / hop / Rate // columns from one window to the next
	held    = clip + 1                // frames until the sound of a window is complete
)

// The inputs of the network.
var (
	lipShape   = []int{1, 3, clip, cropSide, cropSide}
	soundShape = []int{1, 1, coefficients, columns}
)

// Network is a SyncNet.
type Network struct {
	parts      []part
	lip, sound *tensor.Tensor
}

// part is a file with one of the network's streams, or both.
type part struct {
	session    backend.Session
	lip, sound ports
}

// ports holds the names of the input and the output of a stream; empty if the file does
// not have it.
type ports struct{ in, out string }

// Open loads a SyncNet from ONNX files: one with both streams, or one for each. The lips
// are an input of 1x3x5x224x224, and the sound is one of 1x1x13x20. An input's output is
// at the same position among the outputs.
func Open(ctx context.Context, b backend.Backend, files []string, threads int) (_ *Network, err error) {
	n := &Network{lip: tensor.New(tensor.F32, lipShape...), sound: tensor.New(tensor.F32, soundShape...)}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	op := "open the SyncNet " + strings.Join(files, " and ")
	const hint = "give one ONNX file with the inputs 1x3x5x224x224 and 1x1x13x20, or one for each"
	lips, sounds := 0, 0
	for _, file := range files {
		if err := backend.CheckFile("open the SyncNet "+file, file); err != nil {
			return nil, err
		}
		s, err := b.Load(ctx, backend.Model{Name: "SyncNet", Path: file}, backend.Options{Device: "cpu", Precision: backend.F32, Threads: threads})
		if err != nil {
			return nil, fault.Input.Wrap("open the SyncNet "+file, err, hint)
		}
		n.parts = append(n.parts, part{session: s})
		p := &n.parts[len(n.parts)-1]
		in, out := s.Inputs(), s.Outputs()
		if len(in) != len(out) {
			return nil, fault.Input.New("open the SyncNet "+file, fmt.Sprintf("it has %d inputs and %d outputs", len(in), len(out)), hint)
		}
		for i := range in {
			switch f32 := in[i].DType == tensor.F32 && out[i].DType == tensor.F32; {
			case f32 && in[i].Accepts(lipShape):
				p.lip = ports{in[i].Name, out[i].Name}
				lips++
			case f32 && in[i].Accepts(soundShape):
				p.sound = ports{in[i].Name, out[i].Name}
				sounds++
			default:
				return nil, fault.Input.New("open the SyncNet "+file, fmt.Sprintf("the input %q is %v of shape %v", in[i].Name, in[i].DType, in[i].Shape), hint)
			}
		}
	}
	if lips != 1 || sounds != 1 {
		return nil, fault.Input.New(op, fmt.Sprintf("there are %d inputs for the lips and %d for the sound", lips, sounds), hint)
	}
	return n, nil
}

// Close frees the network.
func (n *Network) Close() (err error) {
	for _, p := range n.parts {
		err = errors.Join(err, p.session.Close())
	}
	return err
}

// embed returns the embeddings of the network's input tensors.
func (n *Network) embed(ctx context.Context) (lip, sound []float32, err error) {
	for _, p := range n.parts {
		in := map[string]*tensor.Tensor{}
		if p.lip.in != "" {
			in[p.lip.in] = n.lip
		}
		if p.sound.in != "" {
			in[p.sound.in] = n.sound
		}
		out, err := p.session.Run(ctx, in)
		if err != nil {
			return nil, nil, fault.Internal.Wrap("run the SyncNet", err)
		}
		if p.lip.out != "" {
			lip = out[p.lip.out].F32()
		}
		if p.sound.out != "" {
			sound = out[p.sound.out].F32()
		}
	}
	if len(lip) != len(sound) || tensor.NotFinite(lip)+tensor.NotFinite(sound) > 0 {
		return nil, nil, fault.Input.New("run the SyncNet", fmt.Sprintf("its embeddings have %d and %d values, or some are not finite", len(lip), len(sound)), "give both streams of the same network")
	}
	return lip, sound, nil
}

// Stretch scores successive frames that show one face.
type Stretch struct {
	net    *Network
	mfcc   mfcc
	crops  []*frame.RGB // from the next window on
	sound  []column     // same
	scores *scorer
}

// NewStretch begins a stretch of frames.
func (n *Network) NewStretch() *Stretch { return &Stretch{net: n, scores: newScorer()} }

// Push adds a frame: the crop of its face, and its FrameSamples samples of the voice at
// 16 kHz.
func (s *Stretch) Push(ctx context.Context, crop *frame.RGB, sound []int16) error {
	s.crops = append(s.crops, crop)
	s.sound = append(s.sound, s.mfcc.write(sound)...)
	if len(s.crops) < held {
		return nil
	}
	s.fill()
	lip, heard, err := s.net.embed(ctx)
	if err != nil {
		return err
	}
	s.scores.add(slices.Clone(lip), slices.Clone(heard))
	s.crops, s.sound = s.crops[1:], s.sound[step:]
	return nil
}

// fill writes the next window into the network's inputs: the crops as planes of blue,
// green and red in 0..255, and the columns side by side.
func (s *Stretch) fill() {
	lip, sound := s.net.lip.F32(), s.net.sound.F32()
	const plane = cropSide * cropSide
	for i, crop := range s.crops[:clip] {
		for k := range plane {
			for c := range 3 {
				lip[((2-c)*clip+i)*plane+k] = float32(crop.Pix[3*k+c])
			}
		}
	}
	for i, column := range s.sound[:columns] {
		for n, v := range column {
			sound[n*columns+i] = v
		}
	}
}

// Score returns the result after the last frame; ok is false if there were fewer than six.
func (s *Stretch) Score() (result Score, ok bool) { return s.scores.score() }
