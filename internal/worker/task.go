package worker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/queue"
)

// patience is how long reporting a task's end to the queue may take.
const patience = 30 * time.Second

// do does a task and reports its end to the queue.
func (w *Worker) do(l *queue.Lease) {
	log := w.log.With("job", l.Job.ID, "task", l.Index, "kind", l.Task().Kind)
	log.Info("task: started", "attempt", l.Task().Attempts)
	ctx, cancel := context.WithCancelCause(l.Context())
	defer cancel(nil)
	defer context.AfterFunc(w.hard, func() { cancel(errDrained) })()
	t := &task{w: w, l: l, began: time.Now(), dir: filepath.Join(w.work, fmt.Sprintf("%s-%d", l.Job.ID, l.Index))}
	err := t.run(ctx)
	if removeErr := os.RemoveAll(t.dir); removeErr != nil {
		log.Warn("task: its folder could not be removed", "error", removeErr)
	}
	if err == nil {
		log.Info("task: done", "elapsed", time.Since(t.began).Round(time.Millisecond))
		return
	}
	end, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	cause := context.Cause(ctx)
	switch {
	case errors.Is(err, queue.ErrLost) || errors.Is(cause, queue.ErrLost):
		log.Warn("task: another worker has it")
		return
	case errors.Is(cause, queue.ErrCancelled):
		log.Info("task: cancelled")
		err = l.Cancelled(end)
	case errors.Is(cause, errDrained):
		log.Info("task: given back")
		err = l.Release(end)
	default:
		p := problem(err)
		if f, ok := errors.AsType[failure](err); ok {
			p = f.Problem
		}
		p.Message = t.byName(p.Message)
		log.Error("task: failed", "error", p.Message)
		err = l.Fail(end, *p, again(p))
	}
	if err != nil && !errors.Is(err, queue.ErrLost) {
		log.Error("task: its end could not be reported, so it will be done again", "error", err)
	}
}

// task is a running task.
type task struct {
	w     *Worker
	l     *queue.Lease
	dir   string
	began time.Time

	names []string  // pairs of path and name of the inputs
	shown time.Time // when progress was last reported
	phase string
}

// run does the task and reports success to the queue.
func (t *task) run(ctx context.Context) error {
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return fault.Output.Wrap("make the folder "+t.dir, fault.WithoutPath(err))
	}
	job := t.l.Job.Spec.Job()
	job.Engine, job.Limits, job.Overwrite = t.l.Job.Engine, t.w.o.Limits, true
	for _, in := range []struct {
		media queue.Media
		to    *string
	}{{t.l.Job.Video, &job.Video}, {t.l.Job.Audio, &job.Audio}} {
		path, release, err := t.input(ctx, in.media)
		if err != nil {
			return err
		}
		defer release()
		*in.to = path
		t.names = append(t.names, path, in.media.Name)
	}
	switch t.l.Task().Kind {
	case queue.KindPart:
		return t.part(ctx, job)
	case queue.KindJoin:
		return t.join(ctx, job)
	}
	return t.whole(ctx, job)
}

// byName replaces the paths of the inputs with the names that the client knows.
func (t *task) byName(message string) string {
	return strings.NewReplacer(t.names...).Replace(message)
}

func (t *task) input(ctx context.Context, m queue.Media) (string, func(), error) {
	if m.Path != "" {
		return m.Path, func() {}, nil
	}
	return t.w.cache.get(ctx, m.Object)
}

// resultName returns the file name of the job's result.
func resultName(j queue.Job) string { return cmp.Or(filepath.Base(j.Spec.Name), "result.mp4") }

func (t *task) whole(ctx context.Context, job lipstream.Job) error {
	name := resultName(t.l.Job)
	job.Output = filepath.Join(t.dir, "result"+filepath.Ext(name))
	r := request{Op: opRun, Job: job}
	if s := t.l.Job.Spec.Split; s >= 0 {
		r.Every = cmp.Or(time.Duration(s*float64(time.Second)), t.w.o.Split)
	}
	var parts []queue.Part
	result, err := t.compute(ctx, r, func(p []queue.Part) { parts = p })
	if err != nil {
		return err
	}
	if parts != nil {
		return t.l.Split(ctx, parts)
	}
	return t.deliver(ctx, job.Output, name, result)
}

func (t *task) part(ctx context.Context, job lipstream.Job) error {
	p := lipstream.Part(*t.l.Task().Part)
	job.Part = &p
	job.Output = filepath.Join(t.dir, "part"+filepath.Ext(resultName(t.l.Job)))
	result, err := t.compute(ctx, request{Op: opRun, Job: job}, nil)
	if err != nil {
		return err
	}
	object := fmt.Sprintf("jobs/%s/part-%04d-%s%s", t.l.Job.ID, t.l.Index, t.l.ID(), filepath.Ext(job.Output))
	if _, err := t.put(ctx, object, job.Output); err != nil {
		return err
	}
	return t.l.DonePart(ctx, object, result.Frames, result.NoFace)
}

