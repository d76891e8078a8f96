package job

import (
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
)

func TestJobOptions(t *testing.T) {
	crf := func(n int) *int { return &n }
	for _, c := range []struct {
		name string
		set  func(*Job)
		want string // part of the error; "" for none
	}{
		{"the zero values", func(*Job) {}, ""},
		{"everything", func(j *Job) {
			*j = Job{Video: "v", Audio: "a", Output: "o", Engine: "preview", FPS: "30000/1001", Length: "loop", Face: "2",
				Start: time.Second, End: 2 * time.Second, CRF: crf(0), Threads: 2, Backend: "onnxruntime"}
		}, ""},
		{"no video", func(j *Job) { j.Video = "" }, "--video: is required"},
		{"no audio", func(j *Job) { j.Audio = "" }, "--audio: is required"},
		{"no output", func(j *Job) { j.Output = "" }, "--output: is required"},
		{"engine", func(j *Job) { j.Engine = "magic" }, `--engine "magic": is not known`},
		{"length", func(j *Job) { j.Length = "forever" }, `--length "forever"`},
		{"backend", func(j *Job) { j.Backend = "abacus" }, `--backend "abacus"`},
		{"face", func(j *Job) { j.Face = "banana" }, "banana"},
		{"rate 0", func(j *Job) { j.FPS = "0" }, "--fps"},
		{"rate text", func(j *Job) { j.FPS = "fast" }, "--fps"},
		{"rate too high", func(j *Job) { j.FPS = "1000000" }, "--fps"},
		{"negative start", func(j *Job) { j.Start = -time.Second }, "--start"},
		{"negative end", func(j *Job) { j.End = -time.Second }, "--end"},
		{"empty part", func(j *Job) { j.Start, j.End = time.Second, time.Second }, "leaves nothing"},
		{"crf", func(j *Job) { j.CRF = crf(99) }, "--crf"},
		{"negative crf", func(j *Job) { j.CRF = crf(-1) }, "--crf"},
		{"threads", func(j *Job) { j.Threads = -1 }, "--threads"},
	} {
		t.Run(c.name, func(t *testing.T) {
			job := Job{Video: "v", Audio: "a", Output: "o"}
			c.set(&job)
			_, err := job.withDefaults()
			switch {
			case c.want == "" && err != nil:
				t.Errorf("error %v", err)
			case c.want != "" && err == nil:
				t.Error("no error")
			case c.want != "":
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %q does not say %q", err, c.want)
				}
				if kind := fault.KindOf(err); kind != fault.Usage {
					t.Errorf("kind %d, want usage", kind)
				}
				if fault.HintOf(err) == "" {
					t.Error("no hint")
				}
			}
		})
	}
}

func TestRates(t *testing.T) {
	for text, want := range map[string]media.Rational{
		"25": {Num: 25, Den: 1}, "29.97": {Num: 30000, Den: 1001}, "23.976": {Num: 24000, Den: 1001},
		"30000/1001": {Num: 30000, Den: 1001}, "12.5": {Num: 25, Den: 2},
	} {
		if got, err := (Job{FPS: text}).rate(); err != nil || got != want {
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

func TestEngineChoice(t *testing.T) {
	t.Setenv("LIPSTREAM_MODELS_DIR", t.TempDir())
	c, err := chooseEngine(t.Context(), Job{Engine: EngineAuto})
	if err != nil || c.name != EnginePreview || !strings.Contains(c.why, "no LatentSync checkpoint") {
		t.Errorf("%+v %v", c, err)
	}
	_, err = chooseEngine(t.Context(), Job{Engine: EngineLatentSync})
	if fault.KindOf(err) != fault.Missing {
		t.Errorf("error %v, want kind missing", err)
	}
}
