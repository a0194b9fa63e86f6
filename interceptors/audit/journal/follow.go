package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
)

// Follower reads the records in a folder in order, and goes on where it was when there are more. Unlike [Records] it does not look
// for its place anew each time. The journal may be open elsewhere. It is used by one goroutine.
type Follower struct {
	dir  string
	next uint64

	segment *scanner // nil before the first record, and after an error
	rest    []byte   // frames of the block that was read last, from next on
	upTo    uint64   // what lies below it can be believed where it is buffered
}

// DeletedError says that records were deleted, by Journal.Prune or by somebody else, before a Follower came to them.
type DeletedError struct {
	// From is the first of them, and Before the first record that was kept.
	From, Before uint64
}

func (e *DeletedError) Error() string {
	return fmt.Sprintf("journal: records %d to %d were deleted before they were read", e.From, e.Before-1)
}

// Follow returns a Follower that begins with record from.
func Follow(dir string, from uint64) *Follower { return &Follower{dir: dir, next: from} }

// Next returns the index of the record that is read next.
func (f *Follower) Next() uint64 { return f.next }

// Close releases the file that is open. It may be read from again.
func (f *Follower) Close() {
	if f.segment != nil {
		f.segment.close()
	}
	f.segment, f.rest = nil, nil
}

// Records iterates over the records from Next on and below to, which must not be above the size of a checkpoint. Who leaves the
// iteration early finds the record after the one that it left at next time. The last element is an error if a record cannot be read;
// that is a DeletedError where the next record is gone, and those after it are not.
func (f *Follower) Records(to uint64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		err := f.refresh(to)
		for err == nil && f.next < to {
			if len(f.rest) == 0 {
				err = f.block()
				continue
			}
			var leaf []byte
			leaf, f.rest = nextLeaf(f.rest)
			f.next++
			if !yield(Record{f.next - 1, leaf[1:]}, nil) {
				return
			}
		}
		if err != nil {
			f.Close()
			yield(Record{}, err)
		}
	}
}

// refresh forgets what was buffered from beyond the records that were durable: a commit for which there was no room may have been
// written there, and another one since.
func (f *Follower) refresh(to uint64) error {
	if to <= f.upTo || f.segment == nil {
		f.upTo = max(f.upTo, to)
		return nil
	}
	if _, err := f.segment.file.Seek(f.segment.offset, io.SeekStart); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	f.segment.in.Reset(f.segment.file)
	f.upTo = to
	return nil
}

// Skip goes on with record to.
func (f *Follower) Skip(to uint64) {
	f.Close()
	f.next = to
}

// block reads the block that holds the next record.
func (f *Follower) block() error {
	if f.segment == nil {
		if err := f.open(); err != nil {
			return err
		}
	}
	for {
		h, body, err := f.segment.block(f.next)
		switch {
		case errors.Is(err, io.EOF):
			return tampered("%s: record %d is in no segment", f.dir, f.next)
		case err != nil:
			return err
		case h.seal:
			return f.turn(h.first)
		case body == nil:
			continue
		}
		for index := h.first; index < f.next; index++ {
			_, body = nextLeaf(body)
		}
		f.rest = body
		return nil
	}
}

// open opens the segment that holds the next record.
func (f *Follower) open() error {
	for {
		firsts, err := listSegments(f.dir)
		if err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		if len(firsts) == 0 {
			return tampered("%s: record %d is in no segment", f.dir, f.next)
		}
		if firsts[0] > f.next {
			return &DeletedError{From: f.next, Before: firsts[0]}
		}
		at := firsts[0]
		for _, first := range firsts {
			if first <= f.next {
				at = first
			}
		}
		f.segment, err = openSegment(f.dir, at, nil)
		// A segment that was deleted after it was listed is listed no longer.
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
}

// turn goes from a finished segment to the one that begins with record first. If that one was deleted meanwhile, those before it
// were as well, and open finds which is the first that was not.
func (f *Follower) turn(first uint64) error {
	if first != f.next {
		return f.segment.corrupt(0, f.next, fmt.Sprintf("the segment's seal leads to record %d", first))
	}
	next, err := openSegment(f.dir, first, &f.segment.head.id)
	f.Close()
	if errors.Is(err, fs.ErrNotExist) {
		if err := f.open(); err != nil {
			return err
		}
		f.Close()
		return tampered("%s is missing", segmentPath(f.dir, first))
	}
	f.segment = next
	return err
}
