package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	lockFile       = "lock"
	checkpointFile = "checkpoint"
	syncedFile     = "synced"
	prunedFile     = "pruned"
	segmentDir     = "segments"
	tileDir        = "tile"
	segmentSuffix  = ".seg"
	unfinished     = "unfinished.tmp"

	filePerm = 0o600
	dirPerm  = 0o700
)

func segmentPath(dir string, first uint64) string {
	return filepath.Join(dir, segmentDir, fmt.Sprintf("%020d%s", first, segmentSuffix))
}

// listSegments returns the index of each segment's first record, in order. A file that is no segment is an error: nobody else has
// business there.
func listSegments(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(filepath.Join(dir, segmentDir))
	if err != nil {
		return nil, err
	}
	var firsts []uint64
	for _, e := range entries {
		if e.Name() == unfinished {
			continue
		}
		text, isSegment := strings.CutSuffix(e.Name(), segmentSuffix)
		first, err := strconv.ParseUint(text, 10, 63)
		if !isSegment || err != nil || len(text) != 20 || !e.Type().IsRegular() {
			return nil, tampered("%s is not the journal's", filepath.Join(dir, segmentDir, e.Name()))
		}
		firsts = append(firsts, first)
	}
	return firsts, nil
}

// scanner reads a segment from its first block to its last.
type scanner struct {
	path   string
	file   *os.File
	in     *bufio.Reader
	head   header
	offset int64 // of the next block
	next   uint64
	sealed bool
	zeros  bool  // the end was zeros, and not that of the file
	last   int64 // offset of the last block read that holds records, 0 before
	buffer []byte
}

// openSegment opens the segment that begins with record first. If id is not nil, the segment must be of that journal.
func openSegment(dir string, first uint64, id *journalID) (*scanner, error) {
	f, head, err := openHeader(dir, first, id)
	if err != nil {
		return nil, err
	}
	return &scanner{path: segmentPath(dir, first), file: f, in: bufio.NewReaderSize(f, 1<<18), head: head, offset: headerSize, next: first}, nil
}

// openHeader opens a segment and reads its header, and nothing more.
func openHeader(dir string, first uint64, id *journalID) (*os.File, header, error) {
	path := segmentPath(dir, first)
	f, err := openFile(path, os.O_RDONLY)
	if err != nil {
		return nil, header{}, err
	}
	data := make([]byte, headerSize)
	n, err := io.ReadFull(f, data)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, header{}, errors.Join(err, f.Close())
	}
	reason := ""
	head, err := decodeHeader(data[:n])
	switch {
	case err != nil:
		reason = err.Error()
	case head.first != first:
		reason = fmt.Sprintf("the segment begins with record %d and not with that of its name", head.first)
	case id != nil && head.id != *id:
		reason = "the segment is of another journal"
	}
	if reason != "" {
		return nil, header{}, errors.Join(&CorruptError{File: path, Record: first, Reason: reason}, f.Close())
	}
	return f, head, nil
}

func (s *scanner) close() { _ = s.file.Close() }

func (s *scanner) corrupt(at int64, record uint64, reason string) error {
	return &CorruptError{File: s.path, Offset: s.offset + at, Record: record, Reason: reason}
}

// looks is how often the end is looked at before it is believed to be what it seems.
const looks = 4

// block reads the next block and checks it. Blocks that end before record from are passed over unread, with a nil body. At the end
// of the file, or where only zeros follow, the error is io.EOF; anything that is no whole block is a CorruptError, and offset stays at
// its beginning. The body is valid until the next call, and there must be none after the end.
//
// What was read ahead can be older than what lies behind it, where the journal is open elsewhere: so whatever looks like zeros or damage
// is read once more.
func (s *scanner) block(from uint64) (h block, body []byte, err error) {
	for try := 1; ; try++ {
		h, body, err = s.read(from)
		if err == nil || try == looks || errors.Is(err, io.EOF) && (!s.zeros || try > 1) {
			return h, body, err
		}
		if _, err := s.file.Seek(s.offset, io.SeekStart); err != nil {
			return block{}, nil, fmt.Errorf("journal: %w", err)
		}
		s.in.Reset(s.file)
		s.zeros = false
	}
}

