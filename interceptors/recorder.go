package interceptors

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/policy"
)

// recorder is how one guard writes records: who it is, and where they go.
type recorder struct {
	sink    audit.Sink
	side    audit.Side
	service string
	policy  *policy.Policy
	onError func(error)
	// discards says that the sink keeps nothing, so that a call need not be described to it.
	discards bool
	// class is that of calls whose rule does not say.
	class audit.Class

	guard   uint64        // names the guard in the IDs of records
	calls   atomic.Uint64 // counts its calls and events
	stopped atomic.Bool
}

func newRecorder(sink audit.Sink, side audit.Side, service string, p *policy.Policy, cfg config) *recorder {
	var random [8]byte
	_, _ = rand.Read(random[:]) // It never fails.
	return &recorder{
		sink: sink, discards: sink == audit.Discard, side: side, service: service, policy: p, onError: cfg.onSinkError, class: cfg.recordClass,
		guard: binary.BigEndian.Uint64(random[:]),
	}
}

// next returns the ID of a new call or event.
func (r *recorder) next() audit.ID { return audit.ID{Guard: r.guard, Call: r.calls.Add(1)} }

// event makes the record of something that happened beside calls.
func (r *recorder) event(at time.Time, name audit.EventName) audit.Record {
	return audit.Record{
		ID: r.next(), Type: audit.TypeEvent, Class: audit.BestEffort, Time: at, Side: r.side, Service: r.service, Event: name,
		PolicyRevision: r.policy.Revision(), PolicyHash: r.policy.Hash(),
	}
}

// start records that the guard was made. A guard that cannot record does not start.
func (r *recorder) start() error {
	started := r.event(time.Now(), audit.EventStarted)
	started.Class, started.Subject = audit.Durable, r.policy.Hash()
	return r.write(context.Background(), &started)
}

// stopWaits is how long a sink may take for the record of the end. A disk that stands still must not keep a process from ending.
const stopWaits = 5 * time.Second

// stop records, once, that the guard was closed.
func (r *recorder) stop() error {
	if r.stopped.Swap(true) {
		return nil
	}
	stopped := r.event(time.Now(), audit.EventStopped)
	stopped.Class, stopped.Subject = audit.Durable, r.policy.Hash()
	ctx, cancel := context.WithTimeout(context.Background(), stopWaits)
	defer cancel()
	return r.give(ctx, &stopped)
}

// tell records an event, on the span too of the call in which it came to light.
func (r *recorder) tell(ctx context.Context, at time.Time, name audit.EventName, subject, detail string) {
	span := trace.SpanFromContext(ctx)
	if span.IsRecording() {
		span.AddEvent("grpcguard."+string(name), trace.WithTimestamp(at),
			trace.WithAttributes(attribute.String("grpcguard.subject", subject), attribute.String("grpcguard.detail", detail)))
	}
	event := r.event(at, name)
	event.Subject, event.Detail = subject, detail
	if sc := span.SpanContext(); sc.IsValid() {
		event.TraceID, event.SpanID = sc.TraceID().String(), sc.SpanID().String()
	}
	r.try(ctx, &event)
}

// try writes a record that nothing depends on. What goes wrong is told to the error handler.
func (r *recorder) try(ctx context.Context, record *audit.Record) {
	if err := r.write(ctx, record); err != nil {
		r.onError(err)
	}
}

// write gives a record to the sink, which may take as long as it likes: what the record tells of may be over, which is often why.
func (r *recorder) write(ctx context.Context, record *audit.Record) error {
	return r.give(context.WithoutCancel(ctx), record)
}

// give gives a record to the sink. A panic of the sink is an error: not all records are written where a call's own recovery is. Whether the
// record is kept nobody knows then.
func (r *recorder) give(ctx context.Context, record *audit.Record) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: the sink panicked: %v", audit.ErrUndecided, p)
		}
	}()
	return r.sink.Write(ctx, record)
}
