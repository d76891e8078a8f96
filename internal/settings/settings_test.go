package settings

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipstream/lipstream/internal/fault"
)

// sample returns a value of the setting that is allowed and not its default.
func sample(f Field) string {
	switch {
	case len(f.Choices) > 1 && f.Choices[0] == f.Default:
		return f.Choices[1]
	case f.Choices != nil:
		return f.Choices[0]
	case f.Multiple > 0:
		return "256"
	case f.Unit == "bytes":
		return "3000000000"
	case f.Name == "guidance":
		return "2.5"
	case f.Max != nil && *f.Max == 1:
		return "0.25"
	case f.NameOnly:
		return "a-name.1"
	case f.Unit == "s":
		return "1m30.5s"
	case f.Type == "string":
		return "text of " + f.Name
	}
	return "7"
}

// TestFields reads every tag and takes every setting through text and JSON.
func TestFields(t *testing.T) {
	if len(Fields()) < 30 {
		t.Fatalf("%d settings", len(Fields()))
	}
	seen := map[string]bool{}
	for _, f := range Fields() {
		t.Run(f.Name, func(t *testing.T) {
			if f.Name == "" || seen[f.Name] || f.Help == "" || !strings.HasSuffix(f.Help, ".") || f.Title == "" {
				t.Errorf("%+v", f)
			}
			seen[f.Name] = true
			var s Settings
			want := sample(f)
			if err := f.Set(&s, want); err != nil {
				t.Fatal(err)
			}
			text := f.Text(s)
			var again Settings
			if err := f.Set(&again, text); err != nil && f.Unit != "bytes" {
				t.Fatal(err)
			}
			b, err := json.Marshal(s)
			if err != nil || !strings.HasPrefix(string(b), `{"`+f.Name+`":`) {
				t.Fatalf("JSON %s, error %v", b, err)
			}
			var read Settings
			if err := json.Unmarshal(b, &read); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(s, read); d != "" {
				t.Errorf("after JSON (-want +got):\n%s", d)
			}
			if err := s.Check(); err != nil {
				t.Errorf("the sample %q is refused: %v", want, err)
			}
			if err := s.CheckRemote(); (err != nil) != f.Local {
				t.Errorf("local %v, remote check: %v", f.Local, err)
			}
			if _, ok := Schema()[f.Name]; ok == f.Local {
				t.Errorf("in the schema: %v", ok)
			}
			if changed := !cmp.Equal(s.Identity(), Settings{}.Identity()); changed != f.Latents {
				t.Errorf("latents depend on it: %v, its identity changes: %v", f.Latents, changed)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	s := Settings{}.WithDefaults()
	if s.Engine != EngineAuto || *s.Seed != 1247 || s.Length != LengthPad || s.Resume != ResumeAuto || s.Steps != nil {
		t.Errorf("%+v", s)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	if given := (Settings{Seed: new(int64(0))}).WithDefaults(); *given.Seed != 0 {
		t.Errorf("seed 0 became %d", *given.Seed)
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		s            Settings
		field, cause string
	}{
		{Settings{Engine: "fast"}, "engine", `"fast" is not one of its values`},
		{Settings{LatentSync: LatentSync{Steps: new(0)}}, "steps", "0 is out of range"},
		{Settings{LatentSync: LatentSync{Guidance: new(20.5)}}, "guidance", "20.5 is out of range"},
		{Settings{Memory: Memory{MemoryLimit: 5}}, "memory_limit", "5 B is out of range"},
		{Settings{Memory: Memory{VAETile: new(100)}}, "vae_tile", "100 is not a multiple of 64"},
	} {
		err := c.s.Check()
		e, ok := errors.AsType[*fault.Error](err)
		if !ok || e.Kind != fault.Usage || e.Field != c.field || e.Err.Error() != c.cause || e.Hint == "" || strings.Contains(e.Error()+e.Hint, "--") {
			t.Errorf("%v: %+v", err, e)
		}
	}
}

func TestTime(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90": 90 * time.Second, "1:30": 90 * time.Second, "0:01:30.5": 90500 * time.Millisecond, "1m30s": 90 * time.Second, "-1": -time.Second,
	} {
		var got, read Time
		if err := got.UnmarshalText([]byte(text)); err != nil || got.Duration() != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
		if err := json.Unmarshal([]byte(`"`+text+`"`), &read); err != nil || read != got {
			t.Errorf("%q in JSON: %v, %v", text, read, err)
		}
	}
	for _, text := range []string{"", "x", "1:60", "1:2:3:4", "NaN", "Inf", "1e9", "-1:30"} {
		if err := new(Time).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a time", text)
		}
	}
	for _, text := range []string{"true", "1e300", "{}", `"x"`} {
		if err := json.Unmarshal([]byte(text), new(Time)); err == nil {
			t.Errorf("%s is a time", text)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"3000000000": 3e9, `"3GB"`: 3e9, `"512M"`: 512 << 20, "null": 0} {
		var got Size
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"1.5", `"x"`, "1e30", "[]"} {
		if err := json.Unmarshal([]byte(text), new(Size)); err == nil {
			t.Errorf("%s is a size", text)
		}
	}
}

// TestUnused lists settings that have no effect on an engine.
func TestUnused(t *testing.T) {
	var all Settings
	for _, f := range Fields() {
		if err := f.Set(&all, sample(f)); err != nil {
			t.Fatal(err)
		}
	}
	latentSync := []string{"steps", "guidance", "guidance_from", "guidance_to", "guidance_threshold", "guidance_every", "sampler", "deepcache", "deepcache_threshold", "overlap"}
	neural := []string{
		"profile", "resolution", "precision", "weights", "vae", "silence", "parity", "steps", "guidance", "guidance_from", "guidance_to", "guidance_threshold", "guidance_every",
		"sampler", "deepcache", "deepcache_threshold", "overlap",
		"frames_per_window", "windows", "offload", "vae_frames", "vae_tile", "attention_slices", "shrink_every", "return_every",
	}
	for engine, want := range map[string][]string{EngineLatentSync: nil, EngineMuseTalk: latentSync, EnginePreview: neural} {
		if d := cmp.Diff(want, all.Unused(engine)); d != "" {
			t.Errorf("%s (-want +got):\n%s", engine, d)
		}
		// Defaults are not what somebody has set.
		if got := (Settings{}).WithDefaults().Unused(engine); got != nil {
			t.Errorf("%s: of the defaults, %v are unused", engine, got)
		}
	}
	for _, f := range Fields() {
		for _, e := range f.engines {
			if !strings.Contains(","+strings.Join(Engines(), ",")+",", ","+e+",") {
				t.Errorf("%s: %q is not an engine", f.Name, e)
			}
		}
	}
}
