package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/client"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/queue"
)

// serverFlags say which server a client command asks.
type serverFlags struct {
	Server    string `default:"http://127.0.0.1:8448" env:"LIPSTREAM_SERVER" placeholder:"URL" help:"Where lipstream serve is."`
	TokenFile string `env:"LIPSTREAM_TOKEN_FILE" placeholder:"FILE" help:"File with the server's token."`
}

func (s serverFlags) client() (*client.Client, error) {
	token, err := readToken(s.TokenFile)
	return &client.Client{Server: s.Server, Token: token}, err
}

// readToken reads a secret from a file; "" without one.
func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fault.Usage.Wrap("read the token in "+path, fault.WithoutPath(err))
	}
	token := strings.TrimSpace(string(b))
	if len(token) < minToken || strings.ContainsAny(token, " \t\r\n") {
		return "", fault.Usage.New("read the token in "+path, fmt.Sprintf("it has to be one word of at least %d characters", minToken),
			"make one: openssl rand -hex 32 > "+path)
	}
	return token, nil
}

// minToken keeps tokens from being guessed.
const minToken = 16

type submitCmd struct {
	serverFlags
	Video    string `required:"" placeholder:"FACE" help:"Video or picture of the face; it is uploaded."`
	Audio    string `required:"" placeholder:"VOICE" help:"The voice; it is uploaded."`
	OnServer bool   `help:"FACE and VOICE are paths of the server, under one of its --root folders."`
	Output   string `short:"o" placeholder:"OUT" help:"Wait for the result and write it here."`
	Wait     bool   `help:"Wait for the end of the job and show its progress."`
	Name     string `placeholder:"NAME" help:"What the result is called; the extension chooses the container. Default: that of OUT, or the video's with .mp4."`
	Priority string `default:"normal" enum:"high,normal,low" placeholder:"high|normal|low" help:"Jobs of a higher one go first."`
	Split    string `default:"auto" placeholder:"auto|never|TIME" help:"How long the parts are into which a long video is split for several workers."`

	Engine  string   `default:"auto" placeholder:"auto|preview|latentsync" help:"What makes the mouth."`
	FPS     string   `name:"fps" placeholder:"RATE" help:"Output frame rate."`
	Length  string   `placeholder:"pad|loop|pingpong|shortest" help:"When video and audio differ in length."`
	Start   timeFlag `placeholder:"TIME" help:"Use the video from here."`
	End     timeFlag `placeholder:"TIME" help:"Use the video up to here."`
	Face    string   `placeholder:"largest|center|left|right|N" help:"Which face speaks."`
	Codec   string   `placeholder:"CODEC" help:"As of lipstream run."`
	CRF     *int     `name:"crf" placeholder:"N" help:"Constant rate factor."`
	Preset  string   `placeholder:"NAME" help:"Encoder's speed."`
	Seed    *int64   `placeholder:"N" help:"Seed of the random numbers. Default: 1247."`
	Profile string   `group:"LatentSync" placeholder:"auto|quality|balanced|speed|lowmem" help:"As of lipstream run."`
	Steps   int      `group:"LatentSync" placeholder:"N" help:"Denoising steps."`
	Sampler string   `group:"LatentSync" placeholder:"ddim|dpm++" help:"Sampler."`
	Scale   float64  `group:"LatentSync" name:"guidance" placeholder:"SCALE" help:"Classifier-free guidance."`
	Silence string   `group:"LatentSync" placeholder:"speak|hold|pass" help:"In pauses of speech."`
	Limit   sizeFlag `name:"memory-limit" placeholder:"SIZE" help:"The most memory that the job may use."`

	JSON      bool `name:"json" help:"Print the job, and with --wait its events, as JSON lines."`
	Quiet     bool `short:"q" help:"Print errors only."`
	Overwrite bool `short:"y" help:"Replace an existing OUT."`
}

