package main

import (
	"strings"

	"github.com/alecthomas/kong"
)

// describeFlags completes the help of flags and arguments with their defaults and
// with the tags of settings that kong does not know: choices and otherwise.
func describeFlags(node *kong.Node) {
	for _, a := range node.Positional {
		describeDefault(a)
	}
	for _, f := range node.Flags {
		if choices := f.Tag.Get("choices"); choices != "" {
			f.PlaceHolder = strings.ReplaceAll(choices, ",", "|")
		}
		describeDefault(f.Value)
		if node.Name == "submit" && f.Tag.Get("scope") == "local" {
			f.Hidden = true // the server refuses it
		}
	}
	for _, child := range node.Children {
		describeFlags(child)
	}
}

func describeDefault(v *kong.Value) {
	text := v.Tag.Get("otherwise")
	if text == "" && v.HasDefault {
		text = v.Default
	}
	if text != "" && !strings.Contains(v.Help, "Default:") {
		v.Help += " Default: " + text + "."
	}
}
