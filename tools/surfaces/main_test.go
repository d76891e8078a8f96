package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/settings"
)

func TestCommittedFilesAreFresh(t *testing.T) {
	for _, file := range []string{"internal/server/openapi.json", "comfyui/settings.json"} {
		committed, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := update(filepath.Base(file), committed)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(committed, fresh) {
			t.Errorf("%s is stale: run go generate ./internal/server ./comfyui", file)
		}
	}
}

// TestOtherProperties refuses a document from which something would get lost.
func TestOtherProperties(t *testing.T) {
	doc := func(properties string) error {
		_, err := openAPI([]byte(`{"components":{"schemas":{"Spec":{"properties":{` + properties + `}}}}}`))
		return err
	}
	all := `"steps":{}`
	for _, name := range own {
		all += `,"` + name + `":{}`
	}
	if err := doc(all); err != nil {
		t.Error(err)
	}
	if doc(all+`,"novel":{}`) == nil || doc(`"video":{}`) == nil {
		t.Error("an unknown property, or a missing one, is not refused")
	}
}

// TestNewInputsComeLast checks that inputs keep their positions, on which saved
// workflows depend, when settings are added.
func TestNewInputsComeLast(t *testing.T) {
	b, err := inputs([]byte(`{"settings":[{"name":"steps"},{"name":"removed"},{"name":"engine"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Settings []settings.Field }
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	names := []string{"steps", "engine"}
	for _, f := range settings.Remote() {
		if !slices.Contains(names, f.Name) {
			names = append(names, f.Name)
		}
	}
	if !slices.EqualFunc(got.Settings, names, func(f settings.Field, name string) bool { return f.Name == name }) {
		t.Errorf("order %v, want %v", got.Settings, names)
	}
}
