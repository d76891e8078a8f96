package store

import (
	"os"
	"path/filepath"

	"github.com/lipstream/lipstream/internal/fault"
)

// Own creates a folder if necessary and locks it for this process, until the file is
// closed or the process ends.
func Own(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.Output.Wrap("make the folder "+dir, fault.WithoutPath(err), "choose another folder with `data`")
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fault.Output.Wrap("use the folder "+dir, fault.WithoutPath(err), "choose another folder with `data`")
	}
	if err := lock(f); err != nil {
		_ = f.Close()
		return nil, fault.Output.New("use the folder "+dir, "another lipstream uses it", "end that one, or choose another folder with `data`")
	}
	return f, nil
}
