// Package bundle makes the files of the page out of their TypeScript.
package bundle

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

// Build gives index.html, app.js and app.css of a folder with index.html,
// app.ts and app.css.
func Build(src string) (map[string][]byte, error) {
	abs, err := filepath.Abs(src)
	if err != nil {
		return nil, err
	}
	r := api.Build(api.BuildOptions{
		EntryPoints: []string{filepath.Join(abs, "app.ts"), filepath.Join(abs, "app.css")}, AbsWorkingDir: abs, Outdir: "/out",
		Bundle: true, MinifyWhitespace: true, MinifySyntax: true, Charset: api.CharsetUTF8, LegalComments: api.LegalCommentsNone,
		Target: api.ES2022, Format: api.FormatESModule, LogLevel: api.LogLevelSilent,
	})
	var failed error
	for _, m := range r.Errors {
		failed = errors.Join(failed, errors.New(strings.Join(api.FormatMessages([]api.Message{m}, api.FormatMessagesOptions{}), "")))
	}
	if failed != nil {
		return nil, failed
	}
	page, err := os.ReadFile(filepath.Join(abs, "index.html"))
	files := map[string][]byte{"index.html": page}
	for _, f := range r.OutputFiles {
		files[filepath.Base(f.Path)] = f.Contents
	}
	return files, err
}
