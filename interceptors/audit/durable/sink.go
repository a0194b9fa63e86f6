// Package durable keeps audit records in a journal: a call that must be recorded is not answered before its record is on disk.
package durable

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// Options say how a Sink keeps records. The zero value is its default.
type Options struct {
	// MaxWaiting bounds how many calls may wait for the disk at once. When there are more, further records that must be durable are
	// refused with [journal.ErrBehind], and so are their calls, so that a disk that stands still cannot fill the memory. Outcomes are not
	// refused, since what they tell of has happened: there is one at most for each handler that ran. The default is 16,384.
	MaxWaiting int
	// MeterProvider makes the metrics grpcguard.audit.records.dropped and grpcguard.audit.records.waiting. The default is
	// otel.GetMeterProvider().
	MeterProvider metric.MeterProvider
}

// Sink keeps audit records in a [journal.Journal]. It is an [audit.ReadySink], and safe for concurrent use.
//
// A record whose class is Durable is in the journal, for good, when Write returns nil. One whose class is BestEffort is taken if there is
// room for it in memory, and is lost if the process is killed before the next commit, which begins within ten milliseconds; one for which
// there is no room is dropped and counted, and the count becomes a record as soon as there is room.
type Sink struct {
	journal    *journal.Journal
	maxWaiting int64
	waiting    atomic.Int64
	guard      uint64
	events     atomic.Uint64

	dropped  atomic.Uint64 // since they were reported last
	drops    metric.Int64Counter
	observed metric.Registration

	trouble trouble

	mu        sync.Mutex  // is not held while anything waits for the disk
	reporting *time.Timer // nil while nothing was dropped
	since     time.Time   // when the first was
	closing   bool
	writing   sync.Mutex // is held while a count of drops waits for the disk

	from atomic.Pointer[audit.Record] // who wrote first, in whose name drops are counted

	starting sync.Mutex       // is held while a start waits for the disk
	policies map[string]start // by guard
	lost     bool             // of some guards it is not known
}

var _ audit.ReadySink = (*Sink)(nil)

// Open opens, or creates, the journal in dir and returns a sink that writes to it. What the journal tells its Trouble becomes a record
// too.
func Open(dir string, journalOptions journal.Options, opts Options) (*Sink, error) {
	if opts.MaxWaiting == 0 {
		opts.MaxWaiting = 16 << 10
	}
	if opts.MaxWaiting < 1 {
		return nil, fmt.Errorf("durable: Options.MaxWaiting is %d", opts.MaxWaiting)
	}
	if opts.MeterProvider == nil {
		opts.MeterProvider = otel.GetMeterProvider()
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // It never fails.
	s := &Sink{maxWaiting: int64(opts.MaxWaiting), guard: binary.BigEndian.Uint64(random[:])}
	if err := s.measure(opts.MeterProvider); err != nil {
		return nil, fmt.Errorf("durable: %w", err)
	}
	troubles := s.troubles(&journalOptions)
	lost := journalOptions.Lost
	journalOptions.Lost = func(n int) {
		s.drop(uint64(n))
		if lost != nil {
			lost(n)
		}
	}
	j, err := journal.Open(dir, journalOptions)
	if err != nil {
		return nil, errors.Join(err, s.observed.Unregister())
	}
	s.journal = j
	s.policies, s.lost = readPolicies(j)
	troubles.Store(s)
	return s, nil
}

// Journal returns the journal, for reading, pruning and checkpoints.
func (s *Sink) Journal() *journal.Journal { return s.journal }

func (s *Sink) measure(provider metric.MeterProvider) (err error) {
	meter := provider.Meter("github.com/grpcguard/grpcguard/interceptors/audit/durable")
	if s.drops, err = meter.Int64Counter("grpcguard.audit.records.dropped", metric.WithUnit("{record}"),
		metric.WithDescription("Best-effort records that were dropped, since the journal was behind.")); err != nil {
		return err
	}
	waiting, err := meter.Int64ObservableGauge("grpcguard.audit.records.waiting", metric.WithUnit("{record}"),
		metric.WithDescription("Calls that wait until their record is durable."))
	if err != nil {
		return err
	}
	s.observed, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(waiting, s.waiting.Load())
		return nil
	}, waiting)
	return err
}

// encoded holds memory for encoded records: the journal copies them.
var encoded = sync.Pool{New: func() any { b := make([]byte, 0, 1<<10); return &b }}

// Write implements [audit.Sink].
func (s *Sink) Write(ctx context.Context, r *audit.Record) error {
	if s.from.Load() == nil {
		s.from.Store(&audit.Record{Side: r.Side, Service: r.Service, PolicyRevision: r.PolicyRevision, PolicyHash: r.PolicyHash})
	}
	if r.Event == audit.EventStarted {
		return s.started(ctx, r)
	}
	if r.Class == audit.BestEffort {
		s.offer(r)
		return nil
	}
	_, err := s.keep(ctx, r)
	return err
}

// keep writes a record and waits until it is durable.
func (s *Sink) keep(ctx context.Context, r *audit.Record) (uint64, error) {
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > s.maxWaiting && r.Type != audit.TypeOutcome {
		return 0, fmt.Errorf("%w: %d calls wait", journal.ErrBehind, s.maxWaiting)
	}
	buf := encoded.Get().(*[]byte) //nolint:forcetypeassert // The pool holds nothing else.
	*buf = audit.AppendRecord((*buf)[:0], r)
	p, err := s.journal.Begin(ctx, *buf)
	encoded.Put(buf)
	if err != nil {
		return 0, err
	}
	index, err := p.Wait(ctx)
	if errors.Is(err, journal.ErrUndecided) {
		return 0, fmt.Errorf("%w: %w", audit.ErrUndecided, err)
	}
	return index, err
}

// offer writes a record that nobody waits for.
func (s *Sink) offer(r *audit.Record) {
	buf := encoded.Get().(*[]byte) //nolint:forcetypeassert // The pool holds nothing else.
	*buf = audit.AppendRecord((*buf)[:0], r)
	_, err := s.journal.Offer(*buf)
	encoded.Put(buf)
	if err != nil {
		s.drop(max(r.Count, 1)) // what it counted is lost with it
	}
}

func (s *Sink) id() audit.ID { return audit.ID{Guard: s.guard, Call: s.events.Add(1)} }

// Ready implements [audit.ReadySink].
func (s *Sink) Ready() error {
	if s.waiting.Load() >= s.maxWaiting {
		return journal.ErrBehind
	}
	return s.journal.Ready()
}

// Dropped returns how many records were dropped and are not reported in a record yet.
func (s *Sink) Dropped() uint64 { return s.dropped.Load() }

// Close reports what was dropped last, and closes the journal. It is for after the guards are closed.
func (s *Sink) Close() error {
	s.mu.Lock()
	s.closing = true
	if s.reporting != nil {
		s.reporting.Stop()
	}
	s.mu.Unlock()
	s.report()
	err := errors.Join(s.observed.Unregister(), s.journal.Close())
	if n := s.dropped.Load(); n > 0 {
		err = errors.Join(err, fmt.Errorf("durable: %d records were dropped, and no record says so", n))
	}
	return err
}
