package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// openFile opens a file of the journal. What is a link, a pipe or a device is refused: it would be somebody else's file that is
// written, or reading would not end.
func openFile(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag|inPlace, filePerm)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		if info, lerr := os.Lstat(path); lerr == nil && !info.Mode().IsRegular() {
			err = tampered("%s is no plain file", path)
		}
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = tampered("%s is no plain file", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// replaceFile writes a small file so that a crash leaves the old one or the new one.
func replaceFile(dir, name string, data []byte) error {
	temporary := filepath.Join(dir, name+".tmp")
	f, err := createFile(temporary)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

// createFile makes a new file in place of one that a crash left, and never writes to what is there already, or to what it links to.
func createFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, filePerm)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, filePerm)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDir makes a folder and those above it, each durable in its parent: a journal is lost if its folder is.
func makeDir(dir string, sync func(dir string) error) error {
	parent := filepath.Dir(dir)
	err := os.Mkdir(dir, dirPerm)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := makeDir(parent, sync); err != nil {
			return err
		}
		err = os.Mkdir(dir, dirPerm)
	}
	if err == nil {
		return sync(parent)
	}
	if info, serr := os.Stat(dir); serr == nil && info.IsDir() {
		return nil
	}
	return err
}
