package settings

import (
	"strconv"
)

// Schema returns the JSON Schema properties of the settings that a client of the
// HTTP API may give, by name.
func Schema() map[string]any {
	properties := map[string]any{}
	for _, f := range Remote() {
		properties[f.Name] = f.schema()
	}
	return properties
}

func (f Field) schema() map[string]any {
	description := f.Help
	if f.Otherwise != "" {
		description += " Default: " + f.Otherwise + "."
	}
	switch f.Unit {
	case "s":
		description += " A number of seconds, or a string such as \"1:30\"."
	case "bytes":
		description += " A number of bytes, or a string such as \"3GB\"."
	}
	s := map[string]any{"description": description, "title": f.Title, "type": f.Type}
	if f.Unit == "s" || f.Unit == "bytes" {
		s["type"] = []string{f.Type, "string"}
	}
	if f.Choices != nil {
		s["enum"] = f.Choices
	}
	if f.Min != nil {
		s["minimum"] = *f.Min
	}
	if f.Max != nil {
		s["maximum"] = *f.Max
	}
	if f.Multiple > 0 {
		s["multipleOf"] = f.Multiple
	}
	switch f.Type {
	case "string":
		if f.Default != "" {
			s["default"] = f.Default
		}
	default:
		if n, err := strconv.ParseFloat(f.Default, 64); err == nil {
			s["default"] = n
		}
	}
	return s
}