// read is block for what was read ahead.
func (s *scanner) read(from uint64) (h block, body []byte, err error) {
	var head [blockSize]byte
	n, err := io.ReadFull(s.in, head[:])
	switch {
	case errors.Is(err, io.EOF):
		return block{}, nil, io.EOF
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return block{}, nil, fmt.Errorf("journal: %w", err)
	case isZero(head[:n]):
		zero, rerr := onlyZeros(s.in)
		if rerr != nil {
			return block{}, nil, rerr
		}
		if zero {
			s.zeros = true
			return block{}, nil, io.EOF
		}
	}
	if err != nil {
		return block{}, nil, s.corrupt(0, s.next, fmt.Sprintf("the file ends %d bytes into a block's header", n))
	}
	if s.sealed {
		return block{}, nil, s.corrupt(0, s.next, "something follows the segment's seal")
	}
	h, ok := decodeBlock(head[:], s.head.id)
	if !ok {
		return block{}, nil, s.corrupt(0, s.next, "the block's header is damaged")
	}
	if h.first != s.next {
		return block{}, nil, s.corrupt(0, s.next, fmt.Sprintf("the block begins with record %d", h.first))
	}
	if body, err = s.body(h, from); err != nil {
		return block{}, nil, err
	}
	if !h.seal {
		s.last = s.offset
	}
	s.sealed = h.seal
	s.offset += int64(blockSize + h.body)
	s.next = h.next()
	return h, body, nil
}

func (s *scanner) body(h block, from uint64) ([]byte, error) {
	var n int
	var err error
	pass := h.next() <= from
	if pass {
		n, err = s.in.Discard(h.body)
	} else {
		if cap(s.buffer) < h.body {
			s.buffer = make([]byte, h.body)
		}
		s.buffer = s.buffer[:h.body]
		n, err = io.ReadFull(s.in, s.buffer)
	}
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return nil, s.corrupt(int64(blockSize+n), h.first, fmt.Sprintf("the file ends %d bytes into a block of %d", n, h.body))
	case err != nil:
		return nil, fmt.Errorf("journal: %w", err)
	case pass:
		return nil, nil
	}
	if index, at, reason := checkFrames(s.buffer, h); reason != "" {
		return nil, s.corrupt(int64(blockSize+at), index, reason)
	}
	return s.buffer, nil
}

// torn decides what a bad block at the end of the last segment is. A commit begins only when the one before is durable, so what a
// crash leaves is at most one block that is not whole, perhaps with zeros in it and behind it, and no block behind it. If there is one, or if there is more than a block
// can hold, then a record that was acknowledged is damaged, and bad is returned as it is.
func (s *scanner) torn(bad error) error {
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	if s.sealed || info.Size()-s.offset > blockSize+maxBody+growth {
		return bad
	}
	rest := make([]byte, info.Size()-s.offset)
	if _, err := s.file.ReadAt(rest, s.offset); err != nil {
		return err
	}
	// Where the journal is open, the block may have become whole since.
	if h, ok := decodeBlock(rest, s.head.id); ok && len(rest) >= blockSize+h.body {
		if _, _, reason := checkFrames(rest[blockSize:blockSize+h.body], h); reason == "" && h.first == s.next {
			return nil
		}
	}
	for at := 1; at < len(rest); at++ {
		i := bytes.IndexByte(rest[at:], blockMagic[0])
		if i < 0 {
			return nil
		}
		at += i
		if h, ok := decodeBlock(rest[at:], s.head.id); ok && h.first > s.next {
			return bad
		}
	}
	return nil
}

// readSeal returns the index that a finished segment's seal says the next one begins with.
func readSeal(dir string, first uint64, id *journalID) (head header, next uint64, err error) {
	f, head, err := openHeader(dir, first, id)
	if err != nil {
		return header{}, 0, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return header{}, 0, err
	}
	var b [blockSize]byte
	at := info.Size() - blockSize
	if at >= headerSize {
		if _, err := f.ReadAt(b[:], at); err != nil {
			return header{}, 0, err
		}
	}
	h, ok := decodeBlock(b[:], head.id)
	if !ok || !h.seal || h.first < first {
		return header{}, 0, &CorruptError{File: f.Name(), Offset: max(at, 0), Record: first, Reason: "the segment is not the last and has no seal at its end"}
	}
	return head, h.first, nil
}
