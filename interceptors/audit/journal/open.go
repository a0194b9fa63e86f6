package journal

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Open opens the journal in dir, or begins one there if Options.Create says so.
//
// A block that a crash cut short at the very end is removed; none of its records was acknowledged. Anything else that is not as the
// journal left it is refused: a damaged block before the end, a segment that is missing, cut short, of another journal or nobody's,
// fewer records than the signed checkpoint or a known one counts, and records that do not hash to it. Finished segments are compared by
// their seals, and what the tiles cover is not read again; Verify reads everything.
func Open(dir string, opts Options) (*Journal, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	known := make([]Checkpoint, 0, len(opts.Known))
	for _, signed := range opts.Known {
		c, err := OpenCheckpoint(signed, opts.Verifier)
		if err != nil {
			return nil, fmt.Errorf("Options.Known: %w", err)
		}
		known = append(known, c)
	}
	if _, err := os.Stat(filepath.Join(dir, segmentDir)); errors.Is(err, fs.ErrNotExist) && !opts.Create {
		return nil, fmt.Errorf("%w in %s, and Options.Create is not set", ErrNoJournal, dir)
	}
	for _, sub := range []string{segmentDir, tileDir, timesDir} {
		if err := makeDir(filepath.Join(dir, sub), syncDir); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
	}
	held, err := lock(dir)
	if err != nil {
		return nil, err
	}
	j := &Journal{
		dir: dir, opts: opts, lock: held,
		wake:    make(chan struct{}, 1),
		free:    make(chan *batch, batches),
		hashes:  make(chan *batch, batches),
		sign:    make(chan signRequest, 1),
		tell:    make(chan Checkpoint, 1),
		replace: replaceFile,
		failed:  make(chan struct{}), ended: make(chan struct{}), done: make(chan struct{}), published: make(chan struct{}),
	}
	t, err := j.recover(known)
	if err != nil {
		if j.segment != nil {
			err = errors.Join(err, j.segment.file.Close())
		}
		return nil, errors.Join(err, unlock(held))
	}
	for range batches {
		j.free <- (&batch{buf: make([]byte, blockSize, opts.BatchBytes/8+blockSize)}).reset()
	}
	j.fill = <-j.free
	j.gather = time.AfterFunc(time.Hour, j.ripen)
	j.gather.Stop()
	j.run(newFollower(j, t))
	return j, nil
}

// batches is how many batches there are: one fills, one is written, and two are hashed or empty.
const batches = 4

// recover brings the files to the state that was acknowledged, and returns the Merkle log over them.
func (j *Journal) recover(known []Checkpoint) (*tree, error) {
	firsts, err := listSegments(j.dir)
	if err != nil {
		return nil, err
	}
	if len(firsts) == 0 {
		if firsts, err = j.begin0(); err != nil {
			return nil, err
		}
	}
	_, err = os.Stat(filepath.Join(j.dir, checkpointFile))
	fresh := errors.Is(err, fs.ErrNotExist) && j.opts.Create && len(firsts) == 1 && firsts[0] == 0
	var c Checkpoint
	if !fresh {
		if c, err = ReadCheckpoint(j.dir, j.opts.Verifier); err != nil {
			return nil, err
		}
	}
	last, err := j.recoverSegments(firsts, c.Size)
	if err != nil {
		return nil, err
	}
	if fresh {
		// The first checkpoint is there before the first record, so records without any are a removed checkpoint.
		if n := j.durable.Load(); n > 0 {
			return nil, tampered("%s has %d records and no checkpoint", j.dir, n)
		}
		if c, err = signCheckpoint(0, (&tree{}).root(), j.opts.Signer); err != nil {
			return nil, err
		}
		if err := replaceFile(j.dir, checkpointFile, c.Note); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
	}
	if err := j.checkPruned(firsts[0]); err != nil {
		return nil, err
	}
	t, err := j.recoverTree(firsts, c, known)
	if err != nil {
		return nil, err
	}
	// Nothing of the segments was changed so far: what is refused stays as it was found.
	if err := j.reopen(last); err != nil {
		return nil, err
	}
	j.checkpoint.Store(&c)
	return t, j.catchUp(t, c)
}

