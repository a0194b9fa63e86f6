package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Options say how a journal is opened. The zero value of each field is its default, except for the keys, which must be given.
type Options struct {
	// Signer signs checkpoints. Its name is the log's origin: by convention a URL without a scheme, such as "bank.example/ledger/audit".
	Signer note.Signer
	// Verifier verifies what Signer signed. A checkpoint on disk that it does not verify is not believed.
	Verifier note.Verifier
	// Create allows for a folder without a journal, and begins one there. Without it such a folder is refused with ErrNoJournal, so that
	// a journal that was removed is not begun anew in silence.
	Create bool
	// Known are checkpoints of this journal that were kept elsewhere. A journal that does not hold them was rolled back or rewritten, and
	// is refused.
	Known [][]byte

	// SegmentBytes is the size from which on a segment is finished and another begun. The default is 128 MiB. The last segment is
	// read in full when the journal is opened.
	SegmentBytes int64
	// BatchBytes bounds what one commit writes; the default is 1 MiB, the most 16 MiB. The journal holds four times as much in memory,
	// and makes Append wait rather than hold more.
	BatchBytes int
	// CheckpointEvery is the longest that a checkpoint follows behind the records, apart from what the disk takes to write it. The
	// default is half a second, and more than a second is refused.
	CheckpointEvery time.Duration
	// Retention is how long a record must be kept. The default is seven years of 366 days. Journal.Prune deletes nothing younger.
	Retention time.Duration

	// Witness, if not nil, is given each new checkpoint, to take it to a place that who holds this disk does not hold. It never
	// delays Append: it is called on a goroutine of its own, and if it is slow, it gets the latest checkpoint next and not each one in
	// between. Its context ends after ten seconds. An error is told to Trouble, and the latest checkpoint is tried again after a second.
	Witness func(ctx context.Context, c Checkpoint) error
	// Failed, if not nil, is called once, on a goroutine of its own, when the journal has closed itself.
	Failed func(err error)
	// Trouble, if not nil, is told what went wrong without closing the journal: a full disk, a witness that cannot be reached. It
	// must be safe for concurrent use, and quick.
	Trouble func(err error)
	// Lost, if not nil, is told how many records of Offer were in a commit that failed: nobody may be waiting for them. It must be quick.
	Lost func(records int)
	// Now is the clock of retention; the default is time.Now.
	Now func() time.Time

	// write, sync and remove stand in for the disk in tests of its faults.
	write  func(f *os.File, b []byte, at int64) (int, error)
	sync   func(f *os.File) error
	remove func(path string) error
}

