package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// disk is a folder on a real disk for what is written while it is measured. All of it is removed at the end.
type disk struct {
	dir string
	// system is the kind of file system.
	system string
	n      int
}

// newDisk makes a folder below dir, or in the working folder if dir is empty. One that is in memory is refused: an fsync costs nothing there.
func newDisk(dir string) (*disk, error) {
	if dir == "" {
		dir = "."
	}
	system, inMemory, err := fileSystem(dir)
	if err == nil && inMemory {
		err = errors.New("that is memory and no disk; name another folder with -dir")
	}
	if err != nil {
		return nil, fmt.Errorf("%s (%s): %w", dir, system, err)
	}
	dir, err = os.MkdirTemp(dir, "bench-records-")
	return &disk{dir: dir, system: system}, err
}

// folder returns the path of a new folder.
func (d *disk) folder() (string, error) {
	d.n++
	path := filepath.Join(d.dir, strconv.Itoa(d.n))
	return path, os.Mkdir(path, 0o700)
}

func (d *disk) remove() error { return os.RemoveAll(d.dir) }
