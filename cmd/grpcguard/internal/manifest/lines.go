package manifest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Lines compares the lines of an export with those that the journal gives, which are written to it, one with each Write.
type Lines struct {
	in   *bufio.Reader
	line []byte // read and not yet used; with its line break
	n    int    // its number
	// Found are the first differences, and More counts the others.
	Found []string
	More  int
}

// most bounds how many differences are told in full.
const most = 20

// NewLines compares with the lines of r.
func NewLines(r io.Reader) *Lines { return &Lines{in: bufio.NewReaderSize(r, 1<<16)} }

func (l *Lines) differf(format string, args ...any) {
	if len(l.Found) == most {
		l.More++
		return
	}
	l.Found = append(l.Found, fmt.Sprintf(format, args...))
}

// peek returns the next line of the export, or nil at its end.
func (l *Lines) peek() ([]byte, error) {
	if l.line != nil {
		return l.line, nil
	}
	line, err := l.in.ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(line) > 0 {
		l.line = line
		l.n++
	}
	return l.line, nil
}

// Write takes the line that should come next.
func (l *Lines) Write(want []byte) (int, error) {
	index, isRecord := lineIndex(want)
	for {
		line, err := l.peek()
		if err != nil {
			return 0, err
		}
		if bytes.Equal(line, want) {
			l.line = nil
			return len(want), nil
		}
		got, ok := lineIndex(line)
		switch {
		case !isRecord:
			l.differf("line %d is not the header of the columns", l.n)
			if ok { // The header is missing, and the line is a record's.
				return len(want), nil
			}
			l.line = nil
			return len(want), nil
		case line == nil || ok && got > index:
			l.differf("record %d is missing", index)
			return len(want), nil
		case ok && got == index:
			l.differf("line %d is not record %d as the journal has it", l.n, index)
			l.line = nil
			return len(want), nil
		case ok:
			l.differf("line %d is record %d, which does not belong there", l.n, got)
		default:
			l.differf("line %d is no record", l.n)
		}
		l.line = nil
	}
}

// End compares the end of the export with the end of what was written.
func (l *Lines) End() error {
	for {
		line, err := l.peek()
		if err != nil || line == nil {
			return err
		}
		l.differf("line %d should not be there", l.n)
		l.line = nil
	}
}

// lineIndex returns the index of the record that a line is of.
func lineIndex(line []byte) (uint64, bool) {
	line = bytes.TrimPrefix(line, []byte(`{"index":`))
	end := bytes.IndexByte(line, ',')
	if end < 0 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(line[:end]), 10, 64)
	return n, err == nil
}
