package job

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var updateGolden = flag.Bool("update-events", false, "rewrite the recorded events")

// sampleEvents returns events of most types, with the values that are hard to write.
func sampleEvents() []Event {
	at := time.Date(2026, 1, 2, 4, 4, 5, 678_912_345, time.FixedZone("CET", 3600))
	return []Event{
		{Type: EventStart, Time: at, Engine: "preview", Output: "out/clip.mp4"},
		{Type: EventPhase, Time: at, Phase: PhaseProbe},
		{Type: EventProgress, Time: at, Phase: PhaseFrames, Frame: 105, Frames: 250, FPS: 24.61249,
			ETA: 5900 * time.Millisecond, Elapsed: 4267 * time.Millisecond,
			MemoryNow: 1288490188, MemoryPeak: 1610612736, NoFace: 3},
		{Type: EventProgress, Time: at, Phase: PhaseFrames, FPS: math.Inf(1), ETA: -1},
		{Type: EventWarning, Time: at, Phase: PhaseFrames, Message: "no face in <frame> 12"},
		{Type: EventDone, Time: at, Phase: PhaseFinish, Frame: 250, Frames: 250, Elapsed: 10 * time.Second,
			Engine: "latentsync 1.6", Output: "out/clip.mp4"},
		{Type: EventError, Time: at, Message: "find ffmpeg: not found", Hint: "Install ffmpeg.", ExitCode: 5},
	}
}

// TestEventJSON compares the JSON form with the recorded lines: other programs read it.
func TestEventJSON(t *testing.T) {
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	for _, e := range sampleEvents() {
		if err := enc.Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	golden := filepath.Join("..", "..", "testdata", "events.jsonl")
	if *updateGolden {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("events.jsonl (-want +got):\n%s", d)
	}
}

func TestEventJSONRoundTrip(t *testing.T) {
	for _, e := range sampleEvents() {
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var got Event
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		e.Time = e.Time.UTC().Truncate(time.Millisecond)
		e.FPS, e.ETA = thousandths(e.FPS), max(0, e.ETA)
		if d := cmp.Diff(e, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", data, d)
		}
	}
	var e Event
	if err := json.Unmarshal([]byte(`{"type":"progress","of_the_future":1}`), &e); err != nil || e.Type != EventProgress {
		t.Errorf("unknown field: %+v, %v", e, err)
	}
	if err := json.Unmarshal([]byte(`{"frame":"x"}`), &e); err == nil {
		t.Error("a string was accepted as a frame number")
	}
}

func TestObserverFunc(t *testing.T) {
	var got Event
	var o Observer = ObserverFunc(func(e Event) { got = e })
	o.Observe(Event{Frame: 7})
	if got.Frame != 7 {
		t.Errorf("got %+v", got)
	}
}
