// Package musetalk measures MuseTalk's networks.
package musetalk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

// goalTorch is the most time of a frame relative to PyTorch, each in its best precision and
// with its best number of frames.
const goalTorch = 0.9

// Options configures Measure.
type Options struct {
	Models    string              `required:"" placeholder:"FOLDER" help:"Folder with the checkpoints: lipstream models synth --engine musetalk --size full --with taesd."`
	Backend   []string            `default:"openvino" placeholder:"openvino,onnxruntime" help:"Runtimes of the networks."`
	Precision []backend.Precision `default:"f32" placeholder:"f32,bf16" help:"Precisions of the arithmetic."`
	Decoder   []string            `default:"full,tiny" placeholder:"full,tiny" help:"The VAE's decoder, TAESD's, or both."`
	Frames    []int               `default:"1,2,4,8" placeholder:"N" help:"Frames per call."`
	Latent    int                 `default:"32" placeholder:"N" help:"Width and height of the latents: 32 for 256 pixels."`
	Steps     int                 `default:"3" placeholder:"N" help:"Calls to time, after one to warm up."`
	Threads   int                 `placeholder:"N" help:"CPU threads, also for PyTorch. Default: one per processor."`
	lab.Peer
}

// Row is the result of one implementation for one configuration. Times are in seconds.
type Row struct {
	settings
	Precision backend.Precision `json:"precision"`
	Decoder   string            `json:"decoder"`
	Frames    int               `json:"frames"` // per call
	Warmup    times             `json:"warmup"`
	Steps     []times           `json:"steps"`
	// The medians for one frame.
	UNet   float64 `json:"unet_seconds_per_frame"`
	Decode float64 `json:"decoder_seconds_per_frame"`
	Both   float64 `json:"seconds_per_frame"`
	CPU    float64 `json:"cpu_seconds_per_frame"`
	lab.Memory
	ToTorch     *ratios `json:"to_torch,omitempty"`
	LoadAverage float64 `json:"load_average"` // of the machine, when the configuration was done
}

// ratios are the medians of the ratios of each step to the step of PyTorch after it.
type ratios struct {
	UNet    float64 `json:"unet"`
	Decoder float64 `json:"decoder"`
	Both    float64 `json:"both"`
	CPU     float64 `json:"cpu"`
}

// Report is the result of Measure.
type Report struct {
	Machine bench.Machine `json:"machine"`
	Models  string        `json:"models"`
	Latent  int           `json:"latent"`
	Threads int           `json:"threads"`
	// Published reports whether the UNet has the published topology.
	Published bool  `json:"published"`
	Rows      []Row `json:"rows"`
	bench.Results
}

// Measure measures the UNet and the decoder for all configurations, each in a process of its
// own. With Peers, PyTorch makes the same frames, and the calls of all processes alternate,
// so that a change of the machine's speed meets all of them.
func (o Options) Measure(ctx context.Context, progress lab.Progress) (*Report, error) {
	err := cmp.Or(lab.In("latent", o.Latent, 16, 128), lab.In("steps", o.Steps, 1, 1000), lab.In("threads", o.Threads, 0, 1024), o.Peer.Check(lab.MuseTalkScript))
	if err != nil {
		return nil, err
	}
	o.Threads = cmp.Or(o.Threads, runtime.NumCPU())
	set, err := models.Find(o.Models, models.MuseTalk)
	if err != nil {
		return nil, err
	}
	r := &Report{Machine: bench.ThisMachine(media.Tools{}), Models: o.Models, Latent: o.Latent, Threads: o.Threads}
	if r.Published, err = published(set.UNet); err != nil {
		return nil, err
	}
	for _, p := range o.Precision {
		if p != backend.F32 {
			for _, file := range []string{set.UNet, set.VAE} {
				if _, err := models.Prepare(ctx, file, p.DType(), nil); err != nil {
					return nil, err
				}
			}
		}
		for _, decoder := range o.Decoder {
			file := map[string]string{"full": set.VAE, "tiny": set.TAESDDecoder}[decoder]
			if file == "" {
				return nil, fault.Field("decoder", strconv.Quote(decoder), "is not in the folder "+o.Models, "choose from full,tiny")
			}
			for _, n := range o.Frames {
				rows, err := o.together(ctx, progress, Row{Precision: p, Decoder: decoder, Frames: n}, set.UNet, file)
				if err != nil {
					return nil, err
				}
				r.Rows = append(r.Rows, rows...)
			}
		}
	}
	r.finish()
	return r, nil
}

// together measures a configuration with all implementations.
func (o Options) together(ctx context.Context, progress lab.Progress, config Row, unet, vae string) ([]Row, error) {
	own, err := os.Executable()
	if err != nil {
		return nil, fault.Internal.Wrap("find this program", err)
	}
	common := []string{"--frames", strconv.Itoa(config.Frames), "--latent", strconv.Itoa(o.Latent), "--threads", strconv.Itoa(o.Threads), "--unet", unet, "--vae", vae}
	var commands []*exec.Cmd
	for _, b := range o.Backend {
		commands = append(commands, exec.Command(own, append([]string{"musetalk-step", "--backend", b, "--precision", string(config.Precision)}, common...)...))
	}
	if o.Peers != "" {
		commands = append(commands, exec.Command(o.Peers, append([]string{filepath.Join(o.PeerScripts, lab.MuseTalkScript), "time", "--dtype", string(config.Precision), "--decoder", config.Decoder}, common...)...))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends those that still run
	rows, steppers := make([]Row, len(commands)), make([]*lab.Stepper, len(commands))
	for i, c := range commands {
		rows[i] = config
		if steppers[i], err = lab.StartStepper(ctx, c, &rows[i].settings); err != nil {
			return nil, err
		}
	}
	for k := range 1 + o.Steps {
		for i, s := range steppers {
			var t times
			if err := s.Step(&t); err != nil {
				return nil, err
			}
			progress(fmt.Sprintf("%s, %s, %s, %d frames per call: UNet %.3f s, decoder %.3f s", rows[i].name(), config.Precision, config.Decoder, config.Frames, t.UNet, t.Decoder))
			if k == 0 {
				rows[i].Warmup = t
			} else {
				rows[i].Steps = append(rows[i].Steps, t)
			}
		}
	}
	for i, s := range steppers {
		if rows[i].Memory, err = s.Close(); err != nil {
			return nil, err
		}
		rows[i].finish()
		if torch := rows[len(rows)-1]; o.Peers != "" && i < len(rows)-1 {
			rows[i].ToTorch = compare(rows[i].Steps, torch.Steps)
		}
	}
	return rows, nil
}

func (t times) unet() float64    { return t.UNet }
func (t times) decoder() float64 { return t.Decoder }
func (t times) both() float64    { return t.UNet + t.Decoder }
func (t times) cpu() float64     { return t.CPU }

// published reports whether a UNet has the published topology.
func published(unet string) (bool, error) {
	f, err := checkpoint.Open(unet)
	if err != nil {
		return false, err
	}
	config, err := network.DetectMuseTalk(f)
	return slices.Equal(config.Channels, network.PublishedMuseTalk().Channels), errors.Join(err, f.Close())
}
