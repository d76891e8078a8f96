package job

import (
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/settings"
)

// required returns a job with the settings and without anything else that is
// optional.
func required(s settings.Settings) Job {
	return Job{Video: "v", Audio: "a", Output: "o", Settings: s}
}

func TestJobSettings(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*Job)
		want string // part of the error; "" for none
	}{
		{"the zero values", func(*Job) {}, ""},
		{"everything", func(j *Job) {
			j.Settings = settings.Settings{Engine: "preview", FPS: "30000/1001", Length: "loop", Face: "2",
				Start: settings.Time(time.Second), End: new(settings.Time(2 * time.Second)), CRF: new(0), Threads: new(2), Backend: "onnxruntime"}
		}, ""},
		{"no video", func(j *Job) { j.Video = "" }, "`video`: is required"},
		{"no audio", func(j *Job) { j.Audio = "" }, "`audio`: is required"},
		{"no output", func(j *Job) { j.Output = "" }, "`output`: is required"},
		{"engine", func(j *Job) { j.Engine = "magic" }, "`engine`: \"magic\" is not one of its values"},
		{"length", func(j *Job) { j.Length = "forever" }, "`length`: \"forever\" is not one of its values"},
		{"backend", func(j *Job) { j.Backend = "abacus" }, "`backend`: \"abacus\" is not one of its values"},
		{"face", func(j *Job) { j.Face = "banana" }, "`face`: banana is not a choice"},
		{"rate 0", func(j *Job) { j.FPS = "0" }, "`fps`: \"0\" is not a frame rate"},
		{"rate text", func(j *Job) { j.FPS = "fast" }, "`fps`: \"fast\" is not a frame rate"},
		{"rate too high", func(j *Job) { j.FPS = "1000000" }, "`fps`: \"1000000\" is not a frame rate"},
		{"negative start", func(j *Job) { j.Start = settings.Time(-time.Second) }, "`start`: -1s is before the beginning"},
		{"negative end", func(j *Job) { j.End = new(settings.Time(-time.Second)) }, "`end`: -1s leaves nothing"},
		{"empty part", func(j *Job) {
			j.Start, j.End = settings.Time(time.Second), new(settings.Time(time.Second))
		}, "`end`: 1s leaves nothing"},
		{"crf", func(j *Job) { j.CRF = new(99) }, "`crf`: 99 is out of range"},
		{"crf of h264", func(j *Job) { j.CRF = new(52) }, "`crf`: 52 is out of range"},
		{"crf of vp9", func(j *Job) { j.CRF, j.Codec = new(52), "vp9" }, ""},
		{"crf of webm", func(j *Job) { j.CRF, j.Output = new(52), "o.WebM" }, ""},
		{"negative crf", func(j *Job) { j.CRF = new(-1) }, "`crf`: -1 is out of range"},
		{"threads", func(j *Job) { j.Threads = new(-1) }, "`threads`: -1 is out of range"},
		{"memory alert", func(j *Job) { j.MemoryAlert = "much" }, "`memory_alert`: \"much\" is not a share"},
		{"parity", func(j *Job) { j.Engine, j.Parity = "preview", "most" }, "`parity`"},
	} {
		t.Run(c.name, func(t *testing.T) {
			job := required(settings.Settings{})
			c.set(&job)
			_, err := job.complete()
			switch {
			case c.want == "" && err != nil:
				t.Errorf("error %v", err)
			case c.want != "" && err == nil:
				t.Error("no error")
			case c.want != "":
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %q does not contain %q", err, c.want)
				}
				if kind := fault.KindOf(err); kind != fault.Usage {
					t.Errorf("kind %d, want usage", kind)
				}
				if hint := fault.HintOf(err); hint == "" || strings.Contains(err.Error()+hint, "--") {
					t.Errorf("hint %q", hint)
				}
			}
			if c.want != "" && !strings.HasSuffix(c.want, "is required") {
				if checked := job.Check(); checked == nil || checked.Error() != err.Error() {
					t.Errorf("Check returns %v", checked)
				}
			}
		})
	}
	if err := (Job{}).Check(); err != nil {
		t.Errorf("Check of settings alone: %v", err)
	}
}

func TestComplete(t *testing.T) {
	job, err := required(settings.Settings{}).complete()
	if err != nil {
		t.Fatal(err)
	}
	if job.Engine != settings.EngineAuto || job.Length != settings.LengthPad || job.Face != "largest" || job.Resume != settings.ResumeAuto || job.FPS != "" || *job.Seed != 1247 {
		t.Errorf("defaults: %+v", job.Settings)
	}
	if job, err = required(settings.Settings{Seed: new(int64(0))}).complete(); err != nil || *job.Seed != 0 {
		t.Errorf("seed 0 became %d, error %v", *job.Seed, err)
	}
	for _, c := range []struct{ parity, fps, length, wantFPS, wantLength string }{
		{"all", "", "", "25", settings.LengthPingPong},
		{"all", "30", "loop", "30", settings.LengthPingPong},
		{"paste,all", "", "", "25", settings.LengthPingPong},
		{"paste,cuts", "", "", "", settings.LengthPad},
		{"paste", "30", "loop", "30", settings.LengthLoop},
	} {
		s := settings.Settings{FPS: c.fps, Length: c.length, Networks: settings.Networks{Parity: c.parity}}
		if job, err := required(s).complete(); err != nil || job.FPS != c.wantFPS || job.Length != c.wantLength {
			t.Errorf("%+v: %q, %q, error %v", c, job.FPS, job.Length, err)
		}
	}
}

func TestRates(t *testing.T) {
	for text, want := range map[string]media.Rational{
		"25": {Num: 25, Den: 1}, "29.97": {Num: 30000, Den: 1001}, "23.976": {Num: 24000, Den: 1001},
		"30000/1001": {Num: 30000, Den: 1001}, "12.5": {Num: 25, Den: 2},
	} {
		if got, err := required(settings.Settings{FPS: text}).rate(); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestFramesOf(t *testing.T) {
	r25, ntsc := media.Rational{Num: 25, Den: 1}, media.Rational{Num: 30000, Den: 1001}
	for _, c := range []struct {
		seconds float64
		rate    media.Rational
		want    int64
	}{{4, r25, 100}, {4.00000001, r25, 100}, {4.01, r25, 101}, {0.001, r25, 1}, {1.001, ntsc, 30}} {
		if got := framesOf(c.seconds, c.rate); got != c.want {
			t.Errorf("%v s at %v: %d frames, want %d", c.seconds, c.rate, got, c.want)
		}
	}
}
