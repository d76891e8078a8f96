// Command surfaces writes the settings of a job into the files that describe them for
// other programs: the OpenAPI document of the server, and the inputs of the ComfyUI nodes.
//
//	surfaces FILE...
//
// Each FILE is an openapi.json or a settings.json (see internal/server and comfyui). It is
// updated in place.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/settings"
)

func main() {
	for _, file := range os.Args[1:] {
		old, err := os.ReadFile(file)
		var updated []byte
		if err == nil {
			updated, err = update(filepath.Base(file), old)
		}
		if err == nil {
			err = os.WriteFile(file, updated, 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "surfaces:", err)
			os.Exit(1)
		}
	}
}

// update returns the new content of a file.
func update(name string, old []byte) ([]byte, error) {
	switch name {
	case "openapi.json":
		return openAPI(old)
	case "settings.json":
		return inputs(old)
	}
	return nil, fmt.Errorf("%s is neither openapi.json nor settings.json", name)
}

// own are the properties of the schema Spec that are not settings.
var own = []string{"video", "audio", "speakers", "soundtrack", "mask", "name", "priority", "split"}

// openAPI replaces the settings in the schema Spec. The rest of the document is written by
// hand and does not change.
func openAPI(doc []byte) ([]byte, error) {
	properties := json.RawMessage(doc)
	for _, key := range []string{"components", "schemas", "Spec", "properties"} {
		object := map[string]json.RawMessage{}
		if err := json.Unmarshal(properties, &object); err != nil {
			return nil, fmt.Errorf("read the schema Spec: %w", err)
		}
		properties = object[key]
	}
	var old map[string]json.RawMessage
	if err := json.Unmarshal(properties, &old); err != nil {
		return nil, fmt.Errorf("read the schema Spec: %w", err)
	}
	schemas := settings.Schema()
	for name := range old {
		if _, ok := schemas[name]; !ok && !slices.Contains(own, name) {
			return nil, fmt.Errorf("the property %s of the schema Spec is neither a setting nor known otherwise: add it to the list own, or remove it from the document", name)
		}
	}
	var list []string
	add := func(name string, schema any) error {
		b, err := json.Marshal(schema)
		list = append(list, fmt.Sprintf("%q:%s", name, b))
		return err
	}
	for _, name := range own {
		if old[name] == nil {
			return nil, fmt.Errorf("the schema Spec does not describe %s", name)
		}
		if err := add(name, old[name]); err != nil {
			return nil, err
		}
	}
	for _, f := range settings.Remote() {
		if err := add(f.Name, schemas[f.Name]); err != nil {
			return nil, err
		}
	}
	return indent(bytes.Replace(doc, properties, []byte("{"+strings.Join(list, ",")+"}"), 1))
}

// inputs returns the settings for the ComfyUI nodes in the form of GET /v1/options. The
// settings of the old file keep their order, and new ones come last, because saved workflows
// refer to inputs by position.
func inputs(old []byte) ([]byte, error) {
	var file struct {
		Settings []settings.Field `json:"settings"`
	}
	if err := json.Unmarshal(old, &file); err != nil {
		return nil, err
	}
	position := func(f settings.Field) int {
		i := slices.IndexFunc(file.Settings, func(o settings.Field) bool { return o.Name == f.Name })
		if i < 0 {
			return len(file.Settings)
		}
		return i
	}
	list := settings.Remote()
	slices.SortStableFunc(list, func(a, b settings.Field) int { return position(a) - position(b) })
	file.Settings = list
	b, err := json.Marshal(file)
	if err != nil {
		return nil, err
	}
	return indent(b)
}

func indent(doc []byte) ([]byte, error) {
	var b bytes.Buffer
	if err := json.Indent(&b, doc, "", " "); err != nil {
		return nil, err
	}
	return append(bytes.TrimSpace(b.Bytes()), '\n'), nil
}
