package media

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
)

// CheckEncoding checks, before any work is done, that this ffmpeg can encode what
// o asks for into a file named path. OpenSink checks it too.
func CheckEncoding(ctx context.Context, tools Tools, path string, o SinkOptions) error {
	cont, err := containerOf(path)
	if err != nil {
		return err
	}
	_, encoder, err := chooseCodec(ctx, tools, path, cont, o.Codec, o.Format)
	if err != nil {
		return err
	}
	_, err = videoCodecArgs(encoder, o.Format.PixFmt(), &o)
	return err
}

// CheckOutput checks, before any work is done, that path can be written.
func CheckOutput(path string, overwrite bool, inputs ...string) error {
	if _, err := containerOf(path); err != nil {
		return err
	}
	path, err := followLinks(path)
	if err != nil {
		return err
	}
	op, dir := writeOp+" "+path, filepath.Dir(path)
	st, err := os.Stat(dir)
	switch {
	case os.IsNotExist(err):
		return fault.Output.New(op, "the folder "+dir+" does not exist", "create it first")
	case err != nil:
		return fault.Output.Wrap(op, err)
	case !st.IsDir():
		return fault.Output.New(op, dir+" is not a folder")
	}
	if st, err := os.Lstat(path); err == nil {
		if st.IsDir() {
			return fault.Output.New(op, "it is a directory", "choose a file name")
		}
		for _, in := range inputs {
			if ist, err := os.Stat(in); err == nil && os.SameFile(st, ist) {
				return fault.Output.New(op, "the output is the same file as the input "+in, "choose another name for the output")
			}
		}
		if !overwrite {
			return fault.Output.New(op, "the file exists already", "use `overwrite` to replace it")
		}
		if !st.Mode().IsRegular() {
			return fault.Output.New(op, "it is not a regular file", "choose another name")
		}
	}
	// Only an attempt shows whether the permissions suffice.
	temp := disk.TempName(path)
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fault.Output.Wrap(op, fmt.Errorf("the folder %s cannot be written: %w", dir, fault.WithoutPath(err)), "choose another folder")
	}
	_ = f.Close()
	if err := disk.Remove(temp); err != nil {
		return err
	}
	// Report this now, not when the job is done.
	err = disk.Replaceable(path)
	return fault.Output.Wrap(op, err, disk.Hint(err, "choose another name"))
}

// followLinks returns the file that an output is written to. If path is a link,
// that is the target, even if it does not exist yet; the link stays.
func followLinks(path string) (string, error) {
	for at, n := path, 0; n < 40; n++ {
		to, err := os.Readlink(at)
		if err != nil { // it is not a link, or does not exist
			return at, nil
		}
		if !filepath.IsAbs(to) {
			// The folder may be a link itself, from which ".." leads elsewhere.
			dir, err := filepath.EvalSymlinks(filepath.Dir(at))
			if err != nil {
				return "", fault.Output.Wrap(writeOp+" "+path, fault.WithoutPath(err))
			}
			to = filepath.Join(dir, to)
		}
		at = to
	}
	return "", fault.Output.New(writeOp+" "+path, "it is a link that leads to itself", "choose another name for the output")
}

// outputFault explains to the user why the file could not be written.
func outputFault(op string, err error, stderr []string) error {
	text := strings.Join(stderr, "\n")
	for _, known := range [][3]string{
		{"No space left on device", "the disk is full", "free some space, or write to another disk"},
		{"Disk quota exceeded", "the disk quota is used up", "free some space, or write to another disk"},
		{"File too large", "the file has reached the size limit of the file system or of the process", "write to another disk, or raise ulimit -f"},
		{"Read-only file system", "the file system is read-only", "write to another disk"},
	} {
		if strings.Contains(text, known[0]) {
			return fault.Output.Wrap(op, &explained{known[1], err}, known[2])
		}
	}
	if x, ok := errors.AsType[*child.ExitError](err); ok && x.Signal == fileSizeSignal {
		return fault.Output.Wrap(op, &explained{"the file has reached the process's size limit", err}, "raise ulimit -f")
	}
	if killed(err) {
		return fault.Internal.Wrap(op, err, killedHint)
	}
	return fault.Output.Wrap(op, err)
}
