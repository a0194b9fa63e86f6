package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// segment is the segment that is written to. Its first end bytes are durable; behind them there are zeros up to its size.
type segment struct {
	path   string
	file   *os.File
	info   os.FileInfo // of file, for its identity
	first  uint64
	end    int64
	size   int64
	last   int64 // offset of the last block, 0 if there is none
	sealed bool

	created time.Time // as its header says
	opened  time.Time // by this process
}

// now is the clock's time, but not before the segment was begun, nor before what has passed since by the clock that cannot be set: a
// clock that goes back must not make records look older than they are.
func (s *segment) now(clock time.Time) time.Time {
	if earliest := s.created.Add(time.Since(s.opened)); clock.Before(earliest) {
		return earliest
	}
	return clock
}

// patience is how often the committer yields without a record coming before it goes with those there are.
const patience = 4

// commit runs until the journal is closed: it writes what waits, makes it durable, and says so.
func (j *Journal) commit() {
	defer close(j.hashes)
	expect := 0
	idle := time.NewTicker(time.Second)
	defer idle.Stop()
	for {
		select {
		case <-j.wake:
		case <-idle.C:
			if err := j.segment.rests(); err != nil {
				j.fail(err)
			}
		}
		for {
			b, last := j.take(expect)
			if b == nil {
				if last {
					j.leave()
					return
				}
				break
			}
			expect = j.settle(b)
		}
	}
}

// take exchanges the batch that is being filled for an empty one. It returns none if there is nothing in it that is ripe, and says then
// whether there will never be.
func (j *Journal) take(expect int) (b *batch, last bool) {
	// Those whose records were in the last commit have just been woken. To go without them would split the appenders in two halves that
	// wait for each other's fsync; they get the processor first, for as long as they use it.
	if j.spare == nil {
		j.spare = <-j.free
	}
	before, idle := 0, 0
	for {
		j.mu.Lock()
		count := j.fill.count
		last = j.closing || j.failure != nil
		if !last && !j.ripe() {
			j.mu.Unlock()
			return nil, false
		}
		if count == before {
			idle++
		}
		if last || count >= expect || idle == patience || len(j.fill.buf) > j.opts.BatchBytes/2 {
			break
		}
		j.mu.Unlock()
		before = count
		runtime.Gosched()
	}
	defer j.mu.Unlock()
	if j.fill.count == 0 {
		return nil, last
	}
	b, j.fill, j.spare = j.fill, j.spare, nil
	j.giveRoom()
	return b, false
}

// settle commits a batch and tells those who wait for it. It returns how many records the next batch can be expected to have: those
// that came meanwhile, and as many again as somebody waited for.
func (j *Journal) settle(b *batch) (expect int) {
	b.first = j.durable.Load()
	err := j.Err()
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrFailed, err)
	} else if err = j.write(b); err != nil && !errors.Is(err, ErrFull) {
		j.fail(err)
		err = fmt.Errorf("%w: %w: %w", ErrFailed, ErrUndecided, err)
	}
	if err != nil {
		if b.offered > 0 {
			j.opts.Lost(b.offered) // before whoever waits for a later record of the batch is told
		}
		b.end(err)
		if errors.Is(err, ErrFull) {
			j.opts.Trouble(err)
		}
		j.free <- b.reset()
		return 0
	}
	j.mu.Lock()
	expect = j.fill.count + b.count - b.offered
	j.mu.Unlock()
	j.durable.Store(b.first + uint64(b.count))
	b.end(nil)
	j.hashes <- b
	return expect
}

// write makes a batch durable. After ErrFull the segment is what it was before; after any other error nothing can be said of it.
func (j *Journal) write(b *batch) error {
	body := b.buf[blockSize:]
	sumFrames(body, b.first)
	block{body: len(body), count: b.count, first: b.first}.encode(b.buf, j.id)
	if s := j.segment; s.sealed || s.first < b.first && s.end+int64(len(b.buf)) > j.opts.SegmentBytes {
		if err := j.rotate(b.first); err != nil {
			return err
		}
	}
	s := j.segment
	at := s.end
	if err := j.extend(b.buf, min(growth, j.opts.SegmentBytes-at-int64(len(b.buf)))); err != nil {
		return err
	}
	s.last = at
	return nil
}