// begin0 makes the first segment of a new journal.
func (j *Journal) begin0() ([]uint64, error) {
	if !j.opts.Create {
		return nil, fmt.Errorf("%w in %s, and Options.Create is not set", ErrNoJournal, j.dir)
	}
	if _, err := os.Stat(filepath.Join(j.dir, checkpointFile)); err == nil {
		return nil, tampered("%s has a checkpoint and no segments", j.dir)
	}
	_, _ = rand.Read(j.id[:])
	s, err := j.createSegment(0)
	if err != nil {
		return nil, err
	}
	if err := j.nameSegment(s); err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	return []uint64{0}, errors.Join(s.file.Close(), syncDir(j.dir))
}

// recoverSegments checks that each segment leads to the next, and reads the last one to its last whole block.
func (j *Journal) recoverSegments(firsts []uint64, signed uint64) (last *scanner, err error) {
	var id *journalID
	for i, first := range firsts[:len(firsts)-1] {
		head, next, err := readSeal(j.dir, first, id)
		if err != nil {
			return nil, err
		}
		id = &head.id
		if next != firsts[i+1] {
			return nil, tampered("%s ends before record %d, and the next segment is %s: one is missing", segmentPath(j.dir, first), next, segmentPath(j.dir, firsts[i+1]))
		}
		info, err := os.Lstat(segmentPath(j.dir, first))
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		j.sealed.list = append(j.sealed.list, sealedSegment{segmentPath(j.dir, first), first, info})
	}
	s, err := openSegment(j.dir, firsts[len(firsts)-1], id)
	if err != nil {
		return nil, err
	}
	defer s.close()
	j.id = s.head.id
	err = nil
	for err == nil {
		_, _, err = s.block(0)
	}
	if bad := (*CorruptError)(nil); errors.As(err, &bad) {
		if s.next < signed {
			return nil, fmt.Errorf("%w: the checkpoint counts %d records: %w", ErrTampered, signed, err)
		}
		err = s.torn(err)
	} else if errors.Is(err, io.EOF) {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	if s.next < signed {
		return nil, tampered("%s ends before record %d, and the checkpoint counts %d records", s.path, s.next, signed)
	}
	j.durable.Store(s.next)
	return s, nil
}

// reopen opens the last segment for writing, without what a crash left behind its last whole block.
func (j *Journal) reopen(s *scanner) error {
	f, err := openFile(s.path, os.O_RDWR)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("journal: %w", err), f.Close())
	}
	j.segment = &segment{
		path: s.path, file: f, info: info, first: s.head.first, end: s.offset, size: s.offset, last: s.last, sealed: s.sealed,
		created: s.head.created, opened: time.Now(),
	}
	if err := f.Truncate(s.offset); err != nil {
		return fmt.Errorf("journal: removing what a crash left in %s: %w", s.path, err)
	}
	// What was written last may be in memory only, because its fsync failed, and the kernel then counts it as written. Writing it
	// again makes it count as new.
	if s.last > 0 {
		last := make([]byte, s.offset-s.last)
		if _, err := f.ReadAt(last, s.last); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		if _, err := j.opts.write(f, last, s.last); err != nil {
			return full("writing", s.path, err)
		}
	}
	if err := j.opts.sync(f); err != nil {
		return fmt.Errorf("journal: fsync of %s: %w", s.path, err)
	}
	if err := syncDir(filepath.Dir(s.path)); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return j.segment.check()
}

