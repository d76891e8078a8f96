package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/models"
)

type modelsListCmd struct {
	Dir  string `placeholder:"FOLDER" help:"Models folder. Default: LIPSTREAM_MODELS_DIR, or lipstream/models in the user's cache folder."`
	JSON bool   `name:"json" help:"Print the list as JSON."`
}

// Run implements lipstream models list. It succeeds even if checkpoints are
// missing.
func (m *modelsListCmd) Run(ctx context.Context, c *console) error {
	dir, err := modelsDir(m.Dir)
	if err != nil {
		return err
	}
	rows := models.List(ctx, dir)
	if m.JSON {
		return printJSON(c, "print as JSON", struct {
			Dir   string       `json:"dir"`
			Files []models.Row `json:"files"`
		}{dir, rows})
	}
	t := newTable(c, "WHAT", "VERSION", "SIZE", "PREPARED", "WHERE")
	for _, r := range rows {
		version, size, prepared, where := "-", "-", "-", r.Hint
		if r.Path != "" {
			size, where = memory.Size(r.Size), r.Path
			if r.Version != nil {
				version = r.Version.Name
				if version == "" {
					version = "unknown"
				}
			}
			if r.Kind != models.Whisper {
				prepared = "no"
			}
			if len(r.Prepared) > 0 {
				prepared = strings.Join(slices.Sorted(maps.Keys(r.Prepared)), ", ")
			}
		}
		t.line(string(r.Kind), version, size, prepared, where)
	}
	return t.close("print the list")
}

type modelsCheckCmd struct {
	Path string `arg:"" optional:"" help:"Checkpoint or models folder. Default: the models folder."`
	Deep bool   `help:"Read every value to find damage, NaN and infinities, and compute the SHA-256."`
	JSON bool   `name:"json" help:"Print the report as JSON."`
}

// checked is one file in the output of lipstream models check --json.
type checked struct {
	models.Report
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

// Run implements lipstream models check. It checks all files and returns the first
// error.
func (m *modelsCheckCmd) Run(ctx context.Context, c *console) error {
	path, err := modelsDir(m.Path)
	if err != nil {
		return err
	}
	files := []string{path}
	var missing error
	if st, err := os.Stat(path); m.Path == "" || err == nil && st.IsDir() {
		set, err := models.Find(path)
		missing = err
		files = slices.DeleteFunc([]string{set.UNet, set.Whisper, set.VAE}, func(p string) bool { return p == "" })
	}
	bar := newByteBar(c)
	defer bar.clear()
	all := []checked{}
	var failed []error
	for _, f := range files {
		r, err := models.Inspect(ctx, f, models.InspectOptions{Deep: m.Deep, Progress: func(done, total int64) { bar.show(filepath.Base(f), done, total) }})
		bar.clear()
		if ctx.Err() != nil {
			return err
		}
		row := checked{Report: r}
		if err != nil {
			failed = append(failed, err)
			row.Error, row.Hint = err.Error(), fault.HintOf(err)
		}
		all = append(all, row)
	}
	if m.JSON {
		err = printJSON(c, "print as JSON", all)
	} else {
		err = printReports(c, all)
	}
	if err != nil {
		return err
	}
	if len(failed) > 0 {
		return failed[0]
	}
	return missing
}

// printReports prints the reports of all files that could be read in part.
func printReports(c *console, all []checked) error {
	t := newTable(c)
	for _, r := range all {
		if r.Format == "" {
			if len(all) > 1 { // the error of a single file is that of the command
				t.line(oneLine(r.Path, maxErrorLine))
				t.line("  error", r.Error)
			}
			continue
		}
		t.line(oneLine(r.Path, maxErrorLine))
		t.line("  kind", string(r.Kind)+", "+r.Format+", "+memory.Size(r.Size))
		if r.Version != nil {
			v := r.Version.String()
			if r.Version.Resolution > 0 {
				v += fmt.Sprintf(", %d pixels, according to %s", r.Version.Resolution, r.Version.How)
			} else {
				v += "; run it with --resolution 256 or 512"
			}
			t.line("  version", v)
		}
		if r.Topology != "" {
			t.line("  topology", r.Topology)
			t.line("  parameters", fmt.Sprintf("%s, and %s computed by formulas", thousands(r.Parameters), thousands(r.Buffers)))
			if r.Unused > 0 {
				t.line("", thousands(r.Unused)+" more are unused")
			}
		}
		var types []string
		for _, d := range slices.Sorted(maps.Keys(r.DTypes)) {
			types = append(types, fmt.Sprintf("%d %s", r.DTypes[d], d))
		}
		t.line("  tensors", strings.Join(types, ", "))
		if r.SHA256 != "" {
			t.line("  SHA-256", r.SHA256)
		}
		if r.Published != "" {
			t.line("  published", r.Published)
		}
		switch {
		case r.Error != "":
			t.line("  error", r.Error)
		case r.Deep:
			t.line("  values", "all finite")
		default:
			t.line("  values", "not checked; --deep checks them")
		}
	}
	return t.close("print the report")
}

// thousands formats 1267099844 as 1,267,099,844.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
