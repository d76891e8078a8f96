package worker

import (
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/mask"
	"github.com/lipstream/lipstream/internal/queue"
)

// TestMask fetches the mask of a job for its process.
func TestMask(t *testing.T) {
	r := newRig(t, "mask", nil)
	if err := r.s.Put(t.Context(), "uploads/m.png", strings.NewReader("a mask")); err != nil {
		t.Fatal(err)
	}
	j := r.submitWith(func(j *queue.Job) {
		j.Spec.Mask, j.Mask = &queue.Source{Upload: "m"}, &queue.Media{Name: "my mask.png", Object: "uploads/m.png"}
	})
	if j = r.until(j.ID, ended); j.State != queue.Done || j.Result.Frames != 6 {
		t.Fatalf("%+v, %+v", j.Result, j.Problem)
	}
	var warnings []string
	if err := r.q.Events(t.Context(), j.ID, 0, func(e queue.Event) error {
		if strings.Contains(string(e.Data), "look at") {
			warnings = append(warnings, string(e.Data))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "look at my mask.png") {
		t.Errorf("the path of the mask is not replaced by its name: %v", warnings)
	}
}

// TestNeedOfExtras reserves memory for a mask, and everything for a restoration.
func TestNeedOfExtras(t *testing.T) {
	const all = 4 << 30
	r := newRig(t, "work", func(o *Options) { o.Memory = all })
	r.stop()
	need := func(maskFile, restore string) int64 {
		t.Helper()
		task := &task{w: r.w, l: &queue.Lease{Job: queue.Job{Tasks: []queue.Task{{Kind: queue.KindWhole}}}}}
		job := task.l.Job.Spec.Job(nil)
		job.Engine, job.Video, job.Output, job.Mask, job.Restore = "preview", "../../testdata/demo/portrait.png", "out.mp4", maskFile, restore
		n, err := task.need(t.Context(), &job)
		if err != nil {
			t.Fatal(err)
		}
		if restore != "" && int64(job.MemoryLimit) != all {
			t.Errorf("the limit of the restoration is %v", job.MemoryLimit)
		}
		return n
	}
	plain, masked, restored := need("", ""), need("mask.png", ""), need("", "gfpgan")
	if frame := 512 * 512 * 3 / 2; masked != plain+mask.Memory(frame) {
		t.Errorf("%d bytes with a mask, %d without", masked, plain)
	}
	if restored != all {
		t.Errorf("%d bytes with a restoration", restored)
	}
}