func (t *task) join(ctx context.Context, job lipstream.Job) error {
	name := resultName(t.l.Job)
	job.Output = filepath.Join(t.dir, "result"+filepath.Ext(name))
	r := request{Op: opJoin, Job: job}
	var objects []string
	var noFace, frames int64
	for _, p := range t.l.Job.Tasks {
		if p.Kind != queue.KindPart {
			continue
		}
		path, release, err := t.w.cache.get(ctx, p.Object)
		if err != nil {
			return err
		}
		defer release()
		noFace, frames = noFace+p.NoFace, frames+p.Frames
		r.Parts, objects = append(r.Parts, path), append(objects, p.Object)
	}
	if noFace == frames {
		return fault.NoFace.New("find a face in "+t.l.Job.Video.Name, fmt.Sprintf("no usable face in any of %d frames", frames),
			"the face must be at least 32 pixels wide and not turned away")
	}
	result, err := t.compute(ctx, r, nil)
	if err != nil {
		return err
	}
	result.NoFace = noFace
	if err := t.deliver(ctx, job.Output, name, result); err != nil {
		return err
	}
	for _, o := range objects {
		if err := t.w.o.Store.Delete(context.WithoutCancel(ctx), o); err != nil {
			t.w.log.Warn("task: a part could not be removed", "error", err)
		}
	}
	return nil
}

// compute waits for the memory that the task needs and runs its process.
func (t *task) compute(ctx context.Context, r request, split func([]queue.Part)) (result lipstream.Result, err error) {
	need, err := t.need(ctx, &r.Job)
	if err != nil {
		return result, err
	}
	if err := t.w.memory.Acquire(ctx, need); err != nil {
		return result, context.Cause(ctx)
	}
	t.w.change(func(i *queue.Worker) { i.Reserved += need })
	defer func() {
		t.w.memory.Release(need)
		t.w.change(func(i *queue.Worker) { i.Reserved -= need })
	}()
	err = t.w.ask(ctx, r, func(a answer) {
		switch {
		case a.Event != nil:
			t.event(ctx, *a.Event)
		case a.Frame != nil:
			if err := t.l.Frame(ctx, *a.Frame); err != nil {
				t.w.log.Debug("task", "error", err)
			}
		case a.Parts != nil && split != nil:
			split(a.Parts)
		case a.Result != nil:
			result = *a.Result
		}
	})
	return result, err
}

// The memory that the preview's process takes for any video, and the number of
// frames in its pipeline and its ffmpeg processes.
const (
	previewBytes  = 400 << 20
	previewFrames = 70
)

// need returns the memory to reserve for a task, in bytes. LatentSync plans with
// what it gets: it gets everything and runs alone, as its device is busy anyway.
func (t *task) need(ctx context.Context, job *lipstream.Job) (int64, error) {
	all := t.w.o.Memory
	if job.MemoryLimit > 0 {
		return min(all, int64(job.MemoryLimit)), nil
	}
	if t.l.Task().Kind != queue.KindJoin && job.Engine == lipstream.EngineLatentSync {
		job.MemoryLimit = lipstream.Size(all)
		return all, nil
	}
	tools, err := media.FindTools(ctx)
	if err != nil {
		return 0, err
	}
	info, err := media.Probe(ctx, tools, job.Video)
	if err != nil {
		return 0, err
	}
	if err := info.NeedVideo(); err != nil {
		return 0, err
	}
	frame := media.CodecFormat(*info.Video, job.Codec).Bytes()
	return min(all, previewBytes+previewFrames*int64(frame)), nil
}

// often is the least time between two progress events of a task.
const often = 500 * time.Millisecond

// event adds an event to the job's log. It skips progress that comes too often.
func (t *task) event(ctx context.Context, e lipstream.Event) {
	if e.Type == lipstream.EventProgress {
		last := e.Frames > 0 && e.Frame == e.Frames
		if time.Since(t.shown) < t.w.often && e.Phase == t.phase && !last {
			return
		}
		t.shown, t.phase = time.Now(), e.Phase
	}
	e.Message = t.byName(e.Message)
	b, err := json.Marshal(e)
	if err == nil {
		err = t.l.Event(ctx, b)
	}
	if err != nil && ctx.Err() == nil {
		t.w.log.Warn("task: an event is lost", "error", err)
	}
}

// put stores a file and returns its SHA-256.
func (t *task) put(ctx context.Context, object, path string) (sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fault.Internal.Wrap("read "+path, fault.WithoutPath(err))
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := t.w.o.Store.Put(ctx, object, io.TeeReader(f, h)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// deliver stores the result and ends the job.
func (t *task) deliver(ctx context.Context, path, name string, r lipstream.Result) error {
	object := fmt.Sprintf("jobs/%s/result-%s%s", t.l.Job.ID, t.l.ID(), filepath.Ext(path))
	sum, err := t.put(ctx, object, path)
	if err != nil {
		return err
	}
	st, err := os.Stat(path)
	if err != nil {
		return fault.Internal.Wrap("read "+path, fault.WithoutPath(err))
	}
	return t.l.Done(ctx, queue.Result{
		Object: object, Name: name, Size: st.Size(), SHA256: sum, Engine: r.Engine, Frames: r.Frames, NoFace: r.NoFace,
		FPS: r.FPS, Width: r.Width, Height: r.Height, Duration: float64(r.Frames) / max(r.FPS, 1),
		Elapsed: time.Since(t.began).Seconds(), MemoryPeak: r.MemoryPeak,
	})
}
