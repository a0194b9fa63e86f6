//go:build unix

package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// lock takes the journal in dir for this process. The lock ends with the process, however it ends.
func lock(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockFile)
	f, err := openFile(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%w: %s is locked", ErrLocked, path)
	}
	if err == nil {
		// A lock on a file that was removed in between would be a lock on nothing.
		err = sameFile(f, path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// unlock gives the lock back. Closing the file alone would not, while a process that was just forked has it as well.
func unlock(f *os.File) error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
}

// sameFile checks that path still leads to f.
func sameFile(f *os.File, path string) error {
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return tampered("%s was removed", path)
	}
	if err != nil {
		return err
	}
	if !os.SameFile(mine, there) {
		return tampered("%s was replaced", path)
	}
	return nil
}

// noRoom reports whether an error of a write says that there is no room, on the disk or in the quota.
func noRoom(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// inPlace is how a file is opened that may be there: neither through a link nor waiting for the other end of a pipe.
const inPlace = unix.O_NOFOLLOW | unix.O_NONBLOCK

// readFile reads a small file into memory that is used again. Whatever is in its place, it neither waits nor reads more than most
// bytes. It makes three system calls, where os.ReadFile makes eight: Verify reads a tile for every 256 records.
func readFile(into []byte, path string, most int) ([]byte, error) {
	fd, err := again(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	into = slices.Grow(into[:0], most+1)
	// One read is enough: of a file it comes back short at the end only.
	n, err := again(func() (int, error) { return unix.Read(fd, into[:most+1]) })
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	if n > most {
		return nil, tampered("%s has more than %d bytes", path, most)
	}
	return into[:n], nil
}

func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