// spec is the request, but for its inputs.
func (s *submitCmd) spec() (queue.Spec, error) {
	spec := queue.Spec{
		Name: s.Name, Priority: queue.Priority(s.Priority),
		Engine: s.Engine, FPS: s.FPS, Length: s.Length, Start: time.Duration(s.Start).Seconds(), End: time.Duration(s.End).Seconds(),
		Face: s.Face, Codec: s.Codec, CRF: s.CRF, Preset: s.Preset, Seed: s.Seed,
		Profile: s.Profile, Steps: s.Steps, Sampler: s.Sampler, Guidance: s.Scale, Silence: s.Silence, MemoryLimit: int64(s.Limit),
	}
	if spec.Name == "" && s.Output != "" {
		spec.Name = filepath.Base(s.Output)
	}
	switch s.Split {
	case "auto":
	case "never":
		spec.Split = -1
	default:
		var t timeFlag
		if err := t.UnmarshalText([]byte(s.Split)); err != nil || t <= 0 {
			return spec, fault.Usage.New("option --split "+s.Split, "is not known", "write auto, never or a time, such as 60")
		}
		spec.Split = time.Duration(t).Seconds()
	}
	return spec, nil
}

// Run implements lipstream submit.
func (s *submitCmd) Run(ctx context.Context, c *console) error {
	cl, err := s.client()
	if err != nil {
		return err
	}
	spec, err := s.spec()
	if err != nil {
		return err
	}
	if _, err := os.Stat(s.Output); s.Output != "" && err == nil && !s.Overwrite {
		return fault.Output.New("write "+s.Output, "it exists", "add --overwrite to replace it")
	}
	for _, in := range []struct {
		path string
		to   *queue.Source
	}{{s.Video, &spec.Video}, {s.Audio, &spec.Audio}} {
		if s.OnServer {
			in.to.Path = in.path
			continue
		}
		var tell func(sent, size int64)
		if isTerminal(c.Err) && !s.Quiet && !s.JSON {
			var bar *progressbar.ProgressBar
			tell = func(sent, size int64) {
				if bar == nil {
					bar = progressbar.NewOptions64(size, progressbar.OptionSetWriter(c.Err), progressbar.OptionShowBytes(true),
						progressbar.OptionSetDescription("upload "+filepath.Base(in.path)), progressbar.OptionClearOnFinish())
				}
				_ = bar.Set64(sent)
			}
		}
		if in.to.Upload, err = cl.Upload(ctx, in.path, tell); err != nil {
			return err
		}
	}
	j, err := cl.Submit(ctx, spec)
	if err != nil {
		return err
	}
	if s.JSON {
		if err := printLine(c, j); err != nil {
			return err
		}
	} else if !s.Quiet || !s.Wait && s.Output == "" {
		if _, err := fmt.Fprintln(c.Out, j.ID); err != nil {
			return fault.Output.Wrap("print the job "+j.ID, err)
		}
	}
	if !s.Wait && s.Output == "" {
		return nil
	}
	if err := followJob(ctx, c, cl, j.ID, s.JSON, s.Quiet); err != nil {
		return err
	}
	if s.Output != "" {
		return cl.Fetch(ctx, j.ID, s.Output, s.Overwrite)
	}
	return nil
}

// followJob shows a job until its end, and is its error where it has one.
func followJob(ctx context.Context, c *console, cl *client.Client, id string, asJSON, quiet bool) error {
	kind, w := chooseReporter(c, asJSON, quiet)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	show := newReporter(kind, w, reporterOptions{Lost: cancel})
	var failed error
	err := cl.Events(ctx, id, "", func(e client.Event) error {
		if e.Type == "state" {
			return nil
		}
		var v lipstream.Event
		if err := json.Unmarshal([]byte(e.Data), &v); err != nil {
			return fault.Internal.Wrap("read an event of job "+id, err)
		}
		if v.Type == lipstream.EventError {
			failed = &fault.Error{Kind: fault.Kind(v.ExitCode), Op: "job " + id, Err: errors.New(v.Message), Hint: v.Hint}
		}
		show.Observe(v)
		return nil
	})
	if closeErr := show.Close(); closeErr != nil && err == nil {
		err = fault.Output.Wrap("print events", closeErr)
	}
	return errors.Join(err, failed)
}
