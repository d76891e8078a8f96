package worker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/mask"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/queue"
)

// reportTimeout is how long reporting a task's end to the queue may take.
const reportTimeout = 30 * time.Second

// do does a task and reports its end to the queue.
func (w *Worker) do(l *queue.Lease) {
	log := w.log.With("job", l.Job.ID, "task", l.Index, "kind", l.Task().Kind)
	log.Info("task: started", "attempt", l.Task().Attempts)
	ctx, cancel := context.WithCancelCause(l.Context())
	defer cancel(nil)
	defer context.AfterFunc(w.drained, func() { cancel(errDrained) })()
	t := &task{w: w, l: l, began: time.Now(), dir: filepath.Join(w.work, fmt.Sprintf("%s-%d", l.Job.ID, l.Index))}
	err := t.run(ctx)
	if removeErr := disk.RemoveAll(t.dir); removeErr != nil {
		log.Warn("task: its folder could not be removed", "error", removeErr)
	}
	if err == nil {
		log.Info("task: done", "elapsed", time.Since(t.began).Round(time.Millisecond))
		return
	}
	end, stop := context.WithTimeout(context.Background(), reportTimeout)
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
		p.Message = t.byName(p.Message)
		log.Error("task: failed", "error", p.Message)
		err = l.Fail(end, *p, retryable(p))
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
	var paths []string
	for _, in := range t.l.Job.Inputs() {
		path, release, err := t.input(ctx, in)
		if err != nil {
			return err
		}
		defer release()
		paths, t.names = append(paths, path), append(t.names, path, in.Name)
	}
	job := t.l.Job.Spec.Job(paths)
	job.Engine, job.Limits, job.Overwrite = t.l.Job.Engine, t.w.o.Limits, true
	job.Output = filepath.Join(t.dir, "output"+filepath.Ext(t.l.Job.Spec.Name))
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
	return t.w.cache.Get(ctx, m.Object)
}

func (t *task) whole(ctx context.Context, job lipstream.Job) error {
	r := request{Op: opRun, Job: job}
	if s := t.l.Job.Spec.Split; s >= 0 {
		r.Every = cmp.Or(time.Duration(s*float64(time.Second)), t.w.o.Split)
	}
	a, err := t.compute(ctx, r)
	if err != nil {
		return err
	}
	if a.Parts != nil {
		return t.l.Split(ctx, a.Parts)
	}
	return t.deliver(ctx, job.Output, *a.Result)
}

func (t *task) part(ctx context.Context, job lipstream.Job) error {
	job.Part = new(lipstream.Part(*t.l.Task().Part))
	a, err := t.compute(ctx, request{Op: opRun, Job: job})
	if err != nil {
		return err
	}
	stored, err := t.put(ctx, fmt.Sprintf("part-%04d", t.l.Index), job.Output)
	if err != nil {
		return err
	}
	return t.l.DonePart(ctx, stored.Object, *a.Result)
}

