package main

import (
	"strings"

	"github.com/alecthomas/kong"
)

// describeSettings completes the help of the settings from those of their tags
// that kong does not know: choices and otherwise.
func describeSettings(node *kong.Node) {
	for _, f := range node.Flags {
		if choices := f.Tag.Get("choices"); choices != "" {
			f.PlaceHolder = strings.ReplaceAll(choices, ",", "|")
		}
		if otherwise := f.Tag.Get("otherwise"); otherwise != "" {
			f.Help += " Default: " + otherwise + "."
		} else if f.HasDefault && f.Tag.Has("json") {
			f.Help += " Default: " + f.Default + "."
		}
		if node.Name == "submit" && f.Tag.Get("scope") == "local" {
			f.Hidden = true // the server refuses it
		}
	}
	for _, child := range node.Children {
		describeSettings(child)
	}
}
