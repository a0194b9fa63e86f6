package witness

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const (
	dirPerm = 0o700
	// maxNote is more than a checkpoint with all its signatures has.
	maxNote = 1 << 16
)

// readNote reads a small file.
func readNote(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxNote+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("witness: %w", err)
	case len(data) > maxNote:
		return nil, fmt.Errorf("witness: %s has more than %d bytes", path, maxNote)
	}
	return data, nil
}

// place puts a file where name says, so that a crash leaves all of it or nothing. put is os.Rename, to replace what is there, or
// os.Link, which does not.
func place(dir, name string, data []byte, put func(from, to string) error) error {
	f, err := os.CreateTemp(dir, ".unfinished-*")
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = put(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	d, err := os.Open(dir)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	return nil
}
