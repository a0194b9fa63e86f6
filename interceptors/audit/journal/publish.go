package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	// syncEvery is how often the tiles are made durable. What a crash of the machine takes of the last ones is computed again.
	syncEvery = 30 * time.Second
	// tryAgain is the pause after which what failed for want of room, or at the witness, is tried again.
	tryAgain = time.Second
	// maxUnsaved is how many tiles, of 8 KiB each, wait in memory for the next checkpoint before they are written without one.
	maxUnsaved = 1024
	// witnessPatience is how long a try to reach the witness may take before it counts as failed and is told to Trouble; lastWitness is
	// what is left of it once the journal closes, and lastGrace what a witness then has to listen to its context.
	witnessPatience = 10 * time.Second
	lastWitness     = 5 * time.Second
	lastGrace       = time.Second
)

// signRequest asks for a checkpoint of a tree whose tiles are written.
type signRequest struct {
	size uint64
	root tlog.Hash
	// grown are tiles that have become full, whose narrower versions can go once the full ones are durable.
	grown []string
}

// follower builds the Merkle log behind the records. It is used by one goroutine.
type follower struct {
	j       *Journal
	tree    *tree
	unsaved []tile         // full tiles that are not on disk yet
	partial map[int]uint64 // by level, the number of the tile that has narrower versions on disk
	grown   []string
	asked   uint64 // the size of the last checkpoint asked for
}

func newFollower(j *Journal, t *tree) *follower {
	f := &follower{j: j, tree: t, partial: make(map[int]uint64), asked: t.size}
	t.full = func(full tile) {
		full.hashes = append([]tlog.Hash(nil), full.hashes...)
		f.unsaved = append(f.unsaved, full)
	}
	for _, p := range t.partial() {
		f.partial[p.level] = p.n
	}
	return f
}

// save writes what tiles there are to write.
func (f *follower) save(edge bool) error {
	for len(f.unsaved) > 0 {
		t := f.unsaved[0]
		if err := writeTile(f.j.dir, t); err != nil {
			return err
		}
		if n, ok := f.partial[t.level]; ok && n == t.n {
			f.grown = append(f.grown, tilePath(f.j.dir, t.level, t.n, tileWidth)+".p")
			delete(f.partial, t.level)
		}
		f.unsaved = f.unsaved[1:]
	}
	f.unsaved = nil
	if !edge {
		return nil
	}
	for _, t := range f.tree.partial() {
		if err := writeTile(f.j.dir, t); err != nil {
			return err
		}
		f.partial[t.level] = t.n
	}
	return nil
}

// request writes the tiles and asks for a checkpoint over them. It is put off, and says so, if the last request was not taken yet.
func (f *follower) request() (put bool, err error) {
	if err := f.save(true); err != nil {
		return false, err
	}
	select {
	case f.j.sign <- signRequest{f.tree.size, f.tree.root(), f.grown}:
		f.asked, f.grown = f.tree.size, nil
		return true, nil
	default:
		return false, nil
	}
}

// follow runs until the committer has ended: it puts durable records into the Merkle log.
func (j *Journal) follow(f *follower) {
	defer close(j.sign)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	armed := false
	arm := func(after time.Duration) {
		if !armed {
			timer.Reset(after)
			armed = true
		}
	}
	for {
		select {
		case b, more := <-j.hashes:
			if !more {
				f.finish()
				return
			}
			f.tree.addBody(b.buf[blockSize:])
			j.free <- b.reset()
			// Files that are made while an fsync runs make it longer, so tiles are written together.
			var err error
			if len(f.unsaved) > maxUnsaved {
				err = f.save(false)
			}
			switch {
			case err != nil:
				f.saved(err)
				arm(tryAgain)
			default:
				arm(j.opts.CheckpointEvery)
			}
		case <-timer.C:
			armed = false
			put, err := f.request()
			switch {
			case !f.saved(err):
				arm(tryAgain)
			case !put:
				arm(j.opts.CheckpointEvery / 8)
			case f.tree.size > f.asked:
				arm(j.opts.CheckpointEvery)
			}
		}
	}
}

