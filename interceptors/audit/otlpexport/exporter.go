package otlpexport

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"

	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// Exporter sends one journal's records to one collector. Its methods are safe for concurrent use.
type Exporter struct {
	dir      string
	verifier note.Verifier
	conn     grpc.ClientConnInterface
	client   collogs.LogsServiceClient
	opts     Options
	metrics  metrics
	resource *resource.Resource
	scope    *common.InstrumentationScope

	closing sync.Once
	running sync.Mutex
	// What follows is of Run and Drain.
	cursor  *cursor
	saved   uint64 // what the cursor says
	records *journal.Follower
	covered journal.Checkpoint
	waiting []entry
	bytes   int // of what waits
	most    int // records in the next request
	failed  int // requests in a row

	next atomic.Uint64 // the first record that was not confirmed
}

// New returns an Exporter of the journal in the folder dir, whose checkpoints verifier verifies, to the collector at the other end of
// conn. The journal may be open, here or elsewhere. Nothing is sent before Run or Drain. The journal and the cursor are read: a cursor
// that is in use is refused with ErrLocked, and one of another journal, or one that is ahead of the journal, with an error that says so.
func New(dir string, verifier note.Verifier, conn grpc.ClientConnInterface, opts Options) (*Exporter, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	covered, err := journal.ReadCheckpoint(dir, verifier)
	if err != nil {
		return nil, fmt.Errorf("otlpexport: %w", err)
	}
	held, err := openCursor(opts.Cursor)
	if err != nil {
		return nil, err
	}
	e := &Exporter{
		dir: dir, verifier: verifier, conn: conn, client: collogs.NewLogsServiceClient(conn), opts: opts,
		resource: resourceOf(verifier.Name(), &opts), scope: &common.InstrumentationScope{Name: scope},
		cursor: held, covered: covered, most: opts.BatchRecords,
	}
	if err := e.begin(); err != nil {
		return nil, errors.Join(err, held.close())
	}
	if e.metrics, err = newMetrics(opts.MeterProvider, e.behind); err != nil {
		return nil, errors.Join(err, held.close())
	}
	return e, nil
}

// begin finds the first record to send.
func (e *Exporter) begin() error {
	s, ok, err := e.cursor.load()
	if err != nil {
		return err
	}
	if ok {
		if err := e.check(s); err != nil {
			return err
		}
	} else {
		if s.next, err = e.firstKept(); err != nil {
			return err
		}
		// It is written now: of what is deleted from here on, it can be told that it was never sent.
		if err := e.cursor.save(state{e.verifier.Name(), s.next, e.covered.Note}); err != nil {
			return err
		}
	}
	e.saved = s.next
	e.next.Store(s.next)
	e.records = journal.Follow(e.dir, s.next)
	return nil
}

// check compares a cursor with the journal.
func (e *Exporter) check(s state) error {
	path := e.opts.Cursor
	switch {
	case s.journal != e.verifier.Name():
		return fmt.Errorf("otlpexport: %s is the cursor of the journal %q, and this one is %q", path, s.journal, e.verifier.Name())
	case s.next > e.covered.Size:
		return fmt.Errorf("otlpexport: %s says that %d records were sent, and the journal in %s has %d: it is another one, or was rolled back",
			path, s.next, e.dir, e.covered.Size)
	}
	if _, err := journal.ProveConsistency(e.dir, e.verifier, s.checkpoint); err != nil {
		return fmt.Errorf("otlpexport: %s holds a checkpoint that the journal in %s does not lead to: it is another one, or was rolled back: %w",
			path, e.dir, err)
	}
	return nil
}

// firstKept returns the index of the first record that was not deleted.
func (e *Exporter) firstKept() (uint64, error) {
	f := journal.Follow(e.dir, 0)
	defer f.Close()
	for _, err := range f.Records(min(e.covered.Size, 1)) {
		if deleted, ok := errors.AsType[*journal.DeletedError](err); ok {
			return deleted.Before, nil
		}
		if err != nil {
			return 0, fmt.Errorf("otlpexport: %w", err)
		}
	}
	return 0, nil
}

// behind returns how many records wait to be sent.
func (e *Exporter) behind() (int64, error) {
	c, err := journal.ReadCheckpoint(e.dir, e.verifier)
	if err != nil {
		return 0, fmt.Errorf("otlpexport: %w", err)
	}
	return max(int64(c.Size)-int64(e.next.Load()), 0), nil
}

// Next returns the index of the first record that the collector has not confirmed.
func (e *Exporter) Next() uint64 { return e.next.Load() }

// Close releases the cursor, after Run and Drain have ended.
func (e *Exporter) Close() (err error) {
	e.closing.Do(func() {
		e.running.Lock() // for good
		err = errors.Join(e.metrics.close(), e.cursor.close())
	})
	return err
}

var errRunning = errors.New("otlpexport: the exporter is running already, or closed")

