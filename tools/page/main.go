// Command page bundles the web page into dist, which package web embeds.
package main

import (
	"fmt"
	"os"

	"github.com/lipstream/lipstream/internal/web/bundle"
)

func main() {
	files, err := bundle.Build("src")
	if err == nil {
		err = os.MkdirAll("dist", 0o755)
	}
	for name, content := range files {
		if err == nil {
			err = os.WriteFile("dist/"+name, content, 0o644)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "page:", err)
		os.Exit(1)
	}
}