// saved takes note of whether tiles could be written. While there is no room, no record is taken: it could not be proved in time.
func (f *follower) saved(err error) bool {
	switch {
	case err == nil:
		f.j.refusing.And(^tilesLag)
		return true
	case noRoom(err):
		f.j.refusing.Or(tilesLag)
		f.j.opts.Trouble(fmt.Errorf("%w: writing tiles: %w", ErrFull, err))
	default:
		f.j.fail(fmt.Errorf("journal: writing tiles: %w", err))
	}
	return false
}

// finish asks for the last checkpoint. It waits for its turn.
func (f *follower) finish() {
	if err := f.save(true); err != nil {
		f.saved(err)
		return
	}
	f.j.sign <- signRequest{f.tree.size, f.tree.root(), f.grown}
}

// publish runs until the follower has ended: it signs checkpoints, and looks after the files that nobody writes to.
func (j *Journal) publish(sync chan<- signRequest) {
	defer close(sync)
	var grown []string
	last := time.Now()
	check := time.NewTicker(time.Second)
	defer check.Stop()
	for {
		select {
		case r, more := <-j.sign:
			if !more {
				sync <- signRequest{size: j.Checkpoint().Size, grown: grown}
				return
			}
			grown = append(grown, r.grown...)
			if !j.publishOne(r) {
				continue
			}
			if time.Since(last) > syncEvery {
				select {
				case sync <- signRequest{size: r.size, grown: grown}:
					last, grown = time.Now(), nil
				default:
				}
			}
		case <-check.C:
			if err := j.checkFiles(); err != nil {
				j.fail(err)
			}
		}
	}
}

// publishOne writes one checkpoint. Where there is no room, it waits for some, unless the journal is closing.
func (j *Journal) publishOne(r signRequest) bool {
	if r.size == j.Checkpoint().Size {
		return true
	}
	c, err := signCheckpoint(r.size, r.root, j.opts.Signer)
	if err != nil {
		j.fail(err)
		return false
	}
	for {
		// Where another process has the journal, it may be ahead; what it signed is not written over.
		if err = j.checkOwn(); err != nil {
			j.fail(err)
			return false
		}
		err = j.replace(j.dir, checkpointFile, c.Note)
		if !noRoom(err) {
			break
		}
		j.refusing.Or(noteLag)
		j.opts.Trouble(fmt.Errorf("%w: writing a checkpoint: %w", ErrFull, err))
		if j.ending() {
			return false
		}
		time.Sleep(tryAgain)
	}
	j.refusing.And(^noteLag)
	if err != nil {
		j.fail(fmt.Errorf("journal: writing a checkpoint: %w", err))
		return false
	}
	j.checkpoint.Store(&c)
	j.mu.Lock()
	close(j.published)
	j.published = make(chan struct{})
	j.mu.Unlock()
	latest(j.tell, c)
	return true
}

func (j *Journal) ending() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.closing || j.failure != nil
}

// checkFiles notices that files were removed or replaced to which nothing is being written: the lock, the checkpoint, and, a few at
// a time, the finished segments.
func (j *Journal) checkFiles() error {
	if err := j.checkOwn(); err != nil {
		return err
	}
	return j.sealed.check()
}

// checkOwn checks that the lock and the checkpoint are what this journal made of them.
func (j *Journal) checkOwn() error {
	if err := sameFile(j.lock, filepath.Join(j.dir, lockFile)); err != nil {
		return err
	}
	path := filepath.Join(j.dir, checkpointFile)
	signed, err := readFile(nil, path, maxCheckpoint)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return tampered("%s was removed", path)
	case err != nil:
		return fmt.Errorf("journal: %w", err)
	case string(signed) != string(j.Checkpoint().Note):
		return tampered("%s is not what the journal wrote last", path)
	}
	return nil
}

// sync makes tiles durable from time to time, takes note of how far, and removes what full tiles have made superfluous.
func (j *Journal) sync(requests <-chan signRequest) {
	for r := range requests {
		err := j.syncTiles(r.size)
		for _, path := range r.grown {
			if err == nil {
				err = os.RemoveAll(path)
			}
		}
		switch {
		case err == nil:
		case noRoom(err):
			j.opts.Trouble(fmt.Errorf("%w: making tiles durable: %w", ErrFull, err))
		default:
			j.fail(fmt.Errorf("journal: making tiles durable: %w", err))
		}
	}
}