func (o *Options) complete() error {
	if o.Signer == nil || o.Verifier == nil {
		return errors.New("journal: Options.Signer and Options.Verifier must be given; what is not signed cannot be proved")
	}
	if o.Signer.Name() != o.Verifier.Name() || o.Signer.KeyHash() != o.Verifier.KeyHash() {
		return fmt.Errorf("journal: Options.Verifier is of the key %s+%08x, Options.Signer is %s+%08x",
			o.Verifier.Name(), o.Verifier.KeyHash(), o.Signer.Name(), o.Signer.KeyHash())
	}
	setDefault(&o.SegmentBytes, 128<<20)
	setDefault(&o.BatchBytes, 1<<20)
	setDefault(&o.CheckpointEvery, 500*time.Millisecond)
	setDefault(&o.Retention, 7*366*24*time.Hour)
	switch {
	case o.SegmentBytes < headerSize:
		return fmt.Errorf("journal: Options.SegmentBytes is %d", o.SegmentBytes)
	case o.BatchBytes < 0 || o.BatchBytes > 16<<20:
		return fmt.Errorf("journal: Options.BatchBytes is %d, and must be from 0 to 16 MiB", o.BatchBytes)
	case o.CheckpointEvery < 0 || o.CheckpointEvery > time.Second:
		return fmt.Errorf("journal: Options.CheckpointEvery is %v, and must be from 0 to 1s", o.CheckpointEvery)
	case o.Retention < 0:
		return fmt.Errorf("journal: Options.Retention is %v", o.Retention)
	}
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	if o.Lost == nil {
		o.Lost = func(int) {}
	}
	if o.Trouble == nil {
		o.Trouble = func(error) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.write == nil {
		o.write = func(f *os.File, b []byte, at int64) (int, error) { return f.WriteAt(b, at) }
	}
	if o.sync == nil {
		o.sync = datasync
	}
	if o.remove == nil {
		o.remove = os.Remove
	}
	return nil
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Journal is an open journal. It is safe for concurrent use.
type Journal struct {
	dir  string
	opts Options
	id   journalID
	lock *os.File

	mu      sync.Mutex
	fill    *batch        // takes records
	gather  *time.Timer   // for what was offered, in case nobody else has fill committed
	room    chan struct{} // closed when fill is empty again; nil if nobody waits
	failure error
	closing bool

	wake   chan struct{}    // fill has records, or closing was set
	free   chan *batch      // batches to fill
	hashes chan *batch      // durable batches, on their way into the Merkle log
	sign   chan signRequest // at most the latest
	tell   chan Checkpoint  // at most the latest, for the witness
	failed chan struct{}    // closed when failure is set
	ended  chan struct{}    // closed when no record and no checkpoint will come any more
	done   chan struct{}    // closed when everything has ended

	segment    *segment // of the committer, as is spare
	spare      *batch
	durable    atomic.Uint64
	checkpoint atomic.Pointer[Checkpoint]
	published  chan struct{} // replaced under mu at each checkpoint
	refusing   atomic.Uint32 // why no record is taken: the reasons below, 0 if there are none

	syncing sync.Mutex
	synced  uint64 // what the file "synced" says; under syncing

	pruning sync.Mutex
	replace func(dir, name string, data []byte) error // replaceFile, for the checkpoint
	sealed  sealedSegments
}

// Reasons to refuse records. They are bits of one word, so that asking for all of them is one load.
const (
	shut     uint32 = 1 << iota // failure or closing is set
	tilesLag                    // the disk has no room for tiles
	noteLag                     // nor for checkpoints
)

// batch is what one commit writes: room for a block's header, then frames.
type batch struct {
	buf     []byte
	count   int
	offered int  // of them, those that came by Offer
	due     bool // those have waited long enough
	first   uint64
	out     *outcome
}

// outcome is how a commit ended. It outlives its batch, whose memory is used again.
type outcome struct {
	done  chan struct{}
	first uint64
	err   error
}

func (b *batch) reset() *batch {
	b.buf, b.count, b.offered, b.due, b.first = b.buf[:blockSize], 0, 0, false, 0
	b.out = &outcome{done: make(chan struct{})}
	return b
}

func (b *batch) end(err error) {
	b.out.first, b.out.err = b.first, err
	close(b.out.done)
}

// Pending is a record that was taken and waits to be durable.
type Pending struct {
	out *outcome
	nth int
}

// Append adds a record, and returns its index when it is durable. The record is copied.
//
// While as much as the journal holds in memory waits for the disk, Append waits as well. It returns early when ctx ends; the error
// then is ErrUndecided if the record had been taken, and otherwise the record is not in the journal.
func (j *Journal) Append(ctx context.Context, record []byte) (index uint64, err error) {
	p, err := j.Begin(ctx, record)
	if err != nil {
		return 0, err
	}
	return p.Wait(ctx)
}

// Begin is the first half of Append: the record is taken, and will be durable when the Pending that is returned says so. A caller can
// do something else in between. Records become durable in the order in which they were taken.
func (j *Journal) Begin(ctx context.Context, record []byte) (Pending, error) {
	if isOwn(record) {
		return Pending{}, ErrReserved
	}
	return j.begin(ctx, record)
}

func (j *Journal) begin(ctx context.Context, record []byte) (Pending, error) {
	if len(record) > MaxRecord {
		return Pending{}, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(record))
	}
	if err := ctx.Err(); err != nil {
		return Pending{}, fmt.Errorf("journal: the record was not taken: %w", err)
	}
	j.mu.Lock()
	for {
		if err := j.refusal(); err != nil {
			j.mu.Unlock()
			return Pending{}, err
		}
		if j.fits(record) {
			break
		}
		if j.room == nil {
			j.room = make(chan struct{})
		}
		room := j.room
		j.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return Pending{}, fmt.Errorf("journal: the disk is behind, and the record was not taken: %w", ctx.Err())
		}
		j.mu.Lock()
	}
	p := j.add(record)
	if j.fill.count-j.fill.offered == 1 {
		notify(j.wake)
	}
	j.mu.Unlock()
	return p, nil
}

