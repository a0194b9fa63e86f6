package audit

import (
	"context"
	"time"
)

// EventName says what happened.
type EventName string

// The events.
const (
	// EventBreakerOpen, EventBreakerHalfOpen and EventBreakerClosed: a circuit breaker changed its state. The subject is the callee
	// and the method.
	EventBreakerOpen     EventName = "breaker-open"
	EventBreakerHalfOpen EventName = "breaker-half-open"
	EventBreakerClosed   EventName = "breaker-closed"
	// EventStoreDown and EventStoreUp: the store of rate limits that processes share stopped answering, and answered again.
	EventStoreDown EventName = "limit-store-down"
	EventStoreUp   EventName = "limit-store-up"
)

// Event is something that happened beside the calls. As of a [Record], a sink gets a pointer that is valid until its WriteEvent
// returns.
type Event struct {
	// Time is when it happened.
	Time time.Time
	// Name says what.
	Name EventName
	// Side and Service say who writes this, as in a Record.
	Side    Side
	Service string
	// Subject is what it happened to.
	Subject string
	// Detail is what else is known.
	Detail string
	// TraceID and SpanID are those of the call that it came to light in; empty where it was none, or without tracing.
	TraceID, SpanID string
}

// EventSink is a [Sink] that takes events too. A Sink that is none is given none.
type EventSink interface {
	Sink

	// WriteEvent is called from several goroutines, often from a call's own, which waits for it. An error goes to the sink error
	// handler.
	WriteEvent(ctx context.Context, e *Event) error
}