// recoverTree returns the Merkle log over all records. The tiles are believed as far as they agree with the checkpoint; where they do
// not, the log is computed from the first record on.
func (j *Journal) recoverTree(firsts []uint64, c Checkpoint, known []Checkpoint) (*tree, error) {
	size := j.durable.Load()
	synced, _ := readNumber(filepath.Join(j.dir, syncedFile))
	var t *tree
	err := tampered("%s: the tiles do not reach back to record %d", j.dir, firsts[0])
	for _, from := range slices.Compact([]uint64{min(synced, c.Size), c.Size, 0}) {
		if from < firsts[0] {
			continue
		}
		var edge *tree
		if edge, err = readEdge(j.dir, from); err == nil {
			t, err = j.rebuild(edge, c, known)
		}
		if err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	if t.size != size {
		return nil, tampered("%s: the segments hold %d records, and %d could be read", j.dir, size, t.size)
	}
	return t, nil
}

// rebuild extends a tree to all records, twice: to compare it with the checkpoints, and then to write its tiles. Tiles that were
// right are not written over by those of records that are wrong.
func (j *Journal) rebuild(t *tree, c Checkpoint, known []Checkpoint) (*tree, error) {
	start := t.clone()
	expect := append([]Checkpoint{c}, known...)
	slices.SortFunc(expect, func(a, b Checkpoint) int { return cmp.Compare(a.Size, b.Size) })
	var later []Checkpoint // older than the tree's beginning: compared when the tiles are there
	check := func() error {
		for len(expect) > 0 && expect[0].Size <= t.size {
			if expect[0].Size < t.size {
				later = append(later, expect[0])
			} else if t.root() != expect[0].Root {
				return tampered("%s: the first %d records do not hash to the checkpoint", j.dir, t.size)
			}
			expect = expect[1:]
		}
		return nil
	}
	if err := check(); err != nil {
		return nil, err
	}
	err := scan(j.dir, t.size, j.durable.Load(), func(h block, body []byte) error {
		for i := t.size - h.first; i > 0; i-- {
			_, body = nextLeaf(body)
		}
		for len(body) > 0 {
			var leaf []byte
			leaf, body = nextLeaf(body)
			t.add(hashLeaf(leaf))
			if len(expect) > 0 && expect[0].Size == t.size {
				if err := check(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(expect) > 0 {
		return nil, tampered("%s has %d records, and a checkpoint of %d is known", j.dir, t.size, expect[0].Size)
	}
	if err := j.writeTiles(start); err != nil {
		return nil, err
	}
	now := Checkpoint{Size: t.size, Root: t.root()}
	for _, earlier := range later {
		if err := now.holds(j.dir, earlier); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// writeTiles writes the tiles of all records from a tree on.
func (j *Journal) writeTiles(t *tree) error {
	if t.size == j.durable.Load() {
		return nil
	}
	var failed error
	t.full = func(full tile) {
		if failed == nil {
			failed = writeTile(j.dir, full)
		}
	}
	err := scan(j.dir, t.size, j.durable.Load(), func(h block, body []byte) error {
		for i := t.size - h.first; i > 0; i-- {
			_, body = nextLeaf(body)
		}
		t.addBody(body)
		return failed
	})
	for _, p := range t.partial() {
		if err == nil {
			err = writeTile(j.dir, p)
		}
	}
	if err != nil {
		return fmt.Errorf("journal: writing tiles: %w", err)
	}
	return nil
}

// catchUp signs a checkpoint of what was recovered, before anything is added to it.
func (j *Journal) catchUp(t *tree, c Checkpoint) error {
	if c.Size < t.size {
		var err error
		if c, err = signCheckpoint(t.size, t.root(), j.opts.Signer); err != nil {
			return err
		}
		if err := replaceFile(j.dir, checkpointFile, c.Note); err != nil {
			return fmt.Errorf("journal: writing a checkpoint: %w", err)
		}
		j.checkpoint.Store(&c)
	}
	latest(j.tell, c)
	return nil
}

// readNumber reads a file that holds a number, a hint. It is not ok if there is none.
func readNumber(path string) (n uint64, ok bool) {
	data, err := readFile(nil, path, 32)
	if err != nil {
		return 0, false
	}
	n, err = strconv.ParseUint(strings.TrimSpace(string(data)), 10, 63)
	return n, err == nil
}

// scan gives each block with records from from on and below to, the whole of the first one, which may begin earlier. Segments below
// from are not opened.
func scan(dir string, from, to uint64, each func(h block, body []byte) error) error {
	firsts, err := listSegments(dir)
	if err != nil {
		return err
	}
	at := from
	var id *journalID
	for i, first := range firsts {
		if at >= to {
			return nil
		}
		if i+1 < len(firsts) && firsts[i+1] <= from {
			continue
		}
		if first > at {
			return tampered("%s: record %d is in no segment", dir, at)
		}
		s, err := openSegment(dir, first, id)
		if err != nil {
			return err
		}
		id = &s.head.id
		at, err = s.each(from, to, each)
		s.close()
		if err != nil {
			return err
		}
	}
	if at < to {
		return tampered("%s: record %d is in no segment", dir, at)
	}
	return nil
}

// each gives the blocks of one segment, and returns the index that it came to.
func (s *scanner) each(from, to uint64, each func(h block, body []byte) error) (uint64, error) {
	for s.next < to {
		h, body, err := s.block(from)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return s.next, err
		}
		if body != nil && h.count > 0 {
			if err := each(h, body); err != nil {
				return s.next, err
			}
		}
	}
	return s.next, nil
}

// emptyRoot is the hash of no records.
var emptyRoot = func() tlog.Hash { return (&tree{}).root() }()