// syncTiles makes the tiles of the first size records durable, which are written, and takes note of it.
func (j *Journal) syncTiles(size uint64) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if err := syncTree(filepath.Join(j.dir, tileDir)); err != nil || size < j.synced {
		return err
	}
	j.synced = size
	return replaceFile(j.dir, syncedFile, []byte(strconv.FormatUint(size, 10)+"\n"))
}

// witness runs until told is closed: it gives the latest checkpoint to the witness.
func (j *Journal) witness() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// Once the last checkpoint is written, the witness has a little time left for it.
	go func() {
		select {
		case <-j.ended:
			timer := time.AfterFunc(lastWitness, cancel)
			<-ctx.Done()
			timer.Stop()
		case <-ctx.Done():
		}
	}()
	for c := range j.tell {
		for {
			once, stop := context.WithTimeout(ctx, witnessPatience)
			err := j.opts.Witness(once, c)
			stop()
			if err == nil {
				break
			}
			j.opts.Trouble(fmt.Errorf("journal: the witness did not take checkpoint %d: %w", c.Size, err))
			select {
			case newer, more := <-j.tell:
				if !more {
					return
				}
				c = newer
				continue
			case <-time.After(tryAgain):
				continue
			case <-ctx.Done():
				return
			}
		}
	}
}

// run starts what an open journal consists of.
func (j *Journal) run(f *follower) {
	var working sync.WaitGroup
	requests := make(chan signRequest, 1)
	working.Go(j.commit)
	working.Go(func() { j.follow(f) })
	working.Go(func() { j.publish(requests) })
	working.Go(func() { j.sync(requests) })
	told := make(chan struct{})
	go func() {
		defer close(told)
		if j.opts.Witness != nil {
			j.witness()
		}
	}()
	go func() {
		working.Wait()
		close(j.ended)
		close(j.tell)
		select {
		case <-told:
		case <-time.After(lastWitness + lastGrace):
			j.opts.Trouble(errors.New("journal: the witness did not return when its context ended, and is left behind"))
		}
		// A deletion that has begun ends first, so that who opens the journal next finds its files at rest.
		j.pruning.Lock()
		defer j.pruning.Unlock()
		_ = j.segment.file.Close()
		_ = unlock(j.lock)
		close(j.done)
	}()
}

// sealedSegments are the finished segments, as they were when they were finished.
type sealedSegments struct {
	mu   sync.Mutex
	list []sealedSegment
	at   int
}

type sealedSegment struct {
	path  string
	first uint64
	info  os.FileInfo
}

// add takes note of a segment that was just finished, while it is still open.
func (s *sealedSegments) add(done *segment) {
	info, err := done.file.Stat()
	if err != nil {
		return
	}
	s.mu.Lock()
	s.list = append(s.list, sealedSegment{done.path, done.first, info})
	s.mu.Unlock()
}

// check compares a few of the segments, others each time.
func (s *sealedSegments) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range min(64, len(s.list)) {
		s.at = (s.at + 1) % len(s.list)
		was := s.list[s.at]
		is, err := os.Lstat(was.path)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return tampered("%s was removed", was.path)
		case err != nil:
			return fmt.Errorf("journal: %w", err)
		case !os.SameFile(was.info, is):
			return tampered("%s was replaced", was.path)
		case is.Size() != was.info.Size():
			return tampered("%s has %d bytes, and had %d", was.path, is.Size(), was.info.Size())
		}
	}
	return nil
}

// before returns the segments that end before the one that begins with first.
func (s *sealedSegments) before(first uint64) []sealedSegment {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []sealedSegment
	for _, old := range s.list {
		if old.first < first {
			out = append(out, old)
		}
	}
	return out
}

// remove removes a segment, and forgets it once it is gone: one that cannot be removed is the first of those to remove next time.
func (s *sealedSegments) remove(old sealedSegment, remove func(path string) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := remove(old.path); err != nil {
		return err
	}
	s.list = slices.DeleteFunc(s.list, func(is sealedSegment) bool { return is.first == old.first })
	return nil
}
