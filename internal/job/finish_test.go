package job

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/pipeline"
	"github.com/lipstream/lipstream/internal/settings"
)

func TestRepeated(t *testing.T) {
	for _, c := range []struct {
		length int64
		mode   media.Mode
		want   []int64
	}{
		{0, media.Pad, []int64{0, 1, 2, 3, 4, 5, 6, 7}},
		{3, media.Pad, []int64{0, 1, 2, 2, 2, 2, 2, 2}},
		{3, media.Shortest, []int64{0, 1, 2}},
		{3, media.Loop, []int64{0, 1, 2, 0, 1, 2, 0, 1}},
		{3, media.PingPong, []int64{0, 1, 2, 2, 1, 0, 0, 1, 2, 2}},
		{1, media.PingPong, []int64{0, 0, 0, 0}},
		{9, media.PingPong, []int64{0, 1, 2, 3}},
	} {
		var got []int64
		for i := range c.want {
			got = append(got, repeated(int64(i), c.length, c.mode))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v of %d frames: %v, want %v", c.mode, c.length, got, c.want)
		}
	}
}

// TestFits takes a restoration out of the memory that its network computes in.
func TestFits(t *testing.T) {
	const mb = 1 << 20
	onHost := budget{Budget: memory.Budget{Host: 1000 * mb, HostFrom: "the memory limit"}, reserved: 400 * mb}
	onCard := budget{Budget: memory.Budget{Host: 100 * mb, Device: 1000 * mb, DeviceFrom: "free memory of nvidia:0"}, reserved: 90 * mb, onDevice: 400 * mb, gpu: &memory.GPU{Total: 2000 * mb}}
	for name, b := range map[string]budget{"host": onHost, "card": onCard} {
		if err := b.fits(600 * mb); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		err := b.fits(600*mb + 1)
		if fault.KindOf(err) != fault.Memory || fault.HintOf(err) == "" || !strings.Contains(err.Error(), "it takes 600.0 MiB, but only 600.0 MiB are left for it") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s := onCard.share(); s.Reserved != 400*mb || s.Bytes != 1000*mb || s.Arena() != 1000*mb-lip.DeviceContext {
		t.Errorf("%+v, arena %d", s, s.Arena())
	}
	onCard.Device = 2000 * mb
	for usesDevice, left := range map[bool]int64{true: 1600 * mb, false: 1600*mb - lip.DeviceContext} {
		b := onCard
		if b.reserveContext(usesDevice); b.fits(left) != nil || b.fits(left+1) == nil {
			t.Errorf("an engine that uses the device: %v: not %s are left", usesDevice, memory.Size(left))
		}
	}
	onHost.reserveContext(false)
	if s := onHost.share(); s.Reserved != 400*mb || s.Arena() != 0 {
		t.Errorf("%+v", s)
	}
}

// TestReportOfRestoration lists the restoration after the work of the engine.
func TestReportOfRestoration(t *testing.T) {
	e := worker{report: lip.Report{Work: []lip.Work{{Name: "UNet", Calls: 4, Busy: time.Second}}}}
	report, _ := reported(t, func(r *reporter) {
		r.frames(pipeline.Stats{})
		r.worked(e)
		r.alsoWorked(lip.Work{Name: "restoration", Calls: 3, Busy: 2 * time.Second, Memory: 5})
		r.alsoWorked(lip.Work{Name: "nothing"})
	}, nil)
	if n := len(report.Stages); n != 2 || report.Stages[1] != (StageReport{Name: "restoration", Part: PartEngine, Calls: 3, Busy: 2, Memory: 5}) {
		t.Errorf("%+v", report.Stages)
	}
}

// TestNetworkOfJoin probes a job as Join does, on a machine that lacks its restoration
// network: only preparing its frames needs the file.
func TestNetworkOfJoin(t *testing.T) {
	t.Setenv("LIPSTREAM_MODELS_DIR", t.TempDir())
	job := required(settings.Settings{}.WithDefaults())
	job.Restore = "gfpgan-1.4"
	job.Video, job.Audio = "../../testdata/demo/portrait.png", "../../testdata/demo/speech.wav"
	job.Output = filepath.Join(t.TempDir(), "o.mp4")
	report, _ := reported(t, func(r *reporter) {
		s := &session{job: job, r: r}
		if err := s.probe(t.Context()); err != nil {
			t.Error(err)
		}
		if got := s.restoredWith(); got != ", restored with gfpgan-1.4.onnx" {
			t.Errorf("%q", got)
		}
		if err := s.prepare(t.Context()); fault.KindOf(err) != fault.Missing {
			t.Errorf("prepared: %v", err)
		}
		s.warnOnce("continues")
		s.warnOnce("continues")
	}, nil)
	if len(report.Notes) != 1 {
		t.Errorf("notes %+v", report.Notes)
	}
}
