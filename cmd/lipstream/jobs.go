package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/client"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/queue"
)

type jobsCmd struct {
	serverFlags
	State string `placeholder:"queued|running|done|failed|cancelled" enum:",queued,running,done,failed,cancelled" default:"" help:"List only jobs in this state."`
	Limit int    `default:"50" placeholder:"N" help:"List at most N jobs, newest first."`
	JSON  bool   `name:"json" help:"Print each job as a line of JSON."`
}

// Run implements lipstream jobs.
func (j *jobsCmd) Run(ctx context.Context, c *console) error {
	cl, err := j.client()
	if err != nil {
		return err
	}
	all, err := cl.Jobs(ctx, j.State, j.Limit)
	if err != nil {
		return err
	}
	if j.JSON {
		for _, job := range all {
			if err := printLine(c, job); err != nil {
				return err
			}
		}
		return nil
	}
	t := newTable(c, "JOB", "STATE", "PRIORITY", "ENGINE", "CREATED", "PROGRESS", "NAME")
	for _, job := range all {
		t.line(job.ID, string(job.State), string(job.Priority), job.Engine,
			job.Created.Local().Format(time.DateTime), progressOf(job), cmp.Or(job.Spec.Name, job.Video.Name))
	}
	return t.close("print jobs")
}

// progressOf summarizes the progress of a job in a few words.
func progressOf(j client.Job) string {
	switch p := j.Progress; {
	case j.State == queue.Failed && j.Problem != nil:
		return oneLine(j.Problem.Message, 60)
	case j.State == queue.Done && j.Result != nil:
		return fmt.Sprintf("%d frames in %.1f s", j.Result.Frames, j.Ended.Sub(j.Started).Seconds())
	case j.State != queue.Running || p == nil:
		return ""
	case p.Phase == lipstream.PhaseFrames && p.Frames > 0:
		return fmt.Sprintf("%d of %d frames", p.Frame, p.Frames)
	default:
		return p.Phase
	}
}

type cancelCmd struct {
	serverFlags
	Job []string `arg:"" help:"IDs of the jobs to cancel."`
}

// Run implements lipstream cancel.
func (x *cancelCmd) Run(ctx context.Context, c *console) error {
	return x.each(x.Job, func(cl *client.Client, id string) error {
		j, err := cl.Job(ctx, id)
		if err != nil {
			return err
		}
		if j.State.Ended() {
			return fault.Usage.New("cancel job "+id, "it is already "+string(j.State))
		}
		return cl.Delete(ctx, id)
	})
}

type logsCmd struct {
	serverFlags
	Job    string `arg:"" help:"ID of the job."`
	Follow bool   `short:"f" help:"Keep printing events until the job ends."`
	JSON   bool   `name:"json" help:"Print the events as JSON lines."`
}

// Run implements lipstream logs.
func (l *logsCmd) Run(ctx context.Context, c *console) error {
	cl, err := l.client()
	if err != nil {
		return err
	}
	show := eventsTo(func(e lipstream.Event, data string) error {
		line := data
		if !l.JSON {
			line = logLine(e)
		}
		_, err := fmt.Fprintln(c.Out, line)
		return fault.Output.Wrap("print events", err)
	})
	if l.Follow {
		return cl.Events(ctx, l.Job, "", show)
	}
	return cl.PastEvents(ctx, l.Job, show)
}

// logLine formats an event as a line of text.
func logLine(e lipstream.Event) string {
	line := e.Time.Local().Format(time.DateTime) + "  " + e.Type
	switch e.Type {
	case lipstream.EventPhase:
		line += "  " + e.Phase
	case lipstream.EventProgress:
		line += fmt.Sprintf("  %s  frame %d of %d, %.1f fps", e.Phase, e.Frame, e.Frames, e.FPS)
	case lipstream.EventStart:
		line += "  " + e.Engine
	}
	if e.Message != "" {
		line += "  " + e.Message
	}
	if e.Hint != "" {
		line += " (" + e.Hint + ")"
	}
	return oneLine(line, maxErrorLine)
}

type retryCmd struct {
	serverFlags
	Job []string `arg:"" help:"IDs of failed or cancelled jobs; finished parts are kept."`
}

// Run implements lipstream retry.
func (r *retryCmd) Run(ctx context.Context, c *console) error {
	return r.each(r.Job, func(cl *client.Client, id string) error { return cl.Retry(ctx, id) })
}
