package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/ffmpeg"
	"github.com/lipstream/lipstream/internal/media"
)

// TestDoctorWithoutFFmpeg runs the command with an empty PATH.
func TestDoctorWithoutFFmpeg(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // nothing is installed
	t.Setenv("HOME", t.TempDir())
	t.Setenv("LocalAppData", t.TempDir())
	t.Setenv(ffmpeg.EnvFFmpeg, "")
	t.Setenv(ffmpeg.EnvFFprobe, "")
	models := filepath.Join(t.TempDir(), "mo\x1b[31mdels")
	t.Setenv("LIPSTREAM_MODELS_DIR", models)
	t.Setenv("HF_HUB_CACHE", t.TempDir())

	var out, errs bytes.Buffer
	err := (&doctorCmd{}).Run(t.Context(), &console{Out: &out, Err: &errs})
	if fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), "ffmpeg") {
		t.Errorf("error %v", err)
	}
	for _, want := range []string{"missing  ffmpeg ", "lipstream runtime install ffmpeg", "missing  unet ", "-> run: lipstream models pull 1.6", "disk work"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "\x1b") || errs.Len() > 0 {
		t.Errorf("out %q, err %q", out.String(), errs.String())
	}

	out.Reset()
	_ = (&doctorCmd{JSON: true}).Run(t.Context(), &console{Out: &out, Err: &errs})
	var report struct {
		Checks []struct{ Name, Status, Detail, Fix string }
		Ready  bool
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil || report.Ready || len(report.Checks) < 5 {
		t.Errorf("%v: %s", err, out.String())
	}
}

// TestEncoderOfABrokenFFmpeg replaces ffmpeg by a program that cannot encode.
func TestEncoderOfABrokenFFmpeg(t *testing.T) {
	dir := t.TempDir()
	fake := filepath.Join(dir, "ffmpeg")
	script := "#!/bin/sh\n[ \"$1\" = -version ] && { echo ffmpeg version 7.1; exit 0; }\necho 'Unknown encoder libx264' >&2\nexit 1\n"
	if err := os.WriteFile(fake, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(ffmpeg.EnvFFmpeg, fake)
	t.Setenv(ffmpeg.EnvFFprobe, fake)
	if _, err := media.FindTools(t.Context()); err != nil {
		t.Skip("needs shell scripts:", err)
	}
	if _, err := tryEncoder(t.Context()); err == nil || !strings.Contains(err.Error(), "Unknown encoder") {
		t.Errorf("error %v", err)
	}
}