func (t *task) join(ctx context.Context, job lipstream.Job) error {
	r := request{Op: opJoin, Job: job}
	var objects []string
	var noFace, frames int64
	var seen []lipstream.SpeakerReport
	for _, p := range t.l.Job.Tasks {
		if p.Kind != queue.KindPart {
			continue
		}
		path, release, err := t.w.cache.Get(ctx, p.Object)
		if err != nil {
			return err
		}
		defer release()
		noFace, frames = noFace+p.NoFace, frames+p.Frames
		if seen == nil {
			seen = make([]lipstream.SpeakerReport, len(p.Speakers))
		}
		for i, s := range p.Speakers {
			seen[i].Face, seen[i].Frames, seen[i].NoFace = s.Face, seen[i].Frames+s.Frames, seen[i].NoFace+s.NoFace
		}
		r.Parts, objects = append(r.Parts, path), append(objects, p.Object)
	}
	if noFace == frames {
		return fault.NoFace.New("find a face in "+t.l.Job.Video.Name, fmt.Sprintf("no usable face in any of %d frames", frames),
			"the face must be at least 32 pixels wide and not turned away")
	}
	if err := job.CheckSeen(seen); err != nil {
		return err
	}
	a, err := t.compute(ctx, r)
	if err != nil {
		return err
	}
	a.Result.NoFace, a.Result.Speakers = noFace, seen
	if err := t.deliver(ctx, job.Output, *a.Result); err != nil {
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
func (t *task) compute(ctx context.Context, r request) (answer, error) {
	need, err := t.need(ctx, &r.Job)
	if err != nil {
		return answer{}, err
	}
	if err := t.w.memory.Acquire(ctx, need); err != nil {
		return answer{}, context.Cause(ctx)
	}
	t.w.change(func(i *queue.Worker) { i.Reserved += need })
	defer func() {
		t.w.memory.Release(need)
		t.w.change(func(i *queue.Worker) { i.Reserved -= need })
	}()
	return t.w.ask(ctx, r, func(a answer) {
		if a.Event != nil {
			t.event(ctx, *a.Event)
		} else if err := t.l.Frame(ctx, *a.Frame); err != nil {
			t.w.log.Debug("task", "error", err)
		}
	})
}

// The memory that the preview's process takes for any video, and the number of
// frames in its pipeline and its ffmpeg processes.
const (
	previewBytes  = 400 << 20
	previewFrames = 70
)

// need returns the memory to reserve for a task, in bytes. An engine that runs a
// checkpoint plans with what it gets, and a restoration takes what its network needs: they
// get everything and run alone, as their device is busy anyway.
func (t *task) need(ctx context.Context, job *lipstream.Job) (int64, error) {
	all := t.w.o.Memory
	if job.MemoryLimit > 0 {
		return min(all, int64(job.MemoryLimit)), nil
	}
	if t.l.Task().Kind != queue.KindJoin && (job.Engine != lipstream.EnginePreview || job.Restore != "") {
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
	frame := media.EncodingFor(*info.Video, job.Output, job.Codec).Format.Bytes()
	need := previewBytes + previewFrames*int64(frame)
	if job.Mask != "" {
		need += mask.Memory(frame)
	}
	return min(all, need), nil
}

// eventInterval is the least time between two progress events of a task.
const eventInterval = 500 * time.Millisecond

// event adds an event to the job's log. It skips progress that comes too often.
func (t *task) event(ctx context.Context, e lipstream.Event) {
	if e.Type == lipstream.EventProgress {
		last := e.Frames > 0 && e.Frame == e.Frames
		if time.Since(t.shown) < t.w.eventInterval && e.Phase == t.phase && !last {
			return
		}
		t.shown, t.phase = time.Now(), e.Phase
	}
	e.Message = t.byName(e.Message)
	if err := t.l.Event(ctx, e); err != nil && ctx.Err() == nil {
		t.w.log.Warn("task: an event is lost", "error", err)
	}
}

// put stores a file and returns its name in the store, its size and its SHA-256.
func (t *task) put(ctx context.Context, kind, path string) (r queue.Result, err error) {
	f, err := os.Open(path)
	if err != nil {
		return r, fault.Internal.Wrap("read "+path, fault.WithoutPath(err))
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return r, fault.Internal.Wrap("read "+path, fault.WithoutPath(err))
	}
	h := sha256.New()
	if _, err = io.Copy(h, f); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return r, fault.Internal.Wrap("read "+path, fault.WithoutPath(err))
	}
	r.Object = fmt.Sprintf("jobs/%s/%s-%s%s", t.l.Job.ID, kind, t.l.ID(), filepath.Ext(path))
	err = t.w.o.Store.Put(ctx, r.Object, f)
	r.Size, r.SHA256 = st.Size(), hex.EncodeToString(h.Sum(nil))
	return r, err
}

// deliver stores the result and ends the job.
func (t *task) deliver(ctx context.Context, path string, made lipstream.Result) error {
	r, err := t.put(ctx, "result", path)
	if err != nil {
		return err
	}
	r.Name, r.Engine, r.Frames, r.NoFace, r.MemoryPeak = filepath.Base(t.l.Job.Spec.Name), made.Engine, made.Frames, made.NoFace, made.MemoryPeak
	r.Speakers = made.Speakers
	r.FPS, r.Width, r.Height = made.FPS, made.Width, made.Height
	r.Duration, r.Elapsed = float64(made.Frames)/max(made.FPS, 1), time.Since(t.began).Seconds()
	return t.l.Done(ctx, r)
}