// extend appends to the segment and makes it durable. Where the segment has to grow for it, it grows by so many zeros more.
func (j *Journal) extend(data []byte, zeros int64) error {
	s := j.segment
	end := s.end + int64(len(data))
	grows := end > s.size
	// Writing could hide that it was truncated.
	if err := s.check(); err != nil {
		return err
	}
	if _, err := j.opts.write(s.file, data, s.end); err != nil {
		if noRoom(err) {
			return j.takeBack(err)
		}
		return fmt.Errorf("journal: writing %s: %w", s.path, err)
	}
	if grows {
		if err := j.grow(end, zeros); err != nil {
			return err
		}
	}
	// Whatever an fsync says, the next one may say that all is well when it is not, since the kernel forgets what it could not write.
	// So none is tried again; and no room, told this late, is a failure like any other.
	if err := j.opts.sync(s.file); err != nil {
		return fmt.Errorf("journal: fsync of %s: %w", s.path, err)
	}
	s.end = end
	return s.check()
}

// takeBack undoes a write for which there was no room. That is safe where it would not be after a failed fsync: the write began
// behind the last durable byte, nothing before it was touched, and nothing of it was acknowledged. What is taken back was never
// durable; that the rest still reads as it was written is checked, and what cannot be undone is a failure.
func (j *Journal) takeBack(cause error) error {
	s := j.segment
	if err := s.file.Truncate(s.end); err != nil {
		return fmt.Errorf("journal: taking back a write to %s for which there was no room: %w", s.path, err)
	}
	s.size = s.end
	if err := s.check(); err != nil {
		return err
	}
	if s.last > 0 {
		data := make([]byte, s.end-s.last)
		if _, err := s.file.ReadAt(data, s.last); err != nil {
			return fmt.Errorf("journal: reading %s back: %w", s.path, err)
		}
		h, ok := decodeBlock(data, j.id)
		if !ok || blockSize+h.body != len(data) {
			return &CorruptError{File: s.path, Offset: s.last, Record: j.durable.Load(), Reason: "the last block does not read as it was written"}
		}
		if index, at, reason := checkFrames(data[blockSize:], h); reason != "" {
			return &CorruptError{File: s.path, Offset: s.last + blockSize + int64(at), Record: index, Reason: reason}
		}
	}
	return fmt.Errorf("%w: %w", ErrFull, cause)
}

// rotate finishes the segment and begins the next one. The next one is there, under another name, before the seal is written: if
// there is no room for either, then nothing has happened yet.
func (j *Journal) rotate(first uint64) error {
	next, err := j.createSegment(first)
	if err != nil {
		return err
	}
	old := j.segment
	if !old.sealed {
		// A finished segment ends with its seal.
		if err := old.trim(); err != nil {
			return errors.Join(err, next.file.Close())
		}
		seal := make([]byte, blockSize)
		block{seal: true, first: first}.encode(seal, j.id)
		if err := j.extend(seal, 0); err != nil {
			return errors.Join(err, next.file.Close())
		}
		old.sealed = true
	}
	if err := j.nameSegment(next); err != nil {
		return errors.Join(err, next.file.Close())
	}
	j.sealed.add(old)
	j.segment = next
	return old.file.Close()
}

// createSegment writes a segment without records, under a name that is none yet.
func (j *Journal) createSegment(first uint64) (*segment, error) {
	temporary := filepath.Join(j.dir, segmentDir, unfinished)
	f, err := createFile(temporary)
	if err != nil {
		return nil, full("creating", temporary, err)
	}
	created := j.opts.Now()
	if j.segment != nil {
		created = j.segment.now(created)
	}
	if err := j.writeTime(first, created); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	data := header{id: j.id, first: first, created: created}.encode()
	if _, err := j.opts.write(f, data, 0); err != nil {
		return nil, errors.Join(full("writing", temporary, err), f.Close())
	}
	if err := j.opts.sync(f); err != nil {
		return nil, errors.Join(fmt.Errorf("journal: fsync of %s: %w", temporary, err), f.Close())
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal: %w", err), f.Close())
	}
	return &segment{
		path: segmentPath(j.dir, first), file: f, info: info, first: first, end: headerSize, size: headerSize, created: created, opened: time.Now(),
	}, nil
}

func (j *Journal) nameSegment(s *segment) error {
	if err := os.Rename(filepath.Join(j.dir, segmentDir, unfinished), s.path); err != nil {
		return full("naming", s.path, err)
	}
	if err := syncDir(filepath.Dir(s.path)); err != nil {
		return fmt.Errorf("journal: fsync of the folder of %s: %w", s.path, err)
	}
	return nil
}

func full(doing, path string, err error) error {
	if noRoom(err) {
		return fmt.Errorf("%w: %s %s: %w", ErrFull, doing, path, err)
	}
	return fmt.Errorf("journal: %s %s: %w", doing, path, err)
}