// fits reports whether there is room for a record. It is called under mu, as is add.
func (j *Journal) fits(record []byte) bool {
	return j.fill.count == 0 || len(j.fill.buf)+frameSize+len(record) <= j.opts.BatchBytes
}

// add adds a record to the batch that is filled.
func (j *Journal) add(record []byte) Pending {
	b := j.fill
	p := Pending{out: b.out, nth: b.count}
	b.buf = appendFrame(b.buf, record)
	b.count++
	return p
}

// refusal says why no record is taken, or is nil. It is called under mu.
func (j *Journal) refusal() error {
	switch {
	case j.failure != nil:
		return fmt.Errorf("%w: %w", ErrFailed, j.failure)
	case j.closing:
		return ErrClosed
	case j.refusing.Load() != 0:
		return fmt.Errorf("%w: the Merkle log cannot follow", ErrFull)
	}
	return nil
}

// Wait returns the record's index when it is durable. An error that is no ErrUndecided says that it is not in the journal and will
// not be. Wait may be called more than once.
func (p Pending) Wait(ctx context.Context) (index uint64, err error) {
	if p.out == nil {
		return 0, errors.New("journal: no record was taken, since Begin returned an error")
	}
	select {
	case <-p.out.done:
	default:
		select {
		case <-p.out.done:
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", ErrUndecided, ctx.Err())
		}
	}
	if p.out.err != nil {
		return 0, p.out.err
	}
	return p.out.first + uint64(p.nth), nil
}

// notify leaves a note for a goroutine that may have one already.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// latest puts v in a channel of one, in place of what nobody took yet. There must be one sender only.
func latest[T any](c chan T, v T) {
	select {
	case <-c:
	default:
	}
	c <- v
}

// Err returns why the journal closed itself, or nil.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failure
}

// Size returns how many records are durable, deleted ones included.
func (j *Journal) Size() uint64 { return j.durable.Load() }

// Checkpoint returns the latest checkpoint.
func (j *Journal) Checkpoint() Checkpoint { return *j.checkpoint.Load() }

// fail closes the journal for good. The first failure is the one that is told.
func (j *Journal) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failure != nil {
		return
	}
	j.failure = err
	j.refusing.Or(shut)
	close(j.failed)
	j.giveRoom()
	notify(j.wake)
	go j.opts.Failed(err)
}

// giveRoom wakes who waits for room. It is called under mu.
func (j *Journal) giveRoom() {
	if j.room != nil {
		close(j.room)
		j.room = nil
	}
}

// Close makes durable what was taken, writes the last checkpoint, gives it to the witness, which has five seconds, and releases the
// files. A deletion that has begun ends first. It returns why the journal closed itself, if it did, or ErrFull if there was no room for
// the last checkpoint; opening the journal writes it then.
func (j *Journal) Close() error {
	j.mu.Lock()
	j.closing = true
	j.refusing.Or(shut)
	j.giveRoom()
	j.mu.Unlock()
	notify(j.wake)
	<-j.done
	if err := j.Err(); err != nil {
		return err
	}
	if covered, size := j.Checkpoint().Size, j.Size(); covered < size {
		return fmt.Errorf("%w: the last checkpoint is of %d records of %d", ErrFull, covered, size)
	}
	return nil
}
