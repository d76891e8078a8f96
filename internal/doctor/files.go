package doctor

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/models"
)

// checkpoints checks the models folder. Only some engines need it, and the details of
// missing checkpoints say so. It opens each file, which finds files that
// are no checkpoints, but does not read the weights.
func (r *Report) checkpoints(ctx context.Context, dir string) {
	rows, err := attempt(ctx, toolTimeout, func(ctx context.Context) ([]models.Row, error) { return models.List(ctx, dir), nil })
	if err != nil {
		r.add(failed("checkpoints", Warning, err, "make "+dir+" readable"))
		return
	}
	all := "" // how to get Whisper and the VAE with a UNet, if there is none
	for _, row := range rows {
		name, need := string(row.Kind), neededBy(row.Kind)
		switch {
		case row.Path != "":
			if row.Kind == models.MuseTalkUNet {
				all = ""
			}
			r.add(checkCheckpoint(ctx, name, row))
		case row.Kind == models.UNet:
			all = row.Hint
			r.add(Check{name, Missing, "not found (the models folder is " + dir + ")" + need, row.Hint})
		case row.Kind == models.MuseTalkUNet:
			r.add(Check{name, Missing, "not found (the models folder is " + dir + ")" + need, row.Hint})
		case need != "":
			r.add(Check{name, Missing, "not found (the models folder is " + dir + ")" + need, cmp.Or(all, row.Hint)})
		}
	}
}

// neededBy says which engines need a checkpoint. It returns "" for an optional one.
func neededBy(kind models.Kind) string {
	switch engines := kind.Engines(); len(engines) {
	case 0:
		return ""
	case 1:
		return "; only the " + string(engines[0]) + " engine needs it"
	default:
		return "; only the engines " + string(engines[0]) + " and " + string(engines[1]) + " need it"
	}
}

func checkCheckpoint(ctx context.Context, name string, row models.Row) Check {
	_, err := attempt(ctx, toolTimeout, func(context.Context) (struct{}, error) {
		f, err := checkpoint.Open(row.Path)
		if err == nil {
			err = f.Close()
		}
		return struct{}{}, err
	})
	if err != nil {
		c := failed(name, Warning, err, "run: lipstream models check")
		c.Detail += neededBy(row.Kind)
		return c
	}
	version, prepared := "", ""
	if row.Version != nil {
		version = row.Version.String()
	}
	if row.Kind.HalfPrecision() {
		prepared = "not prepared"
	}
	if len(row.Prepared) > 0 {
		prepared = "prepared as " + strings.Join(slices.Sorted(maps.Keys(row.Prepared)), " and ")
	}
	return Check{Name: name, Status: OK, Detail: words(version, memory.Size(row.Size), prepared, row.Path)}
}

// checkSpace checks the free space for a folder. If the folder does not exist yet, its
// nearest parent counts.
func checkSpace(d Dir, free func(string) (int64, error)) Check {
	name := "disk " + d.Name
	var n int64
	at, err := existing(d.Path)
	if err == nil {
		n, err = free(at)
	}
	if err != nil {
		return failed(name, Warning, err, "make "+d.Path+" readable")
	}
	detail := memory.Size(n) + " free, " + d.Path
	if n < lowSpace {
		return Check{name, Warning, detail, "free some disk space: long videos need 2 GiB or more"}
	}
	return Check{Name: name, Status: OK, Detail: detail}
}

// existing returns path, or the nearest folder above it that exists.
func existing(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(path)
		if err == nil {
			return path, nil
		}
		parent := filepath.Dir(path)
		if !errors.Is(err, fs.ErrNotExist) || parent == path {
			return "", err
		}
		path = parent
	}
}
