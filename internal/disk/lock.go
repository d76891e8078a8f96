package disk

import (
	"context"
	"errors"
	"os"
	"runtime"
	"time"

	"github.com/gofrs/flock"
)

// ErrLocked is returned by TryLock when somebody else has the lock: another
// process, or another Lock of this one.
var ErrLocked = errors.New("another process has locked it")

// Lock is an exclusive lock that a file stands for. The system releases it when
// the process ends, however it ends.
type Lock struct{ f *flock.Flock }

// TryLock takes the lock at path, or returns ErrLocked. It makes the file where
// it does not exist, readable for its owner only. The content of the file means
// nothing to the lock; on Windows others cannot read its first byte meanwhile.
func TryLock(path string) (*Lock, error) {
	for {
		l := &Lock{flock.New(path)}
		var ok bool
		err := Retry(func() (err error) { // on Windows the file may just be removed
			ok, err = l.f.TryLock()
			return err
		})
		if err == nil && !ok {
			err = ErrLocked
		}
		if err != nil {
			return nil, errors.Join(err, l.f.Close())
		}
		// Whoever had the lock may have removed the file in between. Then this
		// lock keeps nobody out, and the next attempt makes a new file.
		ours, err := l.f.Stat()
		if err != nil {
			return nil, errors.Join(err, l.f.Close())
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(ours, there) {
			return l, nil
		}
		_ = l.f.Close()
	}
}

// lockInterval is how often WaitLock tries again.
const lockInterval = 100 * time.Millisecond

// WaitLock is TryLock that waits until the lock is free or ctx ends. It calls
// waiting, if that is not nil, once when it has to wait.
func WaitLock(ctx context.Context, path string, waiting func()) (*Lock, error) {
	for {
		l, err := TryLock(path)
		if !errors.Is(err, ErrLocked) {
			return l, err
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(lockInterval):
		}
	}
}

// Release releases the lock and leaves the file.
func (l *Lock) Release() error { return l.f.Close() }

// Remove removes the file and releases the lock, in the order in which nobody
// can lock a file that is about to be removed.
func (l *Lock) Remove() error {
	if runtime.GOOS != "windows" {
		return errors.Join(os.Remove(l.f.Path()), l.f.Close())
	}
	// Here an open file cannot be removed. If somebody opened it in between, it
	// stays and the lock is theirs.
	err := l.f.Close()
	_ = os.Remove(l.f.Path())
	return err
}
