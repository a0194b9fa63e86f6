package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// growth is by how many zeros a segment grows when it has to grow. Behind its last record there are then zeros that are on the disk
// already, and to make durable what is written over them takes no change of the file's metadata: such a change costs an fdatasync
// about as much again. The zeros are written and made durable with the commit that needs them, which takes about a millisecond longer.
const growth = 1 << 20

var zeroes [64 << 10]byte

// grow takes note of a write up to end that made the segment larger, and adds zeros. For those there need not be room.
func (j *Journal) grow(end, more int64) error {
	s := j.segment
	s.size = end
	for at := end; at < end+more; {
		n, err := j.opts.write(s.file, zeroes[:min(int64(len(zeroes)), end+more-at)], at)
		at += int64(n)
		switch {
		case err == nil:
			s.size = at
		case noRoom(err):
			if err := s.file.Truncate(end); err != nil {
				return fmt.Errorf("journal: taking back zeros behind the records of %s: %w", s.path, err)
			}
			s.size = end
			return nil
		default:
			return fmt.Errorf("journal: writing %s: %w", s.path, err)
		}
	}
	return nil
}

// check notices that the segment was removed, replaced, truncated or written to by others.
func (s *segment) check() error {
	is, err := os.Lstat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return tampered("%s was removed", s.path)
	case err != nil:
		return fmt.Errorf("journal: %w", err)
	case !os.SameFile(s.info, is):
		return tampered("%s was replaced", s.path)
	case is.Size() != s.size:
		return tampered("%s has %d bytes, and should have %d", s.path, is.Size(), s.size)
	}
	return nil
}

// rests is check between commits: nobody must have written where the next one will be.
func (s *segment) rests() error {
	if err := s.check(); err != nil {
		return err
	}
	behind := make([]byte, min(s.size-s.end, blockSize))
	if _, err := s.file.ReadAt(behind, s.end); err != nil {
		return fmt.Errorf("journal: reading %s: %w", s.path, err)
	}
	if !isZero(behind) {
		return tampered("%s has something behind its last record", s.path)
	}
	return nil
}

// trim removes the zeros behind the last record.
func (s *segment) trim() error {
	if s.size == s.end {
		return nil
	}
	if err := s.rests(); err != nil {
		return err
	}
	if err := s.file.Truncate(s.end); err != nil {
		return fmt.Errorf("journal: removing the zeros behind the records of %s: %w", s.path, err)
	}
	s.size = s.end
	return nil
}

// leave is the last that the committer does. That the zeros are removed need not be durable, since opening the journal removes them.
func (j *Journal) leave() {
	if j.Err() != nil {
		return
	}
	if err := j.segment.trim(); err != nil {
		j.fail(err)
	}
}

// onlyZeros reports whether there is nothing but zeros until in ends.
func onlyZeros(in io.Reader) (bool, error) {
	b := make([]byte, 32<<10)
	for {
		n, err := in.Read(b)
		switch {
		case !isZero(b[:n]):
			return false, nil
		case errors.Is(err, io.EOF):
			return true, nil
		case err != nil:
			return false, fmt.Errorf("journal: %w", err)
		}
	}
}

func isZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeroes))
		if !bytes.Equal(b[:n], zeroes[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}
