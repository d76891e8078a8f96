package job

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/settings"
	"github.com/lipstream/lipstream/internal/tensor"
)

// field returns the setting of a name.
func field(t *testing.T, name string) settings.Field {
	t.Helper()
	fields := settings.Fields()
	i := slices.IndexFunc(fields, func(f settings.Field) bool { return f.Name == name })
	if i < 0 {
		t.Fatalf("no setting has the name %s", name)
	}
	return fields[i]
}

// TestKinds checks that the engines and the choices of the setting `engine` are
// the same.
func TestKinds(t *testing.T) {
	choices := field(t, "engine").Choices
	infos := Engines()
	if infos[0].Name != settings.EngineAuto || infos[0].Description == "" {
		t.Errorf("the first engine is %+v, want auto", infos[0])
	}
	var names []string
	for _, k := range kinds {
		name := k.Name()
		if slices.Contains(names, name) || name == settings.EngineAuto {
			t.Errorf("two engines have the name %q", name)
		}
		names = append(names, name)
		if !slices.Contains(choices, name) {
			t.Errorf("the engine %q cannot be chosen: add it to the choices of settings.Settings.Engine, with a constant beside EnginePreview", name)
		}
		if k.Describe() == "" || !slices.Contains(infos, EngineInfo{name, k.Describe(), k.Install()}) {
			t.Errorf("Engines does not list %q with its description", name)
		}
		if err := k.Check(settings.Settings{}.WithDefaults()); err != nil {
			t.Errorf("%s refuses the defaults: %v", name, err)
		}
	}
	for _, c := range choices {
		if c != settings.EngineAuto && !slices.Contains(names, c) {
			t.Errorf("no engine has the name %q: add its Kind to the list kinds in engines.go", c)
		}
	}
	if len(infos) != len(choices) {
		t.Errorf("engines %v, choices %v", infos, choices)
	}
	// Some engine must always be ready, or auto could find none.
	if _, ready := kinds[len(kinds)-1].Ready(settings.Settings{}.WithDefaults()); !ready {
		t.Errorf("the last engine, %s, is not ready", names[len(names)-1])
	}
}

func TestChoose(t *testing.T) {
	t.Setenv("LIPSTREAM_MODELS_DIR", t.TempDir())
	t.Setenv("HF_HUB_CACHE", t.TempDir())
	t.Run("no checkpoint", func(t *testing.T) {
		m, _, why, err := choose(t.Context(), settings.Settings{Engine: settings.EngineAuto})
		if err != nil || m.Name != settings.EnginePreview || m.Open == nil || !strings.Contains(why, "no LatentSync checkpoint") {
			t.Errorf("%+v, why %q, error %v", m, why, err)
		}
		m, _, why, err = choose(t.Context(), settings.Settings{Engine: settings.EnginePreview})
		if err != nil || m.Name != settings.EnginePreview || why != "as requested" {
			t.Errorf("%+v, why %q, error %v", m, why, err)
		}
		_, _, _, err = choose(t.Context(), settings.Settings{Engine: settings.EngineLatentSync})
		if fault.KindOf(err) != fault.Missing {
			t.Errorf("error %v, want kind missing", err)
		}
		if _, _, _, err = choose(t.Context(), settings.Settings{Engine: "magic"}); fault.KindOf(err) != fault.Internal {
			t.Errorf("error %v, want kind internal", err)
		}
	})
	t.Run("MuseTalk only", func(t *testing.T) {
		dir := t.TempDir()
		if _, err := models.Synth(t.Context(), dir, models.SynthOptions{Engine: models.MuseTalk, Size: "tiny", Resolution: 256, DType: tensor.F32}); err != nil {
			t.Fatal(err)
		}
		s := settings.Settings{Engine: settings.EngineAuto, Networks: settings.Networks{Models: dir}}
		want := fmt.Sprintf("there is no LatentSync checkpoint in %[1]s; the MuseTalk checkpoint is in %[1]s", dir)
		if m, kind, why, err := choose(t.Context(), s); err != nil || m.Name != "musetalk synthetic" || kind != settings.EngineMuseTalk || why != want {
			t.Errorf("%+v, kind %s, why %q, error %v", m, kind, why, err)
		}
		s.Resolution = new(512)
		if _, _, _, err := choose(t.Context(), s); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "`resolution`: 512 does not suit MuseTalk") {
			t.Errorf("error %v", err)
		}
		s.Engine = settings.EngineLatentSync
		if _, _, _, err := choose(t.Context(), s); fault.KindOf(err) != fault.Missing || fault.HintOf(err) != "run: lipstream models pull 1.6" {
			t.Errorf("error %v, hint %s", err, fault.HintOf(err))
		}
	})
	t.Run("a checkpoint", func(t *testing.T) {
		dir := t.TempDir()
		if _, err := models.Synth(t.Context(), dir, models.SynthOptions{Size: "tiny", Resolution: 256, DType: tensor.F32}); err != nil {
			t.Fatal(err)
		}
		s := settings.Settings{Networks: settings.Networks{Models: dir, Resolution: new(256)}}
		for engine, want := range map[string]string{
			settings.EngineAuto: "the LatentSync checkpoint is in " + dir, settings.EngineLatentSync: "as requested",
		} {
			s.Engine = engine
			m, _, why, err := choose(t.Context(), s)
			if err != nil || !strings.HasPrefix(m.Name, settings.EngineLatentSync) || m.Window == 0 || m.Open == nil || why != want {
				t.Errorf("%s: %+v, why %q, error %v", engine, m, why, err)
			}
		}
		s.Engine = settings.EnginePreview
		if m, _, _, err := choose(t.Context(), s); err != nil || m.Name != settings.EnginePreview {
			t.Errorf("%+v, error %v", m, err)
		}
	})
}
