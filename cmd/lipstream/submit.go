package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/client"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/queue"
)

// serverFlags are the flags for connecting to a server.
type serverFlags struct {
	Server    string `default:"http://127.0.0.1:8448" env:"LIPSTREAM_SERVER" placeholder:"URL" help:"Address of the server."`
	TokenFile string `env:"LIPSTREAM_TOKEN_FILE" placeholder:"FILE" help:"File with the server's token."`

	tlsFlags
}

func (s serverFlags) client() (*client.Client, error) {
	token, err := readToken(s.TokenFile)
	if err != nil {
		return nil, err
	}
	secure, err := s.config(nil)
	if err != nil {
		return nil, err
	}
	c := &client.Client{Server: s.Server, Token: token}
	if secure != nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = secure
		c.HTTP = &http.Client{Transport: transport}
	}
	return c, nil
}

// each calls f for each job until it fails.
func (s serverFlags) each(ids []string, f func(cl *client.Client, id string) error) error {
	cl, err := s.client()
	for _, id := range ids {
		if err == nil {
			err = f(cl, id)
		}
	}
	return err
}

// readToken reads a token from a file; it returns "" if path is "".
func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fault.Usage.Wrap("read the token file "+path, fault.WithoutPath(err))
	}
	defer func() { _ = f.Close() }()
	// PowerShell and Notepad may write UTF-16, or UTF-8 with a byte order mark.
	b, err := io.ReadAll(transform.NewReader(f, unicode.BOMOverride(transform.Nop)))
	if err != nil {
		return "", fault.Usage.Wrap("read the token file "+path, fault.WithoutPath(err))
	}
	token := strings.TrimSpace(string(b))
	if len(token) < minToken || strings.ContainsAny(token, " \t\r\n") {
		return "", fault.Usage.New("read the token file "+path, fmt.Sprintf("the token must be one word of at least %d characters", minToken),
			"write a long random word into it, such as the output of openssl rand -hex 32")
	}
	return token, nil
}

// minToken is the shortest token that cannot be guessed.
const minToken = 16

type submitCmd struct {
	serverFlags
	Video string `required:"" placeholder:"FACE" help:"Video or picture of the face to upload."`

	voiceFlags

	Mask     string `placeholder:"FILE" help:"Picture or video to upload that says where FACE may change: where it is black, nothing changes; grey mixes."`
	OnServer bool   `help:"Take FACE, VOICE, the mask and the soundtrack as paths on the server, in one of its --root folders."`
	Output   string `short:"o" placeholder:"OUT" help:"Wait for the result and save it as OUT."`
	Wait     bool   `help:"Wait until the job ends and show its progress."`
	Name     string `placeholder:"NAME" help:"File name of the result; its extension selects the container. Default: the name of OUT, or that of the video with .mp4."`
	Priority string `default:"normal" enum:"high,normal,low" placeholder:"high|normal|low" help:"Jobs with a higher priority run first."`
	Split    string `default:"auto" placeholder:"auto|never|TIME" help:"Length of the parts into which a long video is split for several workers."`

	lipstream.Settings

	JSON      bool `name:"json" help:"Print the job and, with --wait, its events as JSON lines."`
	Quiet     bool `short:"q" help:"Print only errors."`
	Overwrite bool `short:"y" help:"Replace OUT if it exists."`
}

// spec returns the request without its inputs.
func (s *submitCmd) spec() (queue.Spec, error) {
	spec := queue.Spec{Name: s.Name, Priority: queue.Priority(s.Priority), Settings: s.Settings}
	for _, who := range s.Speaker {
		spec.Speakers = append(spec.Speakers, queue.Speaker{Face: who.Face})
	}
	if s.Soundtrack != "" {
		spec.Soundtrack = new(queue.Source)
	}
	if s.Mask != "" {
		spec.Mask = new(queue.Source)
	}
	if spec.Name == "" && s.Output != "" {
		spec.Name = filepath.Base(s.Output)
	}
	switch s.Split {
	case "auto":
	case "never":
		spec.Split = -1
	default:
		var t lipstream.Time
		if err := t.UnmarshalText([]byte(s.Split)); err != nil || t <= 0 {
			return spec, fault.Field("split", strconv.Quote(s.Split), "is not one of its values", "set it to auto, never or a time, such as 60")
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
	// Refuse what the server would refuse, before anything is uploaded.
	if err := spec.CheckRemote(); err != nil {
		return err
	}
	job := spec.Job(nil)
	job.Audio, job.Speakers = s.Audio, s.speakers()
	if s.Audio == "" && len(s.Speaker) == 0 {
		return fault.Field("audio", "", "is required", "name the voice")
	}
	if err := job.Check(); err != nil {
		return err
	}
	if _, err := os.Stat(s.Output); s.Output != "" && err == nil && !s.Overwrite {
		return fault.Output.New("write "+s.Output, "it already exists", "add `overwrite` to replace it")
	}
	paths := append([]string{s.Video}, s.files()...)
	if s.Mask != "" {
		paths = append(paths, s.Mask)
	}
	for i, in := range spec.Inputs() {
		path := paths[i]
		if s.OnServer {
			in.Path = path
			continue
		}
		bar := newByteBar(c)
		in.Upload, err = cl.Upload(ctx, path, func(sent, size int64) {
			if bar.redraws && !s.Quiet && !s.JSON {
				bar.show("upload "+filepath.Base(path), sent, size)
			}
		})
		bar.clear()
		if err != nil {
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

// followJob shows a job until it ends. It returns the error of the job if it
// failed.
func followJob(ctx context.Context, c *console, cl *client.Client, id string, asJSON, quiet bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	show := newReporter(c, asJSON, quiet, cancel)
	var failed error
	err := cl.Events(ctx, id, "", eventsTo(func(e lipstream.Event, _ string) error {
		if e.Type == lipstream.EventError {
			failed = &fault.Error{Kind: fault.Kind(e.ExitCode), Op: "job " + id, Err: errors.New(e.Message), Hint: e.Hint}
		}
		show.Observe(e)
		return nil
	}))
	if closeErr := show.Close(); closeErr != nil {
		err = closeErr // err is only its consequence
	}
	return errors.Join(err, failed)
}

// eventsTo returns a function for a client that calls f with each event of a job and
// its JSON. It skips changes of the job's state.
func eventsTo(f func(e lipstream.Event, data string) error) func(client.Event) error {
	return func(e client.Event) error {
		if e.Type == "state" {
			return nil
		}
		var v lipstream.Event
		if err := json.Unmarshal([]byte(e.Data), &v); err != nil {
			return fault.Internal.Wrap("read an event", err)
		}
		return f(v, e.Data)
	}
}
