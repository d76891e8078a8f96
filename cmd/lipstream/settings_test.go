package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/internal/server"
	"github.com/lipstream/lipstream/internal/settings"
	"github.com/lipstream/lipstream/internal/store"
)

// samples holds values for settings that have checks beyond their tags.
var samples = map[string]string{
	"fps": "30000/1001", "face": "2", "start": "1m30.5s", "end": "1m31s", "device": "cpu", "models": "folder", "guidance": "2.5", "restore_strength": "0.25",
	"resolution": "256", "vae_tile": "256", "parity": "paste", "memory_limit": "3000000000", "memory_warning": "50%", "memory_alert": "80%",
	"guidance_from": "0.25", "guidance_to": "0.75", "guidance_threshold": "0.1", "guidance_every": "2", "deepcache_threshold": "0.2",
}

// sampleOf returns a value of the setting that is allowed and not its default.
func sampleOf(f settings.Field) string {
	if s, ok := samples[f.Name]; ok {
		return s
	}
	for _, c := range f.Choices {
		if c != f.Default {
			return c
		}
	}
	return "7"
}

// surfaces holds the settings as other programs see them.
type surfaces struct {
	schema  map[string]map[string]any // of the OpenAPI document, by name
	options map[string]settings.Field // of GET /v1/options, by name
	comfyui map[string]settings.Field // of the ComfyUI nodes, by name
	create  func(settings.Settings) (status int, body string)
}

// TestEverySettingIsEverywhere takes every setting through the command line, the
// HTTP API, its OpenAPI document, GET /v1/options (from which the page makes its
// form) and the ComfyUI nodes.
func TestEverySettingIsEverywhere(t *testing.T) {
	t.Parallel()
	all := openSurfaces(t)
	var app cli
	parser, err := kong.New(&app, kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range settings.Fields() {
		t.Run(f.Name, func(t *testing.T) {
			var want settings.Settings
			if err := f.Set(&want, sampleOf(f)); err != nil {
				t.Fatal(err)
			}
			for _, command := range []string{"run", "submit"} {
				if command == "submit" && f.Local {
					continue
				}
				if _, err := parser.Parse([]string{command, "--video=v.mp4", "--audio=a.wav", "--output=o.mp4", "--" + strings.ReplaceAll(f.Name, "_", "-") + "=" + sampleOf(f)}); err != nil {
					t.Errorf("lipstream %s: %v", command, err)
				}
				got := app.Run.Settings
				if command == "submit" {
					got = app.Submit.Settings
				}
				if f.Text(got) != f.Text(want) {
					t.Errorf("lipstream %s: the setting is %q, want %q", command, f.Text(got), f.Text(want))
				}
			}
			status, body := all.create(want)
			if f.Local {
				if status != http.StatusBadRequest || !strings.Contains(body, f.Name) {
					t.Errorf("POST /v1/jobs takes a local setting: %d %s", status, body)
				}
				if all.schema[f.Name] != nil || all.options[f.Name].Name != "" || all.comfyui[f.Name].Name != "" {
					t.Error("a local setting is offered to clients")
				}
				return
			}
			if status != http.StatusCreated {
				t.Errorf("POST /v1/jobs: %d %s", status, body)
			}
			if d := cmp.Diff(schemaOf(f), all.schema[f.Name]); d != "" {
				t.Errorf("OpenAPI (-want +got):\n%s", d)
			}
			for place, got := range map[string]settings.Field{"GET /v1/options": all.options[f.Name], "comfyui/settings.json": all.comfyui[f.Name]} {
				if d := cmp.Diff(toMap(t, f), toMap(t, got)); d != "" {
					t.Errorf("%s (-want +got):\n%s", place, d)
				}
			}
		})
	}
}

// schemaOf returns what the OpenAPI document says about a setting.
func schemaOf(f settings.Field) map[string]any {
	want := map[string]any{"type": f.Type}
	if f.Unit == "s" || f.Unit == "bytes" {
		want["type"] = []any{f.Type, "string"}
	}
	if f.Choices != nil {
		var enum []any
		for _, c := range f.Choices {
			enum = append(enum, c)
		}
		want["enum"] = enum
	}
	if f.Min != nil {
		want["minimum"] = *f.Min
	}
	if f.Max != nil {
		want["maximum"] = *f.Max
	}
	if f.Multiple != 0 {
		want["multipleOf"] = f.Multiple
	}
	if f.Default != "" {
		want["default"] = f.Default
		if n, err := strconv.ParseFloat(f.Default, 64); err == nil && f.Type != "string" {
			want["default"] = n
		}
	}
	return want
}

func toMap(t *testing.T, f settings.Field) (m map[string]any) {
	t.Helper()
	b, err := json.Marshal(f)
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// openSurfaces starts a server, and reads the settings of the server and the ComfyUI nodes.
func openSurfaces(t *testing.T) surfaces {
	t.Helper()
	dir, root := t.TempDir(), t.TempDir()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	q, err := queue.Open(t.Context(), queue.Options{Dir: filepath.Join(dir, "queue"), Lead: true, Version: "test"})
	check(err)
	t.Cleanup(func() { _ = q.Close() })
	objects, err := store.Open(t.Context(), "dir:"+filepath.Join(dir, "media"), nil, 0)
	check(err)
	s, err := server.New(server.Options{Queue: q, Store: objects, Dir: dir, Listen: "127.0.0.1:8448", Roots: []string{root}, Version: "test"})
	check(err)
	for _, name := range []string{"v.mp4", "a.wav"} {
		check(os.WriteFile(filepath.Join(root, name), []byte("x"), 0o600))
	}
	ask := func(method, path, body string) *httptest.ResponseRecorder {
		r, w := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:8448"+path, strings.NewReader(body)), httptest.NewRecorder()
		r.Header.Set("Content-Type", "application/json")
		s.Handler().ServeHTTP(w, r)
		return w
	}
	byName := func(b []byte) map[string]settings.Field {
		var list struct{ Settings []settings.Field }
		check(json.Unmarshal(b, &list))
		m := map[string]settings.Field{}
		for _, f := range list.Settings {
			m[f.Name] = f
		}
		return m
	}
	var document struct {
		Components struct {
			Schemas struct {
				Spec struct{ Properties map[string]map[string]any }
			}
		}
	}
	check(json.Unmarshal(ask("GET", "/v1/openapi.json", "").Body.Bytes(), &document))
	schema := document.Components.Schemas.Spec.Properties
	for _, property := range schema {
		delete(property, "title")
		delete(property, "description")
	}
	nodes, err := os.ReadFile(filepath.Join("..", "..", "comfyui", "settings.json"))
	check(err)
	return surfaces{
		schema: schema, options: byName(ask("GET", "/v1/options", "").Body.Bytes()), comfyui: byName(nodes),
		create: func(given settings.Settings) (int, string) {
			spec := queue.Spec{Video: queue.Source{Path: filepath.Join(root, "v.mp4")}, Audio: queue.Source{Path: filepath.Join(root, "a.wav")}, Settings: given}
			b, err := json.Marshal(spec)
			check(err)
			w := ask("POST", "/v1/jobs", string(b))
			return w.Code, w.Body.String()
		},
	}
}