// Run sends what there is and what comes, until ctx ends; it then returns nil. A request that is under way when ctx ends is given
// two more seconds, so that it need not be sent again. What goes wrong is told to Options.Trouble and tried again, after a pause that
// grows from one to thirty seconds, or that the collector asks for.
func (e *Exporter) Run(ctx context.Context) error {
	if !e.running.TryLock() {
		return errRunning
	}
	defer e.running.Unlock()
	defer e.records.Close()
	for ctx.Err() == nil {
		if e.try(ctx) {
			sleep(ctx, e.opts.Every)
		}
	}
	return nil
}

// Drain sends what a checkpoint covers when it is called, and returns. It is for programs that end, after Journal.Close, and for those
// that only export now and then. Trouble is treated as Run does, so Drain returns an error only if ctx ends before all is sent.
func (e *Exporter) Drain(ctx context.Context) error {
	if !e.running.TryLock() {
		return errRunning
	}
	defer e.running.Unlock()
	defer e.records.Close()
	c, err := journal.ReadCheckpoint(e.dir, e.verifier)
	if err != nil {
		return fmt.Errorf("otlpexport: %w", err)
	}
	for e.saved < c.Size {
		if ctx.Err() != nil {
			return fmt.Errorf("otlpexport: records %d to %d are not sent: %w", e.next.Load(), c.Size-1, ctx.Err())
		}
		e.try(ctx)
	}
	return nil
}

// try takes one step, and waits as long as is due after a failure. It reports whether there was nothing to do.
func (e *Exporter) try(ctx context.Context) (idle bool) {
	idle, err := e.step(ctx)
	if err == nil {
		e.failed = 0
		return idle
	}
	if errors.Is(err, errHalved) || ctx.Err() != nil {
		return false
	}
	e.opts.Trouble(err)
	sleep(ctx, e.pause(err))
	e.failed++
	return false
}

// step sends one request, and writes the cursor. Where that could not be done, it is done first.
func (e *Exporter) step(ctx context.Context) (idle bool, err error) {
	if err := e.save(); err != nil {
		return false, err
	}
	if err := e.fill(); err != nil || len(e.waiting) == 0 {
		return true, err
	}
	n := e.request()
	if err := e.send(ctx, e.waiting[:n]); err != nil {
		return false, err
	}
	for _, sent := range e.waiting[:n] {
		e.bytes -= sent.size
	}
	e.next.Store(e.waiting[n-1].index + 1)
	e.waiting = slices.Delete(e.waiting, 0, n)
	return false, e.save()
}

// save writes the cursor if it is behind.
func (e *Exporter) save() error {
	next := e.next.Load()
	if e.saved == next {
		return nil
	}
	if err := e.opts.save(e.cursor, state{e.verifier.Name(), next, e.covered.Note}); err != nil {
		return err
	}
	e.saved = next
	return nil
}

// fill reads records until a request is full or there are no more.
func (e *Exporter) fill() error {
	if e.records.Next() >= e.covered.Size {
		c, err := journal.ReadCheckpoint(e.dir, e.verifier)
		switch {
		case err != nil:
			return e.unlessWaiting(err)
		case c.Size < e.covered.Size:
			return e.unlessWaiting(fmt.Errorf("the journal in %s had %d records, and has %d: it was rolled back", e.dir, e.covered.Size, c.Size))
		}
		e.covered = c
	}
	if e.full() {
		return nil
	}
	for r, err := range e.records.Records(e.covered.Size) {
		if err != nil {
			return e.unlessWaiting(err)
		}
		e.add(r)
		if e.full() {
			break
		}
	}
	return nil
}

// unlessWaiting puts an error of reading off until what was read before is sent.
func (e *Exporter) unlessWaiting(err error) error {
	if len(e.waiting) > 0 {
		return nil
	}
	if deleted, ok := errors.AsType[*journal.DeletedError](err); ok {
		// They cannot be sent any more. The others can.
		e.records.Skip(deleted.Before)
		e.next.Store(deleted.Before)
		e.metrics.lost.Add(context.Background(), int64(deleted.Before-deleted.From))
	}
	return fmt.Errorf("otlpexport: %w", err)
}

func (e *Exporter) full() bool {
	return len(e.waiting) >= e.opts.BatchRecords || e.bytes >= e.opts.BatchBytes
}

func (e *Exporter) add(r journal.Record) {
	log := logOf(r, time.Now())
	size := sizeOf(log)
	e.waiting = append(e.waiting, entry{log, r.Index, size})
	e.bytes += size
}

// request returns how many of the records that wait go into one request.
func (e *Exporter) request() (n int) {
	bytes := 0
	for _, w := range e.waiting {
		bytes += w.size
		if n == e.most || n > 0 && bytes > e.opts.BatchBytes {
			break
		}
		n++
	}
	return n
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
