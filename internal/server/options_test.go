package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/client"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/testdata/demo"
)

// TestOptions checks the content of GET /v1/options; its client checks the form.
func TestOptions(t *testing.T) {
	r := newRig(t, nil)
	var got struct {
		Engines    []engineView        `json:"engines"`
		Settings   []lipstream.Setting `json:"settings"`
		Containers []string            `json:"containers"`
	}
	a, body := r.get("GET", "/v1/options", "")
	if a.StatusCode != 200 {
		t.Fatal(a.Status)
	}
	r.check(json.Unmarshal([]byte(body), &got))
	if len(got.Engines) != len(lipstream.Engines()) || got.Engines[0] != (engineView{"auto", false, lipstream.Engines()[0].Description, ""}) {
		t.Errorf("engines %+v", got.Engines)
	}
	if !slices.Equal(got.Containers, media.Containers()) {
		t.Errorf("containers %v", got.Containers)
	}
	names := func(list []lipstream.Setting) (names []string) {
		for _, s := range list {
			names = append(names, s.Name)
		}
		return names
	}
	if d := cmp.Diff(names(lipstream.RemoteSettings()), names(got.Settings)); d != "" {
		t.Errorf("settings (-want +got):\n%s", d)
	}
}

// TestEngines checks which engines are available with some workers, and which one auto
// picks.
func TestEngines(t *testing.T) {
	r := newRig(t, nil)
	input := `{"video":{"upload":"` + r.upload("face.png", demo.Portrait) + `"},"audio":{"upload":"` + r.upload("voice.wav", demo.Speech) + `"}`
	var workers int
	for _, c := range []struct {
		worker []string // the engines of another worker
		want   string   // that auto picks
	}{
		{nil, "preview"},
		{[]string{"preview"}, "preview"},
		{[]string{"preview", "musetalk"}, "musetalk"},
		{[]string{"latentsync"}, "latentsync"},
		{[]string{"preview", "musetalk"}, "latentsync"},
	} {
		if c.worker != nil {
			workers++
			r.check(r.s.o.Queue.Announce(t.Context(), queue.Worker{ID: fmt.Sprint("w", workers), Engines: c.worker}))
		}
		all, err := r.s.o.Queue.Workers(t.Context())
		r.check(err)
		has := func(engine string) bool {
			return slices.ContainsFunc(all, func(w queue.Worker) bool { return slices.Contains(w.Engines, engine) })
		}
		var got struct {
			Engines []engineView `json:"engines"`
		}
		r.check(json.Unmarshal([]byte(r.status(200, "GET", "/v1/options", "")), &got))
		install := map[string]string{"latentsync": "lipstream models pull 1.6", "musetalk": "lipstream models pull musetalk"}
		for _, e := range got.Engines {
			if e.Available != (has(e.Name) || e.Name == "auto" && workers > 0) || e.Install != install[e.Name] {
				t.Errorf("with worker %v: %+v", c.worker, e)
			}
		}
		var j client.Job
		r.check(json.Unmarshal([]byte(r.status(201, "POST", "/v1/jobs", input+`}`, "Content-Type: application/json")), &j))
		if j.Engine != c.want {
			t.Errorf("with worker %v, auto is %s, want %s", c.worker, j.Engine, c.want)
		}
	}
	// An engine that is asked for waits for a worker that has it.
	var j client.Job
	r.check(json.Unmarshal([]byte(r.status(201, "POST", "/v1/jobs", input+`,"engine":"musetalk"}`, "Content-Type: application/json")), &j))
	if j.Engine != "musetalk" || j.State != queue.Queued {
		t.Errorf("%+v", j)
	}
}

// TestEstimate checks an answer with every field against the document.
func TestEstimate(t *testing.T) {
	want := lipstream.Estimate{
		Engine: "latentsync", Why: "as requested", Width: 640, Height: 360, FPS: 25, Frames: 50, Voice: 2, Speech: 1.5,
		Estimate: lip.Estimate{
			Backend: "openvino", Precision: "f32", Resolution: 256, Sampler: "ddim", Steps: 20, FullSteps: 7, Guidance: 1.5, Overlap: 4, Windows: 4,
			Plan:  &memory.Plan{Windows: 1, Frames: 16, VAEFrames: 1, Tile: 256, Slices: 1, Offload: memory.OffloadModel, Precision: "f32"},
			Needs: 3e9, Budget: 4e9, BudgetFrom: "the memory limit", Stages: []lip.EstimateStage{{Name: "UNet", Memory: 2e9, Seconds: 3, Per: "step"}}, Seconds: 60,
		},
		Total: 70, MemoryPeak: 3e9,
	}
	var asked lipstream.Job
	r := newRig(t, func(o *Options) {
		o.Estimate = func(_ context.Context, j lipstream.Job) (lipstream.Estimate, error) { asked = j; return want, nil }
	})
	spec := queue.Spec{Video: queue.Source{Upload: r.upload("face.png", demo.Portrait)}, Audio: queue.Source{Upload: r.upload("voice.wav", demo.Speech)}}
	spec.Steps = new(20)
	body, err := json.Marshal(spec)
	r.check(err)
	a, err := r.c.HTTP.Post(r.web.URL+"/v1/estimate", "application/json", bytes.NewReader(body)) // checks the answer
	r.check(err)
	defer func() { _ = a.Body.Close() }()
	var got lipstream.Estimate
	r.check(json.NewDecoder(a.Body).Decode(&got))
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if asked.Steps == nil || *asked.Steps != 20 {
		t.Errorf("the server asked for an estimate of %+v", asked)
	}
	spec.Resume = "never"
	body, err = json.Marshal(spec)
	r.check(err)
	r.status(400, "POST", "/v1/estimate", string(body), "Content-Type: application/json") // a local setting
}
